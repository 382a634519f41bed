"""Your own faces, any number of points: one CNN-6 at 64 x 64, then another on upright crops, by the stronger recipe.

    wing-jax train configs/own.py --name mine --data.name pts --data.root faces/train --data.scheme mine.toml
    wing-jax evaluate runs/mine/model --data pts --root faces/test --scheme mine.toml

`--data.name` is pts (a folder of .pts or .ljson), imglab, coco or csv (a file each). docs/own_data.md goes through it
step by step. The networks are narrow, for some hundred or thousand faces; with more of them take the widths of
configs/w300.py.
"""

from wing_jax.config import (
    Config,
    DataConfig,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    PerturbConfig,
    SecondStageConfig,
    StageConfig,
)

optimizer = OptimizerConfig(
    name="adamw",
    learning_rate=1e-3,
    final_learning_rate=1e-5,
    decay="cosine",
    weight_decay=5e-2,
    warmup=100,  # steps
    ema=0.99,
)
model = ModelConfig(
    params={"channels": (16, 32, 64, 128, 256), "hidden": 512, "norm": "batch"}, output_bias="mean_shape"
)
loss = LossConfig(
    name="wing", reference_size=64, params={"width": 10.0, "epsilon": 2.0}, reduction="mean"
)  # pixels of 64

config = Config(
    name="own",
    data=DataConfig(name="pts"),
    stage1=StageConfig(
        input_size=64,  # pixels
        margin=1.4,  # crop side per larger side of the face box
        model=model,
        loss=loss,
        perturb=PerturbConfig(rotation=20.0, translation=0.06, scale=0.1, colour=0.2, occlusion=0.2),
        optimizer=optimizer,
        batch_size=32,
        steps=4_000,
        evaluate_every=200,
        centre="shape",
    ),
    stage2=SecondStageConfig(
        input_size=64,  # pixels
        margin=1.4,  # crop side per larger side of the mean shape
        model=model,
        loss=loss,
        perturb=PerturbConfig(rotation=10.0, translation=0.04, scale=0.06, colour=0.2, occlusion=0.2),
        optimizer=optimizer,
        batch_size=32,
        steps=4_000,
        evaluate_every=200,
        crops="through",
        draws=8,
    ),
)

"""300-W, 68 points: CNN-6 at 64 x 64, then a voting network at 128 x 128, by the stronger recipe.

    wing-jax train configs/w300.py
    wing-jax evaluate runs/w300/model --data w300

Expect about 4.2 % after stage 1 and 3.24 % after stage 2 on 300-W common (NME by inter-ocular distance, landmark boxes)
from the 2,012 training photos at hand, 3.15 % with `--flip`; 5 and 58 minutes on two CPU cores (RESULTS.md). Stage 1 is
short and perturbed strongly, for it need only find where the face is. (The figures are of a training that still had the
three photos which are left out below.)
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
    warmup=200,  # steps
    ema=0.999,
)

config = Config(
    name="w300",
    data=DataConfig(
        name="w300",
        without=("lfpw/image_0828", "lfpw/image_0215", "lfpw/image_0862"),  # are in the test set as well
    ),
    stage1=StageConfig(
        input_size=64,  # pixels
        margin=1.2,  # crop side per larger side of the landmarks' box
        model=ModelConfig(params={"channels": (32, 64, 128, 256, 512), "norm": "batch"}, output_bias="mean_shape"),
        loss=LossConfig(
            name="wing", reference_size=64, params={"width": 10.0, "epsilon": 2.0}, reduction="mean"
        ),  # pixels of 64
        perturb=PerturbConfig(rotation=25.0, translation=0.06, scale=0.1, colour=0.3, occlusion=0.3),
        optimizer=optimizer,
        batch_size=32,
        steps=4_000,
        evaluate_every=500,
    ),
    stage2=SecondStageConfig(
        input_size=128,  # pixels
        margin=1.12,  # crop side per larger side of the mean shape
        model=ModelConfig(
            name="voting",
            params={"channels": (16, 32, 64, 128, 256, 512), "hidden": 64, "norm": "batch", "dropout": 0.3},
            output_bias="mean_shape",
        ),
        loss=LossConfig(
            name="wing", reference_size=128, params={"width": 15.0, "epsilon": 3.0}, reduction="mean"
        ),  # pixels of 128
        perturb=PerturbConfig(
            rotation=15.0, translation=0.05, scale=0.1, stretch=0.1, colour=0.4, noise=8.0, occlusion=0.4
        ),
        optimizer=optimizer,
        batch_size=32,
        steps=20_000,
        evaluate_every=1_000,
        crops="through",
        draws=16,
    ),
)

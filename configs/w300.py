"""300-W, 68 points: CNN-6 at 64 x 64, then a narrow CNN-7 at 128 x 128, by the stronger recipe.

    wing-jax train configs/w300.py
    wing-jax evaluate runs/w300/model --data w300

Expect about 3.85 % after stage 1 and 3.64 % after stage 2 on 300-W common (NME by inter-ocular distance, landmark
boxes) from the 2,012 training photos at hand; 14 and 22 minutes on two CPU cores (RESULTS.md).
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
    data=DataConfig(name="w300"),
    stage1=StageConfig(
        input_size=64,  # pixels
        margin=1.2,  # crop side per larger side of the landmarks' box
        model=ModelConfig(channels=(32, 64, 128, 256, 512), norm="batch", output_bias="mean_shape"),
        loss=LossConfig(name="wing", reference_size=64, width=10.0, epsilon=2.0, reduction="mean"),  # pixels of 64
        perturb=PerturbConfig(rotation=20.0, translation=0.05, scale=0.08, colour=0.2, occlusion=0.2),
        optimizer=optimizer,
        batch_size=32,
        steps=8_000,
        evaluate_every=500,
    ),
    stage2=SecondStageConfig(
        input_size=128,  # pixels
        margin=1.12,  # crop side per larger side of the mean shape
        model=ModelConfig(channels=(16, 32, 64, 128, 256, 512), norm="batch", dropout=0.3, output_bias="mean_shape"),
        loss=LossConfig(name="wing", reference_size=128, width=15.0, epsilon=3.0, reduction="mean"),  # pixels of 128
        perturb=PerturbConfig(rotation=12.0, translation=0.05, scale=0.08, stretch=0.08, colour=0.3, occlusion=0.3),
        optimizer=optimizer,
        batch_size=32,
        steps=7_000,
        evaluate_every=500,
        crops="through",
        draws=8,
    ),
)

"""The synthetic faces, 68 points: both stages small enough to train in minutes on two CPU cores. `make demo` runs it.

    wing-jax train configs/synthetic.py

A light CNN-6 and CNN-7 (a quarter to a half of the paper's channels) by the stronger recipe, with HSM over the
long-tailed yaw of the synthetic faces. Expect an NME of about 3.6 % of the box size after stage 1 and 3.0 % after
stage 2 on unseen faces, a third of them half or full profiles; two minutes on two CPU cores (RESULTS.md).
"""

from wing_jax.config import (
    BalanceConfig,
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
    learning_rate=2e-3,
    final_learning_rate=2e-5,
    decay="cosine",
    weight_decay=1e-2,
    warmup=50,  # steps
    ema=0.99,
)

config = Config(
    name="synthetic",
    data=DataConfig(name="synthetic", train_faces=1_600),
    balance=BalanceConfig(method="hsm", bins=9, cap=10),
    stage1=StageConfig(
        input_size=64,  # pixels
        margin=1.3,  # crop side per larger side of the landmarks' box
        model=ModelConfig(
            params={"channels": (16, 32, 64, 128, 256), "hidden": 512, "norm": "batch"}, output_bias="mean_shape"
        ),
        loss=LossConfig(
            name="wing", reference_size=64, params={"width": 10.0, "epsilon": 2.0}, reduction="mean"
        ),  # pixels of 64
        perturb=PerturbConfig(rotation=30.0, translation=0.06, scale=0.1, colour=0.2),
        optimizer=optimizer,
        batch_size=32,
        steps=700,
        evaluate_every=100,
    ),
    stage2=SecondStageConfig(
        input_size=128,  # pixels
        margin=1.25,  # crop side per larger side of the mean shape
        model=ModelConfig(
            params={"channels": (8, 16, 32, 64, 128, 256), "hidden": 512, "norm": "batch"}, output_bias="mean_shape"
        ),
        loss=LossConfig(
            name="wing", reference_size=128, params={"width": 15.0, "epsilon": 3.0}, reduction="mean"
        ),  # pixels of 128
        perturb=PerturbConfig(rotation=10.0, translation=0.04, scale=0.06, colour=0.2),
        optimizer=optimizer,
        batch_size=32,
        steps=500,
        evaluate_every=100,
        crops="through",
        draws=4,
    ),
)

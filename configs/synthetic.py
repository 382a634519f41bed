"""Synthetic faces, 68 points: both stages small enough to train in minutes on two CPU cores. `make demo` runs it.

    wing-jax train synthetic

A light CNN-6 and CNN-7 (a quarter to a half of the paper's channels) with the stronger recipe, and with HSM over the
long-tailed yaw of the synthetic faces. Expect an NME of about 3.6 % of the box size after stage 1 and 3.0 % after
stage 2 on unseen faces, a third of them half or full profiles, in two minutes on two CPU cores (RESULTS.md).
"""

from wing_jax.config import AugmentConfig, BalanceConfig, DataConfig
from wing_jax.presets import strong_recipe
from wing_jax.presets.recipes import adamw, plain

config = strong_recipe(
    name="synthetic",
    data=DataConfig(name="synthetic", train_faces=1_600),
    balance=BalanceConfig(method="hsm", bins=9, cap=10),
    optimizer=adamw(learning_rate=2e-3, weight_decay=1e-2, warmup=50, ema=0.99),  # for few steps
    stage1=dict(
        margin=1.3,  # crop side per larger side of the landmarks' box
        model=plain((16, 32, 64, 128, 256), hidden=512),
        augment=AugmentConfig(rotation=30.0, translation=0.06, scale=0.1, color=0.2),
        steps=700,
        evaluate_every=100,
    ),
    stage2=dict(
        margin=1.25,  # crop side per larger side of the mean shape
        model=plain((8, 16, 32, 64, 128, 256), hidden=512),
        augment=AugmentConfig(rotation=10.0, translation=0.04, scale=0.06, color=0.2),
        steps=500,
        evaluate_every=100,
        crops_per_face=4,
    ),
)

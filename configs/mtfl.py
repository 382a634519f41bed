"""MTFL, 5 points: 10,000 training faces, tested on 2,995 of AFLW. CNN-6, then a voting network, both at 64 x 64; HSM.

    wing-jax train mtfl
    wing-jax evaluate runs/mtfl/model --data mtfl

The boxes of the training faces follow a rule (`wing_jax.data.readers.mtfl`); the augmentation covers the measured
difference between that rule and the published test boxes. The second stage has no higher resolution, because the test
faces have hardly more pixels, but its crops show every face upright and aligned, whatever its box. Expect about 7.2 %
of the eye distance after stage 1 and 5.6 % after stage 2, in 21 minutes on two CPU cores (RESULTS.md). The same without
HSM:

    wing-jax train mtfl --name mtfl-without-hsm --balance.method none

The result is version 1 of the pretrained model `mtfl`; version 2 is that of mtfl_from_w300.py.
"""

from wing_jax.config import AugmentConfig, BalanceConfig, DataConfig
from wing_jax.presets import strong_recipe
from wing_jax.presets.recipes import voting

config = strong_recipe(
    name="mtfl",
    data=DataConfig(name="mtfl"),
    balance=BalanceConfig(method="hsm", bins=9, cap=20),
    stage1=dict(
        margin=1.1,  # crop side per side of the face box
        center="shape",  # the faces are right of and below the centers of their boxes
        augment=AugmentConfig(rotation=30.0, translation=0.12, scale=0.2, color=0.2, occlusion=0.2),
        steps=4_000,
        evaluate_every=500,
    ),
    stage2=dict(
        input_size=64,  # pixels
        margin=1.9,  # crop side per larger side of the mean shape
        model=voting((32, 64, 128, 256, 512)),
        augment=AugmentConfig(
            rotation=15.0, translation=0.05, scale=0.12, aspect=0.1, color=0.4, noise=8.0, occlusion=0.4
        ),
        steps=8_000,
        evaluate_every=1_000,
        crops_per_face=8,
    ),
)

"""Your own faces, any number of points: one CNN-6 at 64 x 64, then another on upright crops, with the stronger recipe.

    wing-jax train own --name mine --data pts --root faces/train --scheme mine.toml
    wing-jax evaluate runs/mine/model --data pts --root faces/test --scheme mine.toml

`--data` is pts (a folder of .pts or .ljson files), imglab, coco or csv (a file each). docs/how-to/own-faces.md explains
the steps. The networks are narrow, for hundreds to thousands of faces; with more, use the widths of configs/w300.py.
"""

from wing_jax.config import AugmentConfig, DataConfig
from wing_jax.presets import strong_recipe
from wing_jax.presets.recipes import adamw, plain

network = plain((16, 32, 64, 128, 256), hidden=512)

config = strong_recipe(
    name="own",
    data=DataConfig(name="pts"),
    optimizer=adamw(warmup=100, ema=0.99),  # for few steps
    stage1=dict(
        margin=1.4,  # crop side per larger side of the face box
        center="shape",
        model=network,
        augment=AugmentConfig(rotation=20.0, translation=0.06, scale=0.1, color=0.2, occlusion=0.2),
        steps=4_000,
        evaluate_every=200,
    ),
    stage2=dict(
        input_size=64,  # pixels
        margin=1.4,  # crop side per larger side of the mean shape
        model=network,
        augment=AugmentConfig(rotation=10.0, translation=0.04, scale=0.06, color=0.2, occlusion=0.2),
        steps=4_000,
        evaluate_every=200,
        crops_per_face=8,
    ),
)

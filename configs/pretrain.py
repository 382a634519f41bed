"""The networks of `w300`, trained on synthetic faces with 68 points, to start from with few faces.

    wing-jax data render synthetic-faces
    wing-jax train pretrain
    wing-jax train w300 --start runs/pretrain/model

The faces are rendered once, 20,000 of them, with the points of the jaw along the visible outline as in 300-W.
docs/how-to/start-from-a-model.md explains `--start`.
"""

from wing_jax.config import AugmentConfig, DataConfig
from wing_jax.presets import strong_recipe
from wing_jax.presets.recipes import voting

config = strong_recipe(
    name="pretrain",
    data=DataConfig(name="packed", root="synthetic-faces"),
    stage1=dict(
        margin=1.2,
        augment=AugmentConfig(rotation=25.0, translation=0.06, scale=0.1, color=0.3, occlusion=0.3),
        steps=4_000,
        evaluate_every=500,
    ),
    stage2=dict(
        margin=1.12,
        model=voting((16, 32, 64, 128, 256, 512)),
        augment=AugmentConfig(
            rotation=15.0, translation=0.05, scale=0.1, aspect=0.1, color=0.4, noise=8.0, occlusion=0.4
        ),
        steps=8_000,
        evaluate_every=1_000,
        crops_per_face=2,
    ),
)

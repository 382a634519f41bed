"""The networks of `w300`, trained on synthetic faces with 68 points, to start from with few faces.

    wing-jax data render synthetic-faces
    wing-jax train pretrain
    wing-jax train w300 --start runs/pretrain/model

The faces are rendered once, with the points of the jaw along the visible outline as in 300-W. All other settings are
those of `w300`. docs/how-to/start-from-a-model.md explains `--start`.
"""

import dataclasses

from wing_jax import presets
from wing_jax.config import DataConfig

w300 = presets.load("w300")
assert w300.stage2 is not None

config = dataclasses.replace(
    w300,
    name="pretrain",
    data=DataConfig(name="packed", root="synthetic-faces"),
    stage2=dataclasses.replace(w300.stage2, steps=8_000, crops_per_face=2),  # ten times as many faces as 300-W
)

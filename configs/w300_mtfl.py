"""300-W and MTFL, 68 points: the preset `w300`, also trained on its own predictions for MTFL.

    wing-jax train w300
    wing-jax data label /path/to/mtfl runs/w300/model runs/mtfl-68
    wing-jax train w300_mtfl
    wing-jax evaluate runs/w300_mtfl/model --data w300

MTFL annotates five points. The labels are the teacher's predictions for faces where they match those five points; the
student sees the faces augmented. An epoch contains each face of 300-W four times, so that they are two fifths of it.
Instead of the first line, the teacher may be the pretrained model `w300`. On the held-out faces of 300-W, the student
is not better than its teacher (3.44 and 3.43 %): RESULTS.md.
"""

import dataclasses

from wing_jax import presets
from wing_jax.config import DataConfig

base = presets.load("w300")
assert base.stage2 is not None

config = dataclasses.replace(
    base,
    name="w300_mtfl",
    data=dataclasses.replace(base.data, copies=4),
    extra_data=(DataConfig(name="packed", root="runs/mtfl-68"),),
    stage2=dataclasses.replace(base.stage2, steps=24_000, crops_per_face=8),
)

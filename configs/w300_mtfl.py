"""300-W and MTFL, 68 points: the preset `w300` again, with its own answers on MTFL's faces to learn from.

    wing-jax train w300
    wing-jax data label /path/to/mtfl runs/w300/model runs/mtfl-68
    wing-jax train w300_mtfl
    wing-jax evaluate runs/w300_mtfl/model --data w300

MTFL annotates five points; the labels are the teacher's where it finds those five again, and the student sees them
perturbed. An epoch holds each of 300-W's own faces four times, so that they are two fifths of it. The teacher may be
`w300`, the pretrained model, instead of the first line. On 300-W's held-out faces the student came to what its
teacher has (3.44 and 3.43 %) and no further: RESULTS.md.
"""

import dataclasses

from wing_jax import presets
from wing_jax.config import DataConfig

alone = presets.load("w300")
assert alone.stage2 is not None

config = dataclasses.replace(
    alone,
    name="w300_mtfl",
    data=dataclasses.replace(alone.data, copies=4),
    more=(DataConfig(name="packed", root="runs/mtfl-68"),),
    stage2=dataclasses.replace(alone.stage2, steps=24_000, draws=8),
)

"""300-W and MTFL, 68 points: `configs/w300.py` again, with its own answers on MTFL's faces to learn from.

    wing-jax train configs/w300.py
    wing-jax data label /path/to/mtfl runs/w300/model runs/mtfl-68
    wing-jax train configs/w300_mtfl.py
    wing-jax evaluate runs/w300_mtfl/model --data w300

MTFL annotates five points; the labels are the teacher's where it finds those five again, and the student sees them
perturbed. An epoch holds each of 300-W's own faces four times, so that they are two fifths of it. The teacher may be
`w300`, the model in the box, instead of the first line. On 300-W's held-out faces the student came to what its
teacher has (3.44 and 3.43 %) and no further: RESULTS.md.
"""

import dataclasses
from pathlib import Path

from wing_jax.config import DataConfig, load_config

alone = load_config(Path(__file__).with_name("w300.py"))
assert alone.stage2 is not None

config = dataclasses.replace(
    alone,
    name="w300_mtfl",
    data=dataclasses.replace(alone.data, copies=4),
    more=(DataConfig(name="packed", root="runs/mtfl-68"),),
    stage2=dataclasses.replace(alone.stage2, steps=24_000, draws=8),
)

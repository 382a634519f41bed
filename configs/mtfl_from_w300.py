"""MTFL, 5 points: the networks of `w300`, trained on; the result is the pretrained model `mtfl`.

    wing-jax train mtfl_from_w300
    wing-jax evaluate runs/mtfl_from_w300/model --data mtfl

The model `w300` was trained on faces of 300-W and, with pseudo-labels, on those of MTFL; no face of MTFL's test set was
among them. Everything else is as in the preset `mtfl`, with crops of 128 pixels in the second stage. Expect about 6.3 %
of the eye distance after stage 1 and 5.1 % after stage 2, in 44 minutes on two CPU cores without AVX-512 (RESULTS.md).
"""

import dataclasses

from wing_jax import presets
from wing_jax.presets.recipes import adamw, voting, wing

mtfl = presets.load("mtfl")
assert mtfl.stage2 is not None

config = dataclasses.replace(
    mtfl,
    name="mtfl_from_w300",
    start="w300",
    stage1=dataclasses.replace(mtfl.stage1, optimizer=adamw(learning_rate=5e-4)),
    stage2=dataclasses.replace(
        mtfl.stage2,
        input_size=128,  # pixels
        model=voting((16, 32, 64, 128, 256, 512), grid=16, residual=2),  # cells of 8 pixels, as in `w300`
        loss=wing(128, reduction="mean"),
        optimizer=adamw(learning_rate=5e-4),
    ),
)

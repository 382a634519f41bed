"""300-W and pseudo-labeled faces, 68 points: crops of 192 pixels; `w300_unflipped` starts from the result.

    wing-jax data render synthetic-faces
    wing-jax train pretrain
    wing-jax train w300
    wing-jax train w300 --start runs/pretrain/model --stage2.steps 10000 --name w300-synthetic
    wing-jax train w300 --start runs/pretrain/model --stage2.steps 10000 --stage2.input_size 192 \
        --stage2.model.params.grid 24 --name w300-192
    wing-jax data label /path/to/mtfl runs/w300/model runs/mtfl-68 \
        --others runs/w300-synthetic/model runs/w300-192/model
    (and, with --scheme mtfl5, SCUT-FBP5500 to runs/scut-68 and FG-NET to runs/fgnet-68)
    wing-jax train w300_student
    wing-jax evaluate runs/w300_student/model --data w300

The labels of the faces of MTFL, SCUT-FBP5500 and FG-NET are the mean of three models, each averaged with the mirror
image, where it agrees with the few annotated points. The student sees these faces augmented, and those of 300-W, which
an epoch contains six times. One teacher is enough to use this config for your own faces. RESULTS.md has the accuracy.
"""

import dataclasses

from wing_jax import presets
from wing_jax.config import DataConfig
from wing_jax.presets.recipes import voting

w300 = presets.load("w300")
assert w300.stage2 is not None

COPIES = ("net_7876/926_0_0.jpg", "net_7876/_-40_2055_0.jpg")  # the photo of a held-out face of 300-W, lfpw/image_0497

config = dataclasses.replace(
    w300,
    name="w300_student",
    start="runs/pretrain/model",
    data=dataclasses.replace(w300.data, copies=6),
    extra_data=tuple(
        DataConfig(name="packed", root=root, exclude=COPIES)
        for root in ("runs/mtfl-68", "runs/scut-68", "runs/fgnet-68")
    ),
    stage2=dataclasses.replace(
        w300.stage2,
        input_size=192,
        model=voting((16, 32, 64, 128, 256, 512), grid=24, residual=2),  # cells of 8 pixels
        crops_per_face=8,
    ),
)

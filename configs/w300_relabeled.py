"""300-W and faces labeled again, 68 points: the last training of the pretrained model `w300`, without flips.

    wing-jax train w300_unflipped
    wing-jax train w300_unflipped --start runs/w300-192/model --name w300-192-unflipped \
        --stage2.model.params.residual 0 --stage2.steps 1000 --stage2.evaluate_every 100
    wing-jax train w300_unflipped --start runs/w300-synthetic/model --name w300-synthetic-unflipped \
        --stage2.input_size 128 --stage2.model.params.grid 16 --stage2.model.params.residual 0 \
        --stage2.steps 1000 --stage2.evaluate_every 100
    wing-jax data label /path/to/mtfl runs/w300_unflipped/model runs/mtfl-68-unflipped --no_flip_average \
        --others runs/w300-synthetic-unflipped/model runs/w300-192-unflipped/model
    (and, with --scheme mtfl5, SCUT-FBP5500 to runs/scut-68-unflipped and FG-NET to runs/fgnet-68-unflipped)
    wing-jax train w300_relabeled
    wing-jax evaluate runs/w300_relabeled/model --data w300

configs/w300_student.py has the commands for the models that these trainings start from. The models without flips put
the points where 300-W has them, so their labels of the other faces do too, and a training on all faces can go on
without flips. RESULTS.md has the accuracy.
"""

import dataclasses

from wing_jax import presets
from wing_jax.presets.recipes import adamw

student = presets.load("w300_student")
assert student.stage2 is not None

config = dataclasses.replace(
    student,
    name="w300_relabeled",
    start="runs/w300_unflipped/model",
    extra_data=tuple(dataclasses.replace(data, root=f"{data.root}-unflipped") for data in student.extra_data),
    stage1=dataclasses.replace(
        student.stage1,
        augment=dataclasses.replace(student.stage1.augment, flip=0.0),
        optimizer=adamw(learning_rate=3e-4, ema=0.998),
        steps=3_000,
    ),
    stage2=dataclasses.replace(
        student.stage2,
        augment=dataclasses.replace(student.stage2.augment, flip=0.0),
        optimizer=adamw(learning_rate=4e-4, ema=0.998),
        steps=10_000,
    ),
)

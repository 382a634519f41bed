"""300-W, 68 points: a short training without flips, from `w300_student`; `w300_relabeled` starts from the result.

    wing-jax train w300_student
    wing-jax train w300_unflipped
    wing-jax evaluate runs/w300_unflipped/model --data w300

The annotated points of 300-W lie to the right of where a model trained with flips puts them, by about 1 % of the
inter-ocular distance (so does a model that was trained on MTFL). Such a model cannot learn this: on the mirrored image
of a face, it would have to put them to the left. So the networks of `w300_student` are trained further on 300-W alone,
without flips. RESULTS.md has the accuracy before and after.
"""

import dataclasses

from wing_jax import presets
from wing_jax.presets.recipes import adamw

student = presets.load("w300_student")
assert student.stage2 is not None

optimizer = adamw(learning_rate=1e-4, warmup=100, ema=0.99)  # for few steps

config = dataclasses.replace(
    student,
    name="w300_unflipped",
    start="runs/w300_student/model",
    data=dataclasses.replace(student.data, copies=1),
    extra_data=(),
    stage1=dataclasses.replace(
        student.stage1,
        augment=dataclasses.replace(student.stage1.augment, flip=0.0),
        optimizer=optimizer,
        steps=1_000,
        evaluate_every=100,
    ),
    stage2=dataclasses.replace(
        student.stage2,
        augment=dataclasses.replace(student.stage2.augment, flip=0.0),
        optimizer=optimizer,
        steps=2_000,
        evaluate_every=200,
    ),
)

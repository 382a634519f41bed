# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 4 Train and evaluate a localiser
# Both stages, small, on synthetic faces: what `make demo` does in two minutes, here in half of one. The same three
# calls train on 300-W or MTFL: give another config.

# %%
# %matplotlib inline
import dataclasses
import json
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from wing_jax.train.run import train

from wing_jax import Localizer
from wing_jax.config import (
    BalanceConfig,
    Config,
    DataConfig,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    PerturbConfig,
    SecondStageConfig,
    StageConfig,
)
from wing_jax.data.load import load_faces
from wing_jax.evaluation import evaluate
from wing_jax.report.draw import draw_points
from wing_jax.runtime import devices

devices.prepare_xla()  # XLA's flags and cache, as `wing-jax` sets them; before JAX is first used
folder = Path(tempfile.mkdtemp())
first = StageConfig(
    input_size=32,  # pixels; the paper's is 64
    margin=1.3,  # crop side per larger side of the face box
    model=ModelConfig(channels=(16, 32, 64, 128), hidden=256, norm="batch", output_bias="mean_shape"),
    loss=LossConfig(name="wing", reference_size=64, width=10.0, epsilon=2.0, reduction="mean"),  # pixels of 64
    perturb=PerturbConfig(rotation=20.0, translation=0.05, scale=0.08),
    optimizer=OptimizerConfig(
        name="adamw", learning_rate=2e-3, final_learning_rate=2e-5, decay="cosine", weight_decay=1e-2, ema=0.98
    ),
    batch_size=32,
    steps=600,
    evaluate_every=100,
)
shared = {field.name: getattr(first, field.name) for field in dataclasses.fields(first)}
second = SecondStageConfig(
    **{
        **shared,
        "input_size": 64,  # pixels; the paper's is 128
        "margin": 1.25,  # crop side per larger side of the mean shape
        "model": dataclasses.replace(first.model, channels=(8, 16, 32, 64, 128)),
        "perturb": PerturbConfig(rotation=10.0, translation=0.04, scale=0.06),
        "steps": 400,
    },
    crops="direct",
)
config = Config(
    name="notebook",
    data=DataConfig(name="synthetic", train_faces=300),
    balance=BalanceConfig(method="hsm", bins=9, cap=10),
    stage1=first,
    stage2=second,
    output=str(folder),
)
model = train(config)

# %% [markdown]
# ## What the log says
# Every run's folder holds `metrics.jsonl` (and TensorBoard events).

# %%
figure, panels = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
for stage in ("stage1", "stage2"):
    lines = [json.loads(line) for line in (folder / "notebook" / stage / "metrics.jsonl").read_text().splitlines()]
    for axes, name in zip(panels, ("nme", "validation_nme"), strict=True):
        known = [(line["step"], 100 * line[name]) for line in lines if name in line]
        axes.plot(*zip(*known, strict=True), marker=".", label=stage)
        axes.set(title=name.replace("_", " "), xlabel="step", ylabel="% of the eyes' distance")
        axes.legend(frameon=False)
plt.show()

# %% [markdown]
# ## Evaluate
# On faces that the model has never seen. The box leads, not the eyes' distance: in full profiles the outer eye corners
# nearly meet in the picture.

# %%
localizer = Localizer.load(model)
print(localizer.describe())
faces = load_faces("synthetic", "test", count=100)
evaluation = evaluate(localizer, faces, jitter=0.1, metrics=["box-size", "inter-ocular"])
print(evaluation)

# %%
evaluation.by("pose")

# %%
evaluation.plot()

# %% [markdown]
# ## Look
# Predicted landmarks (yellow) of the six faces around the median, the truth in blue.

# %%
errors = evaluation.errors["box-size"]
order = np.argsort(errors)[len(faces) // 2 - 3 : len(faces) // 2 + 3]
figure, panels = plt.subplots(1, 6, figsize=(13, 2.4))
for axes, face in zip(panels, order.tolist(), strict=True):
    picture = draw_points(faces.picture(face), faces.points[face], colour=(60, 120, 255), radius=1)
    axes.imshow(draw_points(picture, evaluation.points[face], colour=(255, 220, 0), radius=1))
    axes.set(title=f"{errors[face]:.1f} %")
    axes.set_axis_off()
figure.tight_layout(pad=0.2)
plt.show()

# %% [markdown]
# The model's folder is all that is needed elsewhere, without TensorFlow:
#
#     from wing_jax import Localizer
#     points = Localizer.load("runs/notebook/model").predict(image, [[x0, y0, x1, y1]])

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
# # 4 Train and evaluate a localizer
# We train two small stages on synthetic faces, which takes half a minute (`make demo` does the same in two minutes). To
# train on 300-W, use `wj.fit(wj.load_faces("w300"), wj.presets.w300())`.

# %%
# %matplotlib inline
import functools

import matplotlib.pyplot as plt
import numpy as np
import optax

import wing_jax as wj


def stage(channels, steps, *, rotation, **fields):
    return wj.StageSpec(
        model=functools.partial(wj.models.PlainRegressor, channels=channels, hidden=256, norm="batch"),
        loss=wj.losses.wing_loss,  # width 10 and epsilon 2 in pixels of the paper's 64 x 64 crop; `fit` rescales them
        optimizer=optax.adamw(optax.cosine_decay_schedule(2e-3, steps, alpha=0.01), weight_decay=1e-2),
        augment=[
            wj.augment.rotation(rotation),
            wj.augment.translation(0.05),
            wj.augment.scale(0.08),
            wj.augment.flip(),
        ],
        ema=0.98,
        batch_size=32,
        steps=steps,
        evaluate_every=100,
        **fields,
    )


first = stage((16, 32, 64, 128), 600, rotation=20, input_size=32, margin=1.3)  # pixels; the paper uses 64
second = stage((8, 16, 32, 64, 128), 400, rotation=10, input_size=64, margin=1.25, stage2_crops="annotated")
result = wj.fit(wj.load_faces("synthetic", count=300), [first, second], balance=wj.balance.hsm(bins=9, cap=10))

# %% [markdown] ## The training log `result.history` has a row for each logged step. With `folder="runs/mine"`, `fit`
# also writes the log to `metrics.jsonl` and TensorBoard events and saves checkpoints. If you call `fit` again with the
# same arguments, it resumes from the last checkpoint.

# %%
figure, panels = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
for number in (1, 2):
    for axes, name in zip(panels, ("nme", "validation_nme"), strict=True):
        values = [(row["step"], 100 * row[name]) for row in result.history if row["stage"] == number and name in row]
        axes.plot(*zip(*values, strict=True), marker=".", label=f"stage {number}")
        axes.set(title=name.replace("_", " "), xlabel="step", ylabel="% of the eyes' distance")
        axes.legend(frameon=False)
plt.show()

# %% [markdown]
# ## Evaluate
# We evaluate on faces that were not used in training. The first metric divides errors by the size of the box instead of
# the distance of the eyes, because in full profile views the outer eye corners nearly meet.

# %%
print(result.localizer.describe())
faces = wj.load_faces("synthetic", "test", count=100)
evaluation = wj.evaluate(result.localizer, faces, jitter=0.1, metrics=["box-size", "inter-ocular"])
print(evaluation)

# %%
evaluation.by("pose")

# %%
evaluation.plot()

# %% [markdown]
# ## View predictions
# The six faces with errors around the median: predicted landmarks in yellow, true landmarks in blue.

# %%
errors = evaluation.errors["box-size"]
order = np.argsort(errors)[len(faces) // 2 - 3 : len(faces) // 2 + 3]
figure, panels = plt.subplots(1, 6, figsize=(13, 2.4))
for axes, face in zip(panels, order.tolist(), strict=True):
    axes.imshow(faces.picture(face))
    axes.plot(*faces.points[face].T, ".", color="dodgerblue", markersize=2)
    axes.plot(*evaluation.points[face].T, ".", color="gold", markersize=2)
    axes.set(title=f"{errors[face]:.1f} %")
    axes.set_axis_off()
figure.tight_layout(pad=0.2)
plt.show()

# %% [markdown]
# `result.localizer.save("mine")` saves the model in a folder. To use it you need only this folder, and no TensorFlow:
#
#     points = wj.Localizer.load("mine").predict(image, [[x0, y0, x1, y1]])

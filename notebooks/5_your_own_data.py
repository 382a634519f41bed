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
# # 5 Your own data
# Images, points, and a scheme that says what the points are: that is all. Here 80 faces with five points are drawn
# first; with your own data begin at "The faces".

# %%
# %matplotlib inline
import dataclasses

import matplotlib.pyplot as plt
import numpy as np

import wing_jax as wj

drawn = wj.load_faces("synthetic", "train", count=80, seed=7)
FIVE = [slice(36, 42), slice(42, 48), slice(30, 31), slice(48, 49), slice(54, 55)]  # of the 68
images = [drawn.picture(face) for face in range(len(drawn))]  # RGB, uint8; or the paths of files
points = np.stack([drawn.points[:, part].mean(1) for part in FIVE], axis=1)  # [80, 5, 2], pixels, 0 is a pixel's center
light = ["dark" if image.mean() < 100 else "bright" for image in images]

# %% [markdown]
# ## The scheme
# Names, which point becomes which when the picture is mirrored, and which are the eyes. Without the pairs, flips would
# teach the wrong side. The published schemes have names (`scheme="mtfl5"` is five points as well), and one can be kept
# in a TOML file; `wing-jax data schemes` draws them.

# %%
five = wj.Scheme.make(
    "five",
    ["left eye", "right eye", "nose", "left mouth corner", "right mouth corner"],
    mirrored=[("left eye", "right eye"), ("left mouth corner", "right mouth corner")],
    normalization=("left eye", "right eye"),  # errors are divided by their distance
    lines=[("left eye", "nose", "right eye"), ("left mouth corner", "right mouth corner")],
)
print(five.flip)

# %% [markdown]
# ## The faces
# Every argument is checked, and what is wrong is said with its index. `visible` would name the points that count,
# `boxes` the faces' boxes; left out, they are the tight boxes of the points.

# %%
try:
    wj.FaceSet.from_arrays(images, points * 10, scheme=five)
except wj.InputError as error:
    print(error)
faces = wj.FaceSet.from_arrays(images, points, scheme=five, groups={"light": light})
train, test = faces.split(0.2)  # whole photos apart, the same for ever
print(len(train), "to train on,", len(test), "to test on")

# %%
plt.figure(figsize=(12, 3))
plt.imshow(wj.report.annotation_sheet(faces.take(range(6)), columns=6, size=240))
plt.axis("off")
plt.show()

# %% [markdown]
# ## Train
# The preset `own` is a start for sets of this kind; its stages are objects of which any field can be replaced. Half a
# minute of training on 63 faces is a toy: look at the evaluation of a longer run before you trust a model.

# %%
first, second = wj.presets.own().stages
result = wj.fit(train, dataclasses.replace(first, steps=150, evaluate_every=50, ema=0.95))

# %% [markdown]
# ## Evaluate, predict
# Errors are divided by the box's size: in full profiles the eyes nearly meet in the picture.

# %%
evaluation = wj.evaluate(result.localizer, test, metrics=["box-size"])
print(evaluation)
evaluation.by("light")

# %%
figure, panels = plt.subplots(1, 6, figsize=(12, 2.4))
for face, axes in enumerate(panels):
    picture = test.picture(face)
    (predicted,) = result.localizer.predict(picture, test.boxes[face : face + 1])
    axes.imshow(picture)
    axes.plot(*predicted.T, "o", color="yellow", markersize=3)
    axes.plot(*test.points[face].T, "x", color="deepskyblue", markersize=4)
    axes.set_axis_off()
figure.tight_layout(pad=0.2)
plt.show()

# %% [markdown]
# Annotations in files (`.pts`, imglab XML, COCO JSON, CSV) are read by
# `wj.load_faces("csv", root="faces.csv", scheme="five.toml")`; `wing-jax data check` reads everything once and says
# what is missing, broken or outside its picture: docs/how-to/own-faces.md.

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
# You need images, points, and a scheme that describes the points. This notebook first makes 80 synthetic faces with
# five points as an example. With your own data, start at "The scheme".

# %%
# %matplotlib inline
import dataclasses

import matplotlib.pyplot as plt
import numpy as np

import wing_jax as wj

synthetic = wj.load_faces("synthetic", "train", count=80, seed=7)
FIVE = [slice(36, 42), slice(42, 48), slice(30, 31), slice(48, 49), slice(54, 55)]  # of the 68
images = [synthetic.picture(face) for face in range(len(synthetic))]  # RGB, uint8; file paths work, too
# [80, 5, 2], in pixels; 0 is the center of the first pixel
points = np.stack([synthetic.points[:, part].mean(1) for part in FIVE], axis=1)
light = ["dark" if image.mean() < 100 else "bright" for image in images]

# %% [markdown]
# ## The scheme
# A scheme names the points and says which points swap when the picture is mirrored and which are the eyes. Without the
# pairs, flips would put points on the wrong side. The published schemes are available by name (`scheme="mtfl5"` also
# has five points), and you can write a scheme in a TOML file. `wing-jax data schemes` shows the published schemes.

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
# Every argument is checked, and errors name the index of the face. You can also pass `visible` (which points are
# visible) and `boxes` (the face boxes); by default, boxes are the tight boxes of the points.

# %%
try:
    wj.FaceSet.from_arrays(images, points * 10, scheme=five)
except wj.InputError as error:
    print(error)
faces = wj.FaceSet.from_arrays(images, points, scheme=five, groups={"light": light})
train, test = faces.split(0.2)  # faces of one photo stay together; the split is always the same
print(len(train), "training faces,", len(test), "test faces")

# %%
plt.figure(figsize=(12, 3))
plt.imshow(wj.report.annotation_sheet(faces.take(range(6)), columns=6, size=240))
plt.axis("off")
plt.show()

# %% [markdown] ## Train The preset `own` is a good starting point for small data sets; you can replace any field of its
# stages. Half a minute of training on 63 faces is only an example: train longer and evaluate the result before you
# trust a model.

# %%
first, second = wj.presets.own().stages
result = wj.fit(train, dataclasses.replace(first, steps=150, evaluate_every=50, ema=0.95))

# %% [markdown]
# ## Evaluate and predict
# Errors are divided by the size of the box, because in full profile views the eyes nearly meet.

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
# To read annotations from files (`.pts`, imglab XML, COCO JSON, CSV), use
# `wj.load_faces("csv", root="faces.csv", scheme="five.toml")`. `wing-jax data check` reads all files and reports points
# and pictures that are missing, corrupted or out of bounds. See docs/how-to/own-faces.md.

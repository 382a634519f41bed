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
# A folder of pictures, a table of points, a small TOML file that says what the points are: that is all. Here a toy of
# 80 faces with five points is written first, as you would find it; with your own data begin at "Check".

# %%
# %matplotlib inline
import csv
import os
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from wing_jax import Localizer
from wing_jax.cli import main
from wing_jax.data.images import write_image
from wing_jax.data.load import load_faces
from wing_jax.report.faces import annotation_sheet

start = Path("../configs/own.py").resolve()  # the config that the training below begins with
os.chdir(tempfile.mkdtemp())
folder = Path("toy")
folder.mkdir()
drawn = load_faces("synthetic", "train", count=80, seed=7)
FIVE = [slice(36, 42), slice(42, 48), slice(30, 31), slice(48, 49), slice(54, 55)]  # of the 68
five = np.stack([drawn.points[:, part].mean(1) for part in FIVE], axis=1)
with (folder / "faces.csv").open("w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["image", *(f"{axis}{point}" for point in range(5) for axis in "xy")])
    for face in range(len(drawn)):
        write_image(folder / f"face{face:03}.png", drawn.picture(face))
        writer.writerow([f"face{face:03}.png", *five[face].reshape(-1).round(2)])
print((folder / "faces.csv").read_text().splitlines()[:2])

# %% [markdown]
# ## The scheme
# Names, which point becomes which when the picture is mirrored, and which are the eyes. Without the flips training
# would teach the wrong side; `wing-jax data schemes` draws the published ones.

# %%
scheme = folder / "five.toml"
scheme.write_text(
    """name = "five"
points = ["left eye", "right eye", "nose", "left mouth corner", "right mouth corner"]
mirrored = [["left eye", "right eye"], ["left mouth corner", "right mouth corner"]]
normalization = ["left eye", "right eye"]
eyes = [["left eye"], ["right eye"]]
lines = [["left eye", "nose", "right eye"], ["left mouth corner", "right mouth corner"]]
about = "five points, for this notebook"
"""
)
print(scheme.read_text())

# %% [markdown]
# ## Check
# Reads everything once: counts, sizes, what is missing, broken or outside its picture.

# %%
main(["data", "check", str(folder / "faces.csv"), "--scheme", str(scheme), "--boxes", "landmarks"])

# %%
faces = load_faces("csv", "all", root=str(folder / "faces.csv"), scheme=str(scheme), boxes="landmarks")
plt.figure(figsize=(12, 3))
plt.imshow(annotation_sheet(faces.take(np.arange(6)), columns=6, size=240))
plt.axis("off")
plt.show()

# %% [markdown]
# ## Train, predict
# `configs/own.py` is a start for sets of this kind; every field can be given on the command line. Half a minute of
# training on 80 faces is a toy: look at the validation NME of a longer run before you trust a model.

# %%
path = folder / "own.py"
path.write_text(
    f"""import dataclasses
from wing_jax.config import load_config
base = load_config({str(start)!r})
stage = dataclasses.replace(base.stage1, steps=150, evaluate_every=50)
data = dataclasses.replace(base.data, name="csv", boxes="landmarks", validation=0.15)
config = dataclasses.replace(base, data=data, stage1=stage, stage2=None)
"""
)
main(
    [
        "train",
        str(path),
        "--data.root",
        str(folder / "faces.csv"),
        "--data.scheme",
        str(scheme),
        "--output",
        str(folder),
    ]
)

# %%
localizer = Localizer.load(folder / "own" / "model")
figure, panels = plt.subplots(1, 6, figsize=(12, 2.4))
for face, axes in enumerate(panels):
    picture = faces.picture(face)
    (points,) = localizer.predict(picture, faces.boxes[face : face + 1])
    axes.imshow(picture)
    axes.plot(*points.T, "o", color="yellow", markersize=3)
    axes.plot(*faces.points[face].T, "x", color="deepskyblue", markersize=4)
    axes.set_axis_off()
figure.tight_layout(pad=0.2)
plt.show()

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
# # 3 Perturbation and the input pipeline
# Draw, then apply: uniform numbers become a `Draw`, one affine matrix moves the picture *and* its points, and the
# picture is resampled once. The same algebra serves the tf.data pipeline and the input that lives on the device.

# %%
# %matplotlib inline
import dataclasses

import cv2
import jax
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display
from ipywidgets import FloatSlider
from wing_jax.input.cutting import BatchCutter
from wing_jax.input.device_input import DeviceInput, Planner, device_faces

from wing_jax.config import PerturbConfig
from wing_jax.data.chips import cut_chips
from wing_jax.data.load import load_faces
from wing_jax.train.crops import box_frames

faces = load_faces("synthetic", "train", count=24)
chips = cut_chips(faces, size=134)  # each face once, with room around it
frames = box_frames(chips, size=64, margin=1.2)  # crop pixels to chip pixels
perturb = PerturbConfig(rotation=30.0, translation=0.05, scale=0.05, colour=0.2, occlusion=0.2)


def sheet(images, points, columns=8):
    figure, panels = plt.subplots(len(images) // columns, columns, figsize=(12, 1.6 * len(images) // columns))
    for axes, image, shape in zip(np.ravel(panels), np.asarray(images), np.asarray(points), strict=True):
        axes.imshow(image)
        axes.plot(*shape.T, ".", color="yellow", markersize=2)
        axes.set(xlim=(-0.5, image.shape[1] - 0.5), ylim=(image.shape[0] - 0.5, -0.5))
        axes.set_axis_off()
    figure.tight_layout(pad=0.2)
    plt.close(figure)
    return figure


# %% [markdown]
# ## One face, many draws
# What an HSM duplicate looks like: the same face, every time perturbed anew by rotation, shift, scale, flip, blur,
# colour and occlusion.

# %%
cutter = BatchCutter(
    chips=chips,
    frames=frames[:, None],
    order=np.zeros(16, np.int64),  # face 0, sixteen times
    flip=faces.scheme.flip,
    perturb=perturb,
    size=64,
    batch_size=16,
    seed=0,
)
batch = cutter(0)
sheet(batch["images"], batch["points"])

# %% [markdown]
# ## The same on the device
# The chips lie in device memory as uint8; a jitted function draws and applies. Nothing travels from the host but which
# faces are in the step. A batch depends on (seed, step) alone, so that a stopped training goes on with the same ones.

# %%
held = device_faces(chips, frames[:, None], order=np.arange(len(faces)), flip=faces.scheme.flip)
source = DeviceInput(perturb=perturb, size=64, batch_size=16, supersample=1, seed=0)
plan = jax.tree.map(lambda part: part[0], Planner(source, np.asarray(held.order))(0, 1))
made = jax.jit(source.batch)(jax.device_put(held), plan)
sheet(made["images"], made["points"])

# %%
again = jax.jit(source.batch)(jax.device_put(held), plan)
print("the same step gives the same batch:", bool((again["images"] == made["images"]).all()))

# %% [markdown]
# ## The points move with the picture
# A check anyone can do by eye or in numbers: mark a landmark by a white square in the chip, cut the perturbed crop, and
# see where the brightest spot lies.

# %%
marked, landmark = chips.images.copy() // 4, 30  # the tip of the nose
for image, points in zip(marked, chips.points, strict=True):
    x, y = np.rint(points[landmark]).astype(int)
    cv2.rectangle(image, (x - 1, y - 1), (x + 1, y + 1), (255, 255, 255), -1)
still = dataclasses.replace(perturb, colour=0.0, occlusion=0.0, blur=0.0)
dark = dataclasses.replace(chips, images=marked)
plain = dataclasses.replace(cutter, chips=dark, perturb=still, order=np.arange(24))(0)
off = []
for image, points in zip(plain["images"], plain["points"], strict=True):
    spot = np.argwhere(image[..., 0] > 0.8 * image[..., 0].max())
    off.append(np.linalg.norm(spot.mean(0)[::-1] - points[landmark]))
print(f"distance of the bright spot from the landmark: median {np.median(off):.2f} pixels of the crop")


# %% [markdown]
# Try the strengths yourself.


# %%
def perturbed(rotation, scale, blur):
    chosen = dataclasses.replace(perturb, rotation=rotation, scale=scale, blur=blur)
    drawn = dataclasses.replace(cutter, perturb=chosen)(0)
    return sheet(drawn["images"][:8], drawn["points"][:8])


sliders = {
    "rotation": FloatSlider(30.0, min=0, max=90, description="rotation"),
    "scale": FloatSlider(0.05, max=0.4, step=0.01, description="scale"),
    "blur": FloatSlider(0.5, max=1.0, description="blur"),
}
picture = display(perturbed(**{key: slider.value for key, slider in sliders.items()}), display_id=True)
for slider in sliders.values():
    slider.observe(lambda _: picture.update(perturbed(**{key: each.value for key, each in sliders.items()})), "value")
display(*sliders.values())

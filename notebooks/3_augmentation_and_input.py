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
# # 3 Augmentation and the input pipeline
# Draw, then apply: every augmentation draws parameters for each face from a key of its own, one affine matrix moves the
# picture *and* its points, and the picture is resampled once. The input on the device and the tf.data pipeline draw the
# same parameters from the same keys.

# %%
# %matplotlib inline
import dataclasses

import cv2
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display
from ipywidgets import FloatSlider

from wing_jax import augment
from wing_jax.data.chips import cut_chips
from wing_jax.data.load import load_faces
from wing_jax.input.on_device import DeviceInput, training_faces
from wing_jax.input.on_host import HostInput
from wing_jax.input.sampling import EpochSampler
from wing_jax.train.crops import box_frames

faces = load_faces("synthetic", "train", count=24)
chips = cut_chips(faces, size=134)  # each face once, with room around it
crops = box_frames(chips, size=64, margin=1.2)  # crop pixels to chip pixels
geometry = (augment.rotation(30), augment.scale(0.05), augment.flip(), augment.translation(0.05))
pixels = (augment.blur(0.5), augment.color(0.2), augment.occlusion(0.2))


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
# What an HSM duplicate looks like: the same face, every time augmented anew by rotation, shift, scale, flip, blur,
# color and occlusion.

# %%
on_host = HostInput(
    chips=chips,
    crop_to_image=crops[:, None],
    order=np.zeros(16, np.int64),  # face 0, sixteen times
    flip=faces.scheme.flip,
    augment=(*geometry, *pixels),
    size=64,
    batch_size=16,
    seed=0,
)
batch = on_host(0)
sheet(batch.images, batch.points)

# %% [markdown]
# ## The same on the device
# The chips lie in device memory as uint8; a jitted function draws and applies. Nothing travels from the host but which
# faces are in the step. A batch depends on (seed, step) alone, so that a stopped training goes on with the same ones,
# and the other input makes the same batch but for a few grey levels of rounding.

# %%
held = training_faces(chips, crops[:, None], order=on_host.order, flip=faces.scheme.flip)
on_device = DeviceInput(augment=on_host.augment, size=64, batch_size=16, supersample=1, seed=0)
indices = jax.tree.map(lambda part: part[0], EpochSampler(held.order, batch_size=16, seed=0)(0, 1))
made = jax.jit(on_device.batch)(jax.device_put(held), indices)
apart = np.abs(np.asarray(made.images, int) - batch.images)
print(f"points differ by at most {np.abs(made.points - batch.points).max():.4f} pixels of the crop")
print(f"pixels differ by {apart.mean():.2f} grey levels in the mean")
sheet(made.images, made.points)

# %% [markdown]
# ## Each has a stream of its own
# A face's parameters depend on its key and on the augmentation's name: take one away, and the others draw as before.

# %%
keys = jax.random.split(jax.random.key(0), 3)
print("rotation and flip:", augment.sample_params([augment.rotation(30), augment.flip()], keys)["rotation"])
print("rotation alone:   ", augment.sample_params([augment.rotation(30)], keys)["rotation"])


# %% [markdown]
# ## One of your own
# A name, a function that draws for one face, and one that applies to a batch. `register_augmentation` would make it
# known to configs and the command line besides.


# %%
def vignette(strength):
    def sample(key):
        return strength * jax.random.uniform(key)

    def apply(images, drawn):
        at = jnp.linspace(-1, 1, images.shape[1])
        radius = (at[:, None] ** 2 + at[None] ** 2)[None, :, :, None]
        return images * (1 - drawn[:, None, None, None] * radius / 2)

    return augment.Augmentation("vignette", sample, apply, on="pixels")


darker = dataclasses.replace(on_host, augment=(*geometry, vignette(1.0)))(0)
sheet(darker.images, darker.points)

# %% [markdown]
# ## The points move with the picture
# A check anyone can do by eye or in numbers: mark a landmark by a white square in the chip, cut the augmented crop, and
# see where the brightest spot lies.

# %%
marked, landmark = chips.images.copy() // 4, 30  # the tip of the nose
for image, points in zip(marked, chips.points, strict=True):
    x, y = np.rint(points[landmark]).astype(int)
    cv2.rectangle(image, (x - 1, y - 1), (x + 1, y + 1), (255, 255, 255), -1)
dark = dataclasses.replace(chips, images=marked)
plain = dataclasses.replace(on_host, chips=dark, augment=geometry, order=np.arange(24))(0)
off = []
for image, points in zip(plain.images, plain.points, strict=True):
    spot = np.argwhere(image[..., 0] > 0.8 * image[..., 0].max())
    off.append(np.linalg.norm(spot.mean(0)[::-1] - points[landmark]))
print(f"distance of the bright spot from the landmark: median {np.median(off):.2f} pixels of the crop")


# %% [markdown]
# Try the strengths yourself.


# %%
def augmented(rotation, scale, blur):
    chosen = (augment.rotation(rotation), augment.scale(scale), augment.flip(), augment.blur(blur))
    drawn = dataclasses.replace(on_host, augment=chosen)(0)
    return sheet(drawn.images[:8], drawn.points[:8])


sliders = {
    "rotation": FloatSlider(30.0, min=0, max=90, description="rotation"),
    "scale": FloatSlider(0.05, max=0.4, step=0.01, description="scale"),
    "blur": FloatSlider(0.5, max=1.0, description="blur"),
}
picture = display(augmented(**{key: slider.value for key, slider in sliders.items()}), display_id=True)
for slider in sliders.values():
    slider.observe(lambda _: picture.update(augmented(**{key: each.value for key, each in sliders.items()})), "value")
display(*sliders.values())

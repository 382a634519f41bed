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
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from ipywidgets import FloatSlider

import wing_jax as wj

faces = wj.load_faces("synthetic", "train", count=24)
geometry = [wj.augment.rotation(30), wj.augment.scale(0.05), wj.augment.flip(), wj.augment.translation(0.05)]
pixels = [wj.augment.blur(0.5), wj.augment.color(0.2), wj.augment.occlusion(0.2)]


def stage(augment, batch_size=16):
    return wj.StageSpec(model=wj.models.CNN6, input_size=64, margin=1.2, batch_size=batch_size, augment=augment)


def sheet(batch, columns=8):
    rows = len(batch.images) // columns
    figure, panels = plt.subplots(rows, columns, figsize=(12, 1.6 * rows))
    for axes, image, points in zip(np.ravel(panels), batch.images, batch.points, strict=True):
        axes.imshow(image)
        axes.plot(*points.T, ".", color="yellow", markersize=2)
        axes.set(xlim=(-0.5, image.shape[1] - 0.5), ylim=(image.shape[0] - 0.5, -0.5))
        axes.set_axis_off()
    figure.tight_layout(pad=0.2)
    plt.close(figure)
    return figure


# %% [markdown]
# ## One face, many draws
# `sample_batch` is the batch that a training would see: of a set that holds one face sixteen times, as HSM makes them,
# the same face, every time augmented anew by rotation, shift, scale, flip, blur, color and occlusion.

# %%
one = faces.take([0] * 16)
on_device = wj.sample_batch(one, stage(geometry + pixels))
sheet(on_device)

# %% [markdown]
# ## The same by tf.data
# With `input="device"` the faces lie in device memory as uint8, and each training step draws, crops and augments its
# own batch: nothing travels from the host but which faces are in the step. With `input="tfdata"` NumPy and OpenCV do
# it ahead of the step, for faces that do not fit there. A batch depends on (seed, step) alone, so that a stopped
# training goes on with the same ones, and either input makes the same batch but for the rounding of pixels.

# %%
on_host = wj.sample_batch(one, stage(geometry + pixels), input="tfdata")
apart = np.abs(on_device.images.astype(int) - on_host.images)
print(f"points differ by at most {np.abs(on_device.points - on_host.points).max():.4f} pixels of the crop")
print(f"pixels differ by {apart.mean():.2f} gray levels in the mean")
sheet(on_host)

# %% [markdown]
# ## Each has a stream of its own
# A face's parameters depend on its key and on the augmentation's name: take one away, and the others draw as before.

# %%
keys = jax.random.split(jax.random.key(0), 3)
both = [wj.augment.rotation(30), wj.augment.flip()]
print("rotation and flip:", wj.augment.sample_params(both, keys)["rotation"])
print("rotation alone:   ", wj.augment.sample_params(both[:1], keys)["rotation"])


# %% [markdown]
# ## One of your own
# A name, a function that draws for one face, and one that applies to a batch. `wj.register_augmentation` would make it
# known to configs and the command line besides.


# %%
def vignette(strength):
    def sample(key):
        return strength * jax.random.uniform(key)

    def apply(images, drawn):
        at = jnp.linspace(-1, 1, images.shape[1])
        radius = (at[:, None] ** 2 + at[None] ** 2)[None, :, :, None]
        return images * (1 - drawn[:, None, None, None] * radius / 2)

    return wj.augment.Augmentation("vignette", sample, apply, on="pixels")


sheet(wj.sample_batch(one, stage([*geometry, vignette(1.0)])))

# %% [markdown]
# ## The points move with the picture
# A check anyone can do by eye or in numbers: mark a landmark by a white square in the darkened pictures, and see where
# the brightest spot of the augmented crops lies.

# %%
pictures, nose = [faces.picture(face) // 4 for face in range(len(faces))], 30
for picture, points in zip(pictures, faces.points, strict=True):
    x, y = np.rint(points[nose]).astype(int)
    picture[y - 2 : y + 3, x - 2 : x + 3] = 255
marked = wj.FaceSet.from_arrays(pictures, faces.points, scheme=faces.scheme, boxes=faces.boxes, visible=faces.visible)
batch = wj.sample_batch(marked, stage(geometry, batch_size=24))
off = []
for image, points in zip(batch.images, batch.points, strict=True):
    spot = np.argwhere(image[..., 0] > 0.8 * image[..., 0].max())
    off.append(np.linalg.norm(spot.mean(0)[::-1] - points[nose]))
print(f"distance of the bright spot from the landmark: median {np.median(off):.2f} pixels of the crop")


# %% [markdown]
# Try the strengths yourself.


# %%
def augmented(rotation, scale, blur):
    chosen = [wj.augment.rotation(rotation), wj.augment.scale(scale), wj.augment.flip(), wj.augment.blur(blur)]
    return sheet(wj.sample_batch(one, stage(chosen, batch_size=8)))


sliders = {
    "rotation": FloatSlider(30.0, min=0, max=90, description="rotation"),
    "scale": FloatSlider(0.05, max=0.4, step=0.01, description="scale"),
    "blur": FloatSlider(0.5, max=1.0, description="blur"),
}
picture = display(augmented(**{key: slider.value for key, slider in sliders.items()}), display_id=True)
for slider in sliders.values():
    slider.observe(lambda _: picture.update(augmented(**{key: each.value for key, each in sliders.items()})), "value")
display(*sliders.values())

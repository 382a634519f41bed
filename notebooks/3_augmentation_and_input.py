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
# Every augmentation first samples parameters for each face from a separate random key. Then one affine matrix
# transforms the picture *and* its points, so the picture is resampled only once. The input on the device and the
# tf.data pipeline sample the same parameters from the same keys.

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


def show_batch(batch, columns=8):
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
# ## One face, many augmentations
# `sample_batch` returns a batch as training uses it. This data set has the same face sixteen times, as HSM repeats it.
# Each copy gets a different rotation, translation, scale, flip, blur, color and occlusion.

# %%
repeated = faces.take([0] * 16)
on_device = wj.sample_batch(repeated, stage(geometry + pixels))
show_batch(on_device)

# %% [markdown]
# ## The same batch with tf.data
# With `input="device"` the faces are in device memory as uint8, and each training step samples, crops and augments its
# batch; the host only sends the indices of the faces. With `input="tfdata"` NumPy and OpenCV prepare the batches ahead
# of the step, for data sets that do not fit into device memory. A batch depends only on (seed, step), so a training
# that was stopped resumes with the same batches. Both inputs make the same batch, except for the rounding of pixels.

# %%
on_host = wj.sample_batch(repeated, stage(geometry + pixels), input="tfdata")
difference = np.abs(on_device.images.astype(int) - on_host.images)
print(f"points differ by at most {np.abs(on_device.points - on_host.points).max():.4f} pixels of the crop")
print(f"pixels differ by {difference.mean():.2f} gray levels on average")
show_batch(on_host)

# %% [markdown]
# ## Augmentations are independent
# The parameters depend on the face's key and the augmentation's name. If you remove an augmentation, the others do not
# change.

# %%
keys = jax.random.split(jax.random.key(0), 3)
both = [wj.augment.rotation(30), wj.augment.flip()]
print("rotation and flip:", wj.augment.sample_params(both, keys)["rotation"])
print("rotation alone:   ", wj.augment.sample_params(both[:1], keys)["rotation"])


# %% [markdown]
# ## Write your own augmentation
# It needs a name, a function that samples parameters for one face, and a function that applies them to a batch.
# `wj.register_augmentation` makes it available in configs and on the command line.


# %%
def vignette(strength):
    def sample(key):
        return strength * jax.random.uniform(key)

    def apply(images, strengths):
        x = jnp.linspace(-1, 1, images.shape[1])
        radius = (x[:, None] ** 2 + x[None] ** 2)[None, :, :, None]
        return images * (1 - strengths[:, None, None, None] * radius / 2)

    return wj.augment.Augmentation("vignette", sample, apply, on="pixels")


show_batch(wj.sample_batch(repeated, stage([*geometry, vignette(1.0)])))

# %% [markdown]
# ## The points move with the picture
# To check this, we darken the pictures, mark a landmark with a white square, and measure how far the brightest spot of
# the augmented crops is from the augmented landmark.

# %%
pictures, nose = [faces.picture(face) // 4 for face in range(len(faces))], 30
for picture, points in zip(pictures, faces.points, strict=True):
    x, y = np.rint(points[nose]).astype(int)
    picture[y - 2 : y + 3, x - 2 : x + 3] = 255
marked = wj.FaceSet.from_arrays(pictures, faces.points, scheme=faces.scheme, boxes=faces.boxes, visible=faces.visible)
batch = wj.sample_batch(marked, stage(geometry, batch_size=24))
distances = []
for image, points in zip(batch.images, batch.points, strict=True):
    spot = np.argwhere(image[..., 0] > 0.8 * image[..., 0].max())
    distances.append(np.linalg.norm(spot.mean(0)[::-1] - points[nose]))
print(f"distance of the bright spot from the landmark: median {np.median(distances):.2f} pixels of the crop")


# %% [markdown]
# Try different strengths.


# %%
def show_augmented(rotation, scale, blur):
    chosen = [wj.augment.rotation(rotation), wj.augment.scale(scale), wj.augment.flip(), wj.augment.blur(blur)]
    return show_batch(wj.sample_batch(repeated, stage(chosen, batch_size=8)))


sliders = {
    "rotation": FloatSlider(30.0, min=0, max=90, description="rotation"),
    "scale": FloatSlider(0.05, max=0.4, step=0.01, description="scale"),
    "blur": FloatSlider(0.5, max=1.0, description="blur"),
}
picture = display(show_augmented(**{key: slider.value for key, slider in sliders.items()}), display_id=True)
for slider in sliders.values():
    slider.observe(lambda _: picture.update(show_augmented(**{key: s.value for key, s in sliders.items()})), "value")
display(*sliders.values())

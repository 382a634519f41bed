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
# # 1 Losses and their gradients
# This notebook shows why a landmark regressor learns better with the Wing loss than with L2, by comparing the gradients
# of small, medium and large errors. Every loss is a pure function, so `jax.vmap` and `jax.grad` work on it.

# %%
# %matplotlib inline
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
from ipywidgets import FloatSlider

import wing_jax as wj

errors = jnp.linspace(-20.0, 20.0, 801)  # pixels of a 64 x 64 crop
losses = {name: wj.losses.make_loss(name) for name in ("l2", "l1", "smooth_l1", "wing", "rectified_wing")}
wj.report.curves_figure(errors, {name: wj.analysis.curves(loss, errors) for name, loss in losses.items()})

# %% [markdown] The gradient of L2 grows with the error, so a few outliers dominate training. The gradient of L1 is 1
# everywhere. The gradient of Wing is largest for *small* errors (width / epsilon = 5 near 0) and equals that of L1
# above `width`. At zero error every gradient is 0.
#
# The last panel shows the paper's second reason for Wing: the step that would bring an error to zero. With L2 it is 1
# for every error, with L1 it is the error, and with a logarithm it grows with the square of the error. With Wing, small
# errors determine the *direction* of an update and large errors its *length*, so neither dominates the other.

# %%
wing = wj.losses.make_loss("wing", width=10.0, epsilon=2.0)
slope = jax.grad(lambda error: wing(error, 0.0 * error))
{error: round(float(slope(error)), 4) for error in (0.0, 0.001, 1.0, 5.0, 9.999, 10.001)}

# %% [markdown]
# ## Does it learn better?
# `wing-jax reproduce curves --data w300 --budget paper --seeds 2` trained CNN-6 on 300-W as the paper did: 120,000
# steps of 8 faces by SGD, two seeds for each loss. It recorded the error on the test faces, and how noisy the gradient
# is: the cosine between the gradients of two batches, which is 1 without noise.

# %%
folders = [Path.cwd(), *Path.cwd().parents]
path = next(path for folder in folders if (path := folder / "docs/reproduce/paper/w300-paper/curves.json").exists())
recorded = json.loads(path.read_text())
figure, panels = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
for axes, key, title in zip(
    panels, ("test_nme_percent", "gradient_cosine"), ("test NME (%)", "cosine between gradients"), strict=True
):
    for name, values in recorded[key].items():
        axes.plot(recorded["faces"], values, label=name)
    axes.set(xscale="log", title=title, xlabel="faces seen")
    axes.grid(alpha=0.3)
panels[0].set(yscale="log", yticks=(6, 8, 10, 15, 25))
panels[0].set_yticks((), minor=True)
panels[0].yaxis.set_major_formatter("{x:g}")
panels[0].legend()
plt.show()
print("test NME at the end (%):", {name: round(values[-1], 2) for name, values in recorded["test_nme_percent"].items()})
print("Wing stays ahead from this number of faces on:", recorded["wing_ahead_from"])

# %% [markdown] It does, in a long training. L1 and smooth L1 are ahead of Wing, or level with it, until each face was
# seen some 200 times; until then Wing's gradient is the noisiest most of the time. L2 is behind from the start.

# %% [markdown] ## Units The paper's width 10 and epsilon 2 are in pixels of its 64 x 64 crop. With coordinates in [0,
# 1], no error reaches the width of an unscaled Wing loss: its slope hardly changes over the whole range of errors, so
# it acts like a scaled L1. `make_loss` rescales the lengths exactly, so the loss is the same in any unit.

# %%
fractions = errors / 64
rescaled = wj.losses.make_loss("wing", reference_size=64, working_extent=1.0, width=10.0, epsilon=2.0)
zeros = jnp.zeros_like(errors)
print(
    "the rescaled loss equals the pixel loss:",
    bool(jnp.allclose(rescaled(fractions, zeros), wing(errors, zeros), rtol=1e-5)),
)
raw_slope = wj.analysis.curves(wj.losses.wing_loss, jnp.array([0.001, 0.1, 0.3])).gradient
print("unscaled slope at 0.06, 6 and 19 pixels:", [round(float(s), 2) for s in raw_slope])

# %% [markdown] ## Width and epsilon Both parameters can be traced arrays, so `vmap` computes the entire grid in one
# program.

# %%
widths, epsilons = jnp.array([4.0, 10.0, 14.0]), jnp.array([0.5, 2.0, 3.0])
print("slope at an error of 1 pixel; rows: width 4, 10, 14; columns: epsilon 0.5, 2, 3")
print(wj.analysis.wing_slopes(widths, epsilons, jnp.array([1.0]))[..., 0])


# %% [markdown] Move the sliders (in a running notebook): above `width` the loss is L1 minus a constant, and `epsilon`
# sets the curvature near zero.


# %%
def draw(width, epsilon):
    curve = wj.analysis.curves(wj.losses.make_loss("wing", width=width, epsilon=epsilon), errors)
    figure, panels = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
    for axes, values, title in zip(panels, curve[:2], ("value", "gradient"), strict=True):
        axes.plot(errors, values)
        axes.set(title=title, xlabel="error (pixels)")
        axes.grid(alpha=0.3)
    plt.close(figure)
    return figure


sliders = {
    "width": FloatSlider(10.0, min=1.0, max=20.0, description="width"),
    "epsilon": FloatSlider(2.0, min=0.2, max=6.0, step=0.2, description="epsilon"),
}
picture = display(draw(**{key: slider.value for key, slider in sliders.items()}), display_id=True)
for slider in sliders.values():
    slider.observe(lambda _: picture.update(draw(**{key: s.value for key, s in sliders.items()})), "value")
display(*sliders.values())

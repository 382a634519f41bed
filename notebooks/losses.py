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
# # Losses and their gradients
# Why a landmark regressor learns better from the Wing loss than from L2: what each loss makes of small, medium and
# large errors. Everything is a pure function; `jax.vmap` and `jax.grad` do the rest.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt

from wing_jax.losses import LOSSES, make_loss

errors = jnp.linspace(-20.0, 20.0, 801)  # pixels of a 64 x 64 crop
names = ("l2", "l1", "smooth_l1", "wing", "rectified_wing")


def value_and_slope(name):
    loss = make_loss(name, reference_size=64, working_extent=64.0)
    one = jax.value_and_grad(lambda error: loss(error, jnp.zeros_like(error)))
    return jax.vmap(one)(errors)


curves = {name: value_and_slope(name) for name in names}

# %%
figure, panels = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
for axes, part, title in zip(panels, (0, 1), ("value", "gradient"), strict=True):
    for name, curve in curves.items():
        axes.plot(errors, curve[part], label=name.replace("_", " "))
    axes.set(title=title, xlabel="error (pixels)", ylim=((0, 30), (-6, 6))[part])
    axes.grid(alpha=0.3)
axes.legend(frameon=False)
plt.show()

# %% [markdown]
# L2's gradient grows with the error: a few outliers rule the training. L1's is 1 everywhere. Wing's is largest for
# *small* errors (width / epsilon = 5 next to 0) and that of L1 beyond `width`. At zero error every gradient is 0.

# %%
wing = make_loss("wing", reference_size=64, working_extent=64.0, width=10.0, epsilon=2.0)
slope = jax.grad(lambda error: wing(error, 0.0 * error))
{error: round(float(slope(error)), 4) for error in (0.0, 0.001, 1.0, 5.0, 9.999, 10.001)}

# %% [markdown]
# ## Units
# The paper's width 10 and epsilon 2 are pixels of its 64 x 64 crop. On coordinates in [0, 1] an unscaled Wing loss
# never reaches its width: its slope hardly falls over the whole face, so it is a scaled L1. `make_loss` rescales the
# lengths exactly, so that the loss is the same one in any unit.

# %%
fractions = errors / 64
guarded = make_loss("wing", reference_size=64, working_extent=1.0, width=10.0, epsilon=2.0)
unscaled = LOSSES["wing"]
zeros = jnp.zeros_like(errors)
print("guarded equals the pixel loss:", bool(jnp.allclose(guarded(fractions, zeros), wing(errors, zeros), rtol=1e-5)))
raw_slope = jax.vmap(jax.grad(lambda error: unscaled(error, 0.0 * error)))(jnp.array([0.001, 0.1, 0.3]))
print("unscaled slope at 0.06, 6 and 19 pixels:", [round(float(s), 2) for s in raw_slope])

# %% [markdown]
# ## Width and epsilon
# One program for the whole grid: both are traced, so `vmap` runs over them.

# %%
widths, epsilons = jnp.array([4.0, 10.0, 14.0]), jnp.array([0.5, 2.0, 3.0])


def slope_at(width, epsilon, error):
    return jax.grad(lambda e: LOSSES["wing"](e, 0.0 * e, width=width, epsilon=epsilon))(error)


grid = jax.vmap(jax.vmap(slope_at, (None, 0, None)), (0, None, None))(widths, epsilons, jnp.float32(1.0))
print("slope at an error of 1 pixel; rows: width 4, 10, 14; columns: epsilon 0.5, 2, 3")
print(grid)

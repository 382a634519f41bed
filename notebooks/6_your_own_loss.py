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
# # 6 Your own loss, in ten lines
# A loss is a pure, elementwise function of predicted and true coordinates in pixels of the crop. In this notebook we
# write one, plot its gradient, train with it and compare it to Wing.

# %%
# %matplotlib inline
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

import wing_jax as wj


def cauchy(predicted, target, *, scale=1.5):
    """Compute the Cauchy (Lorentzian) loss: a logarithm of the squared error, smooth at zero, robust to outliers."""
    return scale**2 * jnp.log1p(jnp.square((predicted - target) / scale))


errors = jnp.linspace(-20.0, 20.0, 801)
losses = {"Wing": wj.losses.wing_loss, "L2": wj.losses.l2_loss, "Huber": optax.losses.huber_loss, "Cauchy": cauchy}
wj.report.curves_figure(errors, {name: wj.analysis.curves(loss, errors) for name, loss in losses.items()})

# %% [markdown]
# Check a loss as the library's tests do: its gradient must agree with finite differences, be zero at zero error, and be
# finite everywhere.

# %%
slope = jax.vmap(jax.grad(lambda error: cauchy(error, 0.0)))
points = jnp.array([-8.0, -1.0, 0.5, 3.0])
numeric = (cauchy(points + 1e-2, 0.0) - cauchy(points - 1e-2, 0.0)) / 2e-2
print("finite differences agree:", bool(np.allclose(slope(points), numeric, rtol=1e-2)))
print("at zero error:", float(slope(jnp.zeros(1))[0]), " at 1e4 pixels:", float(slope(jnp.full(1, 1e4))[0]))

# %% [markdown] ## Train and compare We train with each loss and two seeds. The learning rate is the same for all
# losses, because AdamW is almost invariant to the scale of a loss. For a fair comparison with SGD, tune it for each
# loss, as `wing-jax reproduce` does. `wing-jax sweep` trains many runs as one program. Functions that are not
# registered, such as the losses of optax, are not rescaled: they get coordinates in pixels of the crop, whose side is
# 32 here.

# %%
faces = wj.load_faces("synthetic", count=240)
stage = functools.partial(
    wj.StageSpec,
    model=functools.partial(wj.models.PlainRegressor, channels=(8, 16, 32, 64), hidden=128, norm="batch"),
    optimizer=optax.adamw(optax.cosine_decay_schedule(2e-3, 300, alpha=0.01), weight_decay=1e-2),
    augment=[wj.augment.rotation(15), wj.augment.translation(0.05), wj.augment.scale(0.05), wj.augment.flip()],
    ema=0.98,  # the final parameters are averages over about the last fifty steps
    input_size=32,
    steps=300,
    evaluate_every=300,
)
for name, loss in losses.items():
    nmes = [wj.fit(faces, stage(loss=loss), validation=0.15, seed=seed, quiet=True).validation_nme for seed in (0, 1)]
    print(f"{name:7} validation NME by seed: {', '.join(f'{nme:.2%}' for nme in nmes)}")

# %% [markdown] Two short training runs on synthetic faces are not enough to rank losses: compare the differences
# between losses to those between seeds.
#
# ## Register the loss
# A registered loss and its parameters can be used in configs, sweeps and on the command line:
# `--stage1.loss.name cauchy --stage1.loss.params.scale 2`. `lengths` names the parameters that are lengths in pixels of
# the reference crop (64). `degree=2` means that the loss is an area. With these, the loss is rescaled to any crop, as
# Wing is.

# %%
wj.register_loss(lengths=("scale",), degree=2)(cauchy)
for size in (32, 64, 128):
    loss = wj.losses.make_loss("cauchy", working_extent=float(size), scale=1.5)
    print(f"crop of {size:3}: {float(loss(jnp.array(0.05 * size), jnp.array(0.0))):.4f} at 5 % of its side")

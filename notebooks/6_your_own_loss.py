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
# A loss is a pure, elementwise function of predicted and true coordinates in pixels of the crop. Write it, look at its
# gradient, train with it, compare it with Wing: everything else stays the same.

# %%
# %matplotlib inline
import jax
import jax.numpy as jnp
import numpy as np

from wing_jax.analysis import curves
from wing_jax.config import AugmentConfig, Config, DataConfig, LossConfig, ModelConfig, OptimizerConfig, StageConfig
from wing_jax.losses import make_loss
from wing_jax.report.analysis import curves_figure
from wing_jax.reproduce import compare_losses
from wing_jax.runtime import devices

devices.prepare_xla()  # XLA's flags and cache, as `wing-jax` sets them; before JAX is first used


def cauchy(predicted, target, scale=1.5):
    """The Cauchy (Lorentzian) loss: a logarithm of the squared error, smooth at zero, deaf to outliers."""
    return scale**2 * jnp.log1p(jnp.square((predicted - target) / scale))


errors = jnp.linspace(-20.0, 20.0, 801)
losses = {"Wing": make_loss("wing"), "L2": make_loss("l2"), "Cauchy": cauchy}
curves_figure(errors, {name: curves(loss, errors) for name, loss in losses.items()})

# %% [markdown]
# What a loss must keep, checked as the library checks its own: the gradient is the derivative (finite differences),
# zero at zero error, and finite everywhere.

# %%
slope = jax.vmap(jax.grad(lambda error: cauchy(error, 0.0)))
points = jnp.array([-8.0, -1.0, 0.5, 3.0])
numeric = (cauchy(points + 1e-2, 0.0) - cauchy(points - 1e-2, 0.0)) / 2e-2
print("finite differences agree:", bool(np.allclose(slope(points), numeric, rtol=1e-2)))
print("at zero error:", float(slope(jnp.zeros(1))[0]), " at 1e4 pixels:", float(slope(jnp.full(1, 1e4))[0]))

# %% [markdown]
# ## Train and compare
# One call: the first stage of a config by each loss and seed. The learning rate is the config's and the same for all;
# AdamW hardly feels the scale of a loss. A fair comparison with SGD tunes it for each (`wing-jax reproduce` does).

# %%
config = Config(
    name="compare",
    data=DataConfig(name="synthetic", train_faces=240, validation=0.15),
    stage1=StageConfig(
        input_size=32,
        margin=1.3,
        model=ModelConfig(
            params={"channels": (8, 16, 32, 64), "hidden": 128, "norm": "batch"}, output_bias="mean_shape"
        ),
        loss=LossConfig(reduction="mean"),
        augment=AugmentConfig(rotation=15.0, translation=0.05, scale=0.05),
        optimizer=OptimizerConfig(
            name="adamw", learning_rate=2e-3, final_learning_rate=2e-5, decay="cosine", weight_decay=1e-2
        ),
        batch_size=32,
        steps=300,
        evaluate_every=300,
    ),
)
reached = compare_losses(losses, config, seeds=(0, 1))
for name, nmes in reached.items():
    print(f"{name:7} validation NME by seed: {', '.join(f'{100 * nme:.2f} %' for nme in nmes)}")

# %% [markdown]
# Two seeds of a short training on drawn faces do not rank losses: the spread between the seeds says how much to
# believe.

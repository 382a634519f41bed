"""Flax modules: crops `[batch, size, size, 3]` to landmarks `[batch, points, 2]` in pixels of the crop."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from wing_jax.models.plain import CNN6 as CNN6
from wing_jax.models.plain import CNN7 as CNN7
from wing_jax.models.plain import TINY as TINY
from wing_jax.models.plain import Norm as Norm
from wing_jax.models.plain import PlainRegressor as PlainRegressor
from wing_jax.models.pooling import max_pool_2x2 as max_pool_2x2
from wing_jax.models.resnet import ResNet50 as ResNet50
from wing_jax.models.resnet import ResNetTiny as ResNetTiny
from wing_jax.models.voting import VotingRegressor as VotingRegressor
from wing_jax.runtime.processes import check_fork
from wing_jax.text import quoted


def make_model(
    name: str,
    *,
    points: int,
    channels: Sequence[int] = (),
    hidden: int = 1024,
    norm: Norm = "none",
    dropout: float = 0.0,
    residual: int = 0,
    precision: str = "float32",
    axis: str | None = None,
) -> nn.Module:
    """The network called `name` ("plain", "voting" or "resnet50", which takes none of `channels`, `hidden`, `norm` and
    `dropout`); `residual` is for "voting" alone.

    Raises:
      ValueError: no network is called so; or JAX cannot be used in this process (`wing_jax.runtime.processes`).
    """
    check_fork()
    dtype = jnp.dtype(precision)
    if name in ("plain", "voting"):
        given: dict[str, Any] = {"points": points, "channels": tuple(channels), "hidden": hidden, "norm": norm}
        given |= {"dropout": dropout, "dtype": dtype, "axis": axis}
        return PlainRegressor(**given) if name == "plain" else VotingRegressor(**given, residual=residual)
    if name == "resnet50":
        return ResNet50(points=points, dtype=dtype, axis=axis)
    raise ValueError(f"no network is called {quoted(name)}: use plain, voting or resnet50")

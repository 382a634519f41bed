"""CNN-6 and CNN-7 with a second opinion: the places of the crop vote for every landmark near the regressed one.

A fully connected regressor sees the whole face at once and must learn each landmark at each position anew, from few
faces. Here its answer only says where to look. A feature pyramid (Lin et al., CVPR 2017, arXiv:1612.03144) brings what
is seen to places of an eighth of a crop of 128 pixels; each place gives each landmark a weight and an offset, as the
anchors of A2J do (Xiong et al., ICCV 2019, arXiv:1908.09999). The landmark is the weighted mean of place + offset, so
that all losses of the paper apply as they are.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from wing_jax.errors import InputError
from wing_jax.geometry import rescale_points
from wing_jax.models.conv3x3 import conv3x3
from wing_jax.models.plain import PlainRegressor, Shift, he_normal
from wing_jax.models.registry import register_model
from wing_jax.text import quoted

PLACES = 16  # a side of the crop
WINDOW = 0.12  # standard deviation of the places' weights about the regressed landmark, in sides of the crop


@register_model(name="voting")
class VotingRegressor(PlainRegressor):
    """Blocks, arguments and contract of `PlainRegressor`, with these differences.

    Args:
      points: how many landmarks.
      channels: of each block.
      hidden: width of the pyramid.
      norm: "batch" or "none".
      dropout: share of the coarsest level's outputs dropped in training.
      dtype: of the activations; parameters and answers are float32.
      axis: name of a mapped axis of replicas, over which batch statistics are taken.
      residual: how many residual blocks (He et al., CVPR 2016, arXiv:1512.03385) follow at its finest places.

    Raises:
      InputError: as for `PlainRegressor`.

    >>> model = VotingRegressor(points=5, channels=(4, 8), hidden=4)
    >>> crops = jnp.zeros((2, 32, 32, 3), jnp.uint8)
    >>> model.apply(model.init(jax.random.key(0), crops), crops).shape
    (2, 5, 2)
    """

    hidden: int = 64
    residual: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.residual, int) or self.residual < 0:
            raise InputError(f"residual={quoted(self.residual)} must not be below 0")
        super().__post_init__()

    @nn.compact
    def __call__(
        self, images: Shaped[Array, "batch size size 3"], *, train: bool = False
    ) -> Float[Array, "batch points 2"]:
        size = images.shape[1]
        levels = [level for level in self.levels(images, train=train) if level.shape[1] <= PLACES]
        coarsest = levels[-1].reshape(levels[-1].shape[0], -1)

        whole = nn.Dropout(self.dropout, deterministic=not train)(coarsest)
        whole = self.normal(self.dense(whole, 8 * self.hidden), train)
        regressed = nn.Dense(2 * self.points, kernel_init=he_normal, dtype=jnp.float32, name="output")(whole)
        regressed = regressed.reshape(-1, self.points, 2)

        y = self.dense(whole, self.hidden, nn.linear.default_kernel_init)[:, None, None]
        for level in reversed(levels):
            times = level.shape[1] // y.shape[1]
            y = y.repeat(times, 1).repeat(times, 2)
            rows = level.reshape(-1, level.shape[-1])  # XLA would transpose the kernel's gradient of anything else
            y += self.dense(rows, self.hidden).reshape(y.shape)
            y = self.normal(y, train)
            y = Conv(self.hidden, self.dtype)(y)
        y = self.normal(y, train)
        for _ in range(self.residual):
            inner = self.normal(Conv(self.hidden, self.dtype)(y), train)
            inner = Conv(self.hidden, self.dtype)(inner)
            y = nn.relu(y + Shift(self.norm, self.dtype, self.axis)(inner, train=train))
        kernel, bias = Votes(self.points, name="votes")(y)
        return counted(y.reshape(y.shape[0], -1, self.hidden), kernel, bias, regressed, size=size)

    def normal(self, x: Array, train: bool) -> Array:
        return nn.relu(Shift(self.norm, self.dtype, self.axis)(x, train=train))


class Conv(nn.Module):
    """3 x 3 convolution without a bias, with the parameters of `nn.Conv`."""

    channels: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = x.astype(self.dtype)
        return conv3x3(x, self.param("kernel", he_normal, (3, 3, x.shape[-1], self.channels), jnp.float32))


class Votes(nn.Module):
    """The dense layer of the votes: kernel and bias of the weights' logarithms and of the offsets along x and y."""

    points: int

    @nn.compact
    def __call__(
        self, seen: Float[Array, "... seen"]
    ) -> tuple[Float[Array, "seen 3 points"], Float[Array, "3 points"]]:
        count = 3 * self.points
        kernel = self.param("kernel", nn.initializers.normal(1e-3), (seen.shape[-1], count), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (count,), jnp.float32)
        return kernel.reshape(-1, 3, self.points), bias.reshape(3, self.points)


def counted(
    seen: Float[Array, "batch places seen"],
    kernel: Float[Array, "seen 3 points"],
    bias: Float[Array, "3 points"],
    regressed: Float[Array, "batch points 2"],
    *,
    size: int,
) -> Float[Array, "batch points 2"]:
    """The weighted means of the places' answers, in pixels of the crop.

    `seen`: at each place in row order; `seen @ kernel + bias`: its votes, which are the logarithm of the weight, and
    (x, y) from the place in places; `regressed`: where the window of the weights lies, in pixels of the crop of `size`
    pixels.

    It is attention: the logarithm of a weight is the scalar product of what is known of the place and what the landmark
    wants. As answers depend linearly on what is known, their mean is the answer to what is known in the mean, and no
    array of all votes is made. The bias of the weights is the same at all places and changes nothing.
    """
    part = partial(jax.lax.slice_in_dim, axis=-1)
    places, width = seen.shape[1:]
    side = round(places**0.5)
    middle, window, step = map(np.float32, ((size - 1) / 2, WINDOW * size, size / side))
    line = (rescale_points(np.arange(float(side)), size / side) - middle) / window
    x, y = np.tile(line, side), np.repeat(line, side)
    # Of a place p and a regressed landmark q, in windows from the middle, -|p - q|^2 / 2 is p q - |p|^2 / 2, up to what
    # is the same at all places. The 1 adds up to the sum of the weights.
    here = np.stack([x, y, np.ones(places), -(x * x + y * y) / 2], axis=1).astype(np.float32)
    known = _padded(seen.astype(jnp.float32), 0, 4) + np.pad(here, ((0, 0), (width, 0)))[None]
    weigh = jax.lax.index_in_dim(kernel, 0, 1, keepdims=False).T  # no gathering, which other runtimes are slow at
    always = np.eye(width + 4, dtype=np.float32)[-1:]
    wanted = (_padded(weigh, 0, 4) + always)[None] + _padded((regressed - middle) / window, width, 2)

    exact = partial(jnp.einsum, precision="highest")
    logits = exact("bpk,bnk->bpn", known, wanted)
    weights = jnp.exp(logits - jax.lax.stop_gradient(logits.max(1, keepdims=True)))
    sums = exact("bpn,bpk->bnk", weights, known)
    means = part(sums, 0, width + 2) / part(sums, width + 2, width + 3)
    offsets = jnp.einsum("bnk,kan->bna", part(means, 0, width), jax.lax.slice_in_dim(kernel, 1, 3, axis=1))
    offsets += jax.lax.slice_in_dim(bias, 1, 3).T[None]
    return middle + window * part(means, width, width + 2) + step * offsets


def _padded(x: Array, before: int, after: int) -> Array:
    """With so many zeros before and after the last axis."""
    return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(before, after)])

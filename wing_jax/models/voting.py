"""CNN-6 and CNN-7 with a refinement: the cells of a feature map vote for every landmark near its regressed position.

A fully connected regressor must learn each landmark at each position separately, from few faces. Here its result only
says where to look. A feature pyramid (Lin et al., CVPR 2017, arXiv:1612.03144) computes features on a grid, by default
of 16 x 16 cells, of 8 pixels in a crop of 128. Each cell votes for each landmark by a weight and an offset, as the
anchors of A2J do (Xiong et al., ICCV 2019, arXiv:1908.09999). The landmark is the weighted mean of cell position +
offset, so all losses of the paper apply unchanged.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from wing_jax.errors import InputError
from wing_jax.geometry import rescale_points
from wing_jax.models.convolution import Conv
from wing_jax.models.plain import PlainRegressor, Shift, he_normal, is_count
from wing_jax.models.registry import register_model
from wing_jax.text import quoted

WINDOW = 0.12  # standard deviation of the Gaussian window of weights about the regressed landmark, in crop sides


@register_model(name="voting")
class VotingRegressor(PlainRegressor):
    """A `PlainRegressor` whose points are refined by votes of the cells of a feature pyramid; its call is the same.

    Args:
      points: number of landmarks.
      channels: channels of each block.
      hidden: number of channels of the feature pyramid.
      norm: "batch" or "none".
      dropout: dropout rate of the coarsest level's outputs in training.
      dtype: dtype of the activations; parameters and results are float32.
      axis: name of a mapped axis of replicas, over which batch statistics are computed.
      residual: number of residual blocks (He et al., CVPR 2016, arXiv:1512.03385) on the pyramid's finest level.
      grid: number of cells per side of the crop, at most: those of the finest level that has no more.

    Raises:
      InputError: as for `PlainRegressor`, or no level is so coarse.

    >>> model = VotingRegressor(points=5, channels=(4, 8), hidden=4)
    >>> crops = jnp.zeros((2, 32, 32, 3), jnp.uint8)
    >>> model.apply(model.init(jax.random.key(0), crops), crops).shape
    (2, 5, 2)
    """

    hidden: int = 64
    residual: int = 0
    grid: int = 16

    def __post_init__(self) -> None:
        if not isinstance(self.residual, int) or self.residual < 0:
            raise InputError(f"residual={quoted(self.residual)} must not be below 0")
        if not is_count(self.grid):
            raise InputError(f"grid={quoted(self.grid)} must be a whole number above 0")
        super().__post_init__()

    @nn.compact
    def __call__(
        self, images: Shaped[Array, "batch size size 3"], *, train: bool = False, covariance: bool = False
    ) -> Float[Array, "batch points 2"] | tuple[Float[Array, "batch points 2"], Float[Array, "batch points 2 2"]]:
        size = images.shape[1]
        levels = [level for level in self.levels(images, train=train) if level.shape[1] <= self.cells(size)]
        coarsest = levels[-1].reshape(levels[-1].shape[0], -1)

        features = nn.Dropout(self.dropout, deterministic=not train)(coarsest)
        features = self.norm_relu(self.dense(features, 8 * self.hidden), train)
        regressed = nn.Dense(2 * self.points, kernel_init=he_normal, dtype=jnp.float32, name="output")(features)
        regressed = regressed.reshape(-1, self.points, 2)

        y = self.dense(features, self.hidden, nn.linear.default_kernel_init)[:, None, None]
        for level in reversed(levels):
            factor = level.shape[1] // y.shape[1]
            y = y.repeat(factor, 1).repeat(factor, 2)
            rows = level.reshape(-1, level.shape[-1])  # for another shape XLA would transpose the kernel's gradient
            y += self.dense(rows, self.hidden).reshape(y.shape)
            y = self.norm_relu(y, train)
            y = Conv(self.hidden, dtype=self.dtype)(y)
        y = self.norm_relu(y, train)
        for _ in range(self.residual):
            inner = self.norm_relu(Conv(self.hidden, dtype=self.dtype)(y), train)
            inner = Conv(self.hidden, dtype=self.dtype)(inner)
            y = nn.relu(y + Shift(self.norm, self.dtype, self.axis)(inner, train=train))
        kernel, bias = Votes(self.points, name="votes")(y)
        votes = y.reshape(y.shape[0], -1, self.hidden), kernel, bias, regressed
        return combine_votes(*votes, size=size, covariance=covariance)

    @nn.nowrap
    def select_points(
        self,
        variables: dict[str, Any],
        index: Int[np.ndarray, "selected"],
        offset: Float[np.ndarray, "selected 2"],
        *,
        size: int,
    ) -> dict[str, Any]:
        """Change the head so that output i is landmark `index[i]`, moved by `offset[i]` pixels of a crop of `size`.

        The window of a landmark's votes stays where it was, and its votes are moved.
        """
        variables = super().select_points(variables, index, np.zeros_like(offset), size=size)
        kernel, bias = (np.asarray(variables["params"]["votes"][name]) for name in ("kernel", "bias"))
        kernel, bias = kernel.reshape(len(kernel), 3, -1)[..., index], bias.reshape(3, -1)[..., index]
        bias = bias + np.concatenate([np.zeros((1, len(index))), offset.T * (self.cells(size) / size)])
        votes = {"kernel": kernel.reshape(len(kernel), -1), "bias": bias.reshape(-1).astype(np.float32)}
        return {**variables, "params": {**variables["params"], "votes": votes}}

    @nn.nowrap
    def cells(self, size: int) -> int:
        """Return the number of cells per side of a crop of `size` pixels.

        Raises:
          InputError: the coarsest level has more than `grid`.
        """
        sides = [size >> level for level in range(1, 1 + len(self.channels))]
        if sides[-1] > self.grid:
            raise InputError(
                f"grid={self.grid} is less than the {sides[-1]} cells of the coarsest level in a crop of {size} "
                f"pixels: use a larger grid, more channels or a smaller input_size"
            )
        return next(side for side in sides if side <= self.grid)

    def norm_relu(self, x: Array, train: bool) -> Array:
        return nn.relu(Shift(self.norm, self.dtype, self.axis)(x, train=train))


class Votes(nn.Module):
    """The dense layer of the votes: kernel and bias of the log weights and of the offsets along x and y."""

    points: int

    @nn.compact
    def __call__(
        self, features: Float[Array, "... features"]
    ) -> tuple[Float[Array, "features 3 points"], Float[Array, "3 points"]]:
        count = 3 * self.points
        kernel = self.param("kernel", nn.initializers.normal(1e-3), (features.shape[-1], count), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (count,), jnp.float32)
        return kernel.reshape(-1, 3, self.points), bias.reshape(3, self.points)


def combine_votes(
    features: Float[Array, "batch cells features"],
    kernel: Float[Array, "features 3 points"],
    bias: Float[Array, "3 points"],
    regressed: Float[Array, "batch points 2"],
    *,
    size: int,
    covariance: bool = False,
) -> Float[Array, "batch points 2"] | tuple[Float[Array, "batch points 2"], Float[Array, "batch points 2 2"]]:
    """Return the weighted mean of the cells' votes for each landmark, in pixels of the crop.

    With `covariance`, also return the weighted covariance of the votes `[batch, points, 2, 2]`, in squared pixels.

    `features`: of each cell, in row order. `features @ kernel + bias` are its votes: the log weight, and the offset
    (x, y) from the cell, in cells. `regressed`: centers of the windows of the weights, in pixels of the crop of `size`
    pixels.

    This is attention: a log weight is the scalar product of the cell's key and the landmark's query. Offsets are linear
    in the features, so their mean is the offset of the mean features, and no array of all votes is needed. The bias of
    the log weights is the same for all cells and has no effect.
    """
    part = partial(jax.lax.slice_in_dim, axis=-1)
    cells, width = features.shape[1:]
    side = round(cells**0.5)
    middle, window, step = map(np.float32, ((size - 1) / 2, WINDOW * size, size / side))
    line = (rescale_points(np.arange(float(side)), size / side) - middle) / window
    x, y = np.tile(line, side), np.repeat(line, side)
    # For a cell at p and a regressed landmark q, in windows from the middle, -|p - q|^2 / 2 is p q - |p|^2 / 2, up to a
    # term that is the same for all cells. The column of ones yields the sum of the weights.
    positions = np.stack([x, y, np.ones(cells), -(x * x + y * y) / 2], axis=1).astype(np.float32)
    keys = _pad_last(features.astype(jnp.float32), 0, 4) + np.pad(positions, ((0, 0), (width, 0)))[None]
    weight_kernel = jax.lax.index_in_dim(kernel, 0, 1, keepdims=False).T  # no gather, which is slow in other runtimes
    one_hot = np.eye(width + 4, dtype=np.float32)[-1:]
    queries = (_pad_last(weight_kernel, 0, 4) + one_hot)[None] + _pad_last((regressed - middle) / window, width, 2)

    einsum = partial(jnp.einsum, precision="highest")
    logits = einsum("bpk,bnk->bpn", keys, queries)
    weights = jnp.exp(logits - jax.lax.stop_gradient(logits.max(1, keepdims=True)))
    sums = einsum("bpn,bpk->bnk", weights, keys)
    means = part(sums, 0, width + 2) / part(sums, width + 2, width + 3)
    offsets = jnp.einsum("bnk,kan->bna", part(means, 0, width), jax.lax.slice_in_dim(kernel, 1, 3, axis=1))
    offsets += jax.lax.slice_in_dim(bias, 1, 3).T[None]
    points = middle + window * part(means, width, width + 2) + step * offsets
    if not covariance:
        return points
    centers = (middle + window * positions[:, :2]).astype(np.float32)

    def deviations(axis: int) -> Array:  # of the votes from their mean; one axis at a time, which is faster
        take = partial(jax.lax.index_in_dim, keepdims=False)
        votes = einsum("bpk,kn->bpn", features.astype(jnp.float32), step * take(kernel, 1 + axis, 1))
        origin = step * take(bias, 1 + axis, 0)[None] - take(points, axis, 2)
        return votes + centers[None, :, axis, None] + origin[:, None]

    x, y = deviations(0), deviations(1)
    shares = weights / weights.sum(1, keepdims=True)
    xx, xy, yy = ((shares * a * b).sum(1)[..., None] for a, b in ((x, x), (x, y), (y, y)))
    return points, jnp.concatenate([xx, xy, xy, yy], axis=-1).reshape(*points.shape, 2)


def _pad_last(x: Array, before: int, after: int) -> Array:
    """Pad the last axis with `before` zeros before and `after` zeros after it."""
    return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(before, after)])

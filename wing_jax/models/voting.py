"""CNN-6 and CNN-7 with a second opinion: the places of the crop vote for every landmark near the regressed one.

A fully connected regressor sees the whole face at once and must learn each landmark at each position anew, from few
faces. Here its answer only says where to look. A feature pyramid (Lin et al., CVPR 2017, arXiv:1612.03144) brings what
is seen to places of an eighth of a crop of 128 pixels; each place gives each landmark a weight and an offset, as the
anchors of A2J do (Xiong et al., ICCV 2019, arXiv:1908.09999). The landmark is the weighted mean of place + offset, so
that all losses of the paper apply as they are.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from wing_jax.models.conv3x3 import conv3x3
from wing_jax.models.plain import PlainRegressor, Shift, he_normal

PLACES = 16  # a side of the crop
WINDOW = 0.12  # standard deviation of the places' weights about the regressed landmark, in sides of the crop


class VotingRegressor(PlainRegressor):
    """Blocks, arguments and contract of `PlainRegressor`; `hidden` is the width of the pyramid, `residual` how many
    residual blocks (He et al., CVPR 2016, arXiv:1512.03385) follow at its finest places."""

    hidden: int = 64
    residual: int = 0

    @nn.compact
    def __call__(
        self, images: Shaped[Array, "batch size size 3"], *, train: bool = False
    ) -> Float[Array, "batch points 2"]:
        size = images.shape[1]
        levels = [level for level in self.levels(images, train=train) if level.shape[1] <= PLACES]
        coarsest = levels[-1].reshape(levels[-1].shape[0], -1)

        whole = nn.Dropout(self.dropout, deterministic=not train)(coarsest)
        whole = self.normal(
            nn.Dense(8 * self.hidden, use_bias=False, kernel_init=he_normal, dtype=self.dtype)(whole), train
        )
        regressed = nn.Dense(2 * self.points, kernel_init=he_normal, dtype=jnp.float32, name="output")(whole)
        regressed = regressed.reshape(-1, self.points, 2)

        y = nn.Dense(self.hidden, use_bias=False, dtype=self.dtype)(whole)[:, None, None]
        for level in reversed(levels):
            times = level.shape[1] // y.shape[1]
            y = y.repeat(times, 1).repeat(times, 2)
            y += nn.Dense(self.hidden, use_bias=False, kernel_init=he_normal, dtype=self.dtype)(level)
            y = self.normal(y, train)
            y = Conv(self.hidden, self.dtype)(y)
        y = self.normal(y, train)
        for _ in range(self.residual):
            inner = self.normal(Conv(self.hidden, self.dtype)(y), train)
            inner = Conv(self.hidden, self.dtype)(inner)
            y = nn.relu(y + Shift(self.norm, self.dtype, self.axis)(inner, train=train))
        y = y.reshape(y.shape[0], -1, self.hidden)

        small = nn.initializers.normal(1e-3)
        votes = nn.Dense(3 * self.points, kernel_init=small, dtype=jnp.float32, name="votes")(y)
        votes = votes.reshape(*votes.shape[:2], 3, self.points)
        return counted(votes, regressed, size=size)

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


def counted(
    votes: Float[Array, "batch places 3 points"], regressed: Float[Array, "batch points 2"], *, size: int
) -> Float[Array, "batch points 2"]:
    """The weighted means of the places' answers, in pixels of the crop.

    `votes`: the logarithm of the weight, and (x, y) from the place in places, at each place in row order; `regressed`:
    where the window of the weights lies, in pixels of the crop of `size` pixels.
    """
    side = round(votes.shape[1] ** 0.5)
    step = size / side
    line = ((np.arange(side) + 0.5) * step - 0.5).astype(np.float32)  # pixels
    x, y = (jnp.asarray(of(line, side)[None, :, None]) for of in (np.tile, np.repeat))
    part = jax.lax.index_in_dim  # no gathering, which other runtimes are slow at
    looked_at = regressed[:, None]
    apart = sum(jnp.square(place - part(looked_at, axis, 3, keepdims=False)) for axis, place in enumerate((x, y)))
    said, right, down = (part(votes, kind, 2, keepdims=False) for kind in range(3))
    weights = jax.nn.softmax(said - apart / (2 * (WINDOW * size) ** 2), axis=1)
    answers = x + step * right, y + step * down
    return jnp.concatenate([(weights * answer).sum(1)[..., None] for answer in answers], axis=-1)

"""CNN-6 and CNN-7: the paper's plain convolutional regressors (Feng et al. 2018, section 3 and figure 2).

Each block is a 3 x 3 convolution, ReLU and 2 x 2 max-pooling (`conv_pool`). A fully connected layer and the output
layer follow.
"""

from functools import partial
from typing import Any, Literal, get_args

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from wing_jax.errors import InputError
from wing_jax.models.batch_norm import BatchNorm
from wing_jax.models.conv3x3 import conv_pool
from wing_jax.models.registry import register_model
from wing_jax.runtime import devices
from wing_jax.text import quoted

Norm = Literal["none", "batch"]
he_normal = nn.initializers.he_normal()


class ConvBlock(nn.Module):
    """3 x 3 convolution, 2 x 2 max-pool, then bias (or BatchNorm) and ReLU."""

    channels: int
    norm: Norm = "none"
    dtype: Any = jnp.float32
    axis: str | None = None

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        x = x.astype(self.dtype)
        kernel = Parameter("kernel", he_normal, (3, 3, x.shape[-1], self.channels), name="Conv_0")()
        if self.norm == "batch":
            pooled = conv_pool(x, kernel, relu=False)
            return nn.relu(Shift(self.norm, self.dtype, self.axis)(pooled, train=train))
        bias = Parameter("bias", nn.initializers.zeros, (self.channels,), name="Shift_0")()
        return conv_pool(x, kernel, bias, relu=True)


class Parameter(nn.Module):
    """A single parameter, in the scope that a layer would give it."""

    label: str
    start: nn.initializers.Initializer
    shape: tuple[int, ...]

    @nn.compact
    def __call__(self) -> Array:
        return self.param(self.label, self.start, self.shape, jnp.float32)


class Shift(nn.Module):
    """Add a bias to each channel, or normalize over the batch (of all replicas, if `axis` names their axis)."""

    norm: Norm = "none"
    dtype: Any = jnp.float32
    axis: str | None = None

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        if self.norm == "batch":
            return BatchNorm(dtype=self.dtype, axis=self.axis)(x, use_running_average=not train)
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],), jnp.float32)
        return x + jnp.broadcast_to(bias.astype(self.dtype), x.shape)


@register_model(name="plain")
class PlainRegressor(nn.Module):
    """A landmark regressor: convolution blocks, one hidden fully connected layer, a linear output.

    Input: RGB crops `[batch, size, size, 3]`, uint8 or float in 0..255 (it scales them to [0, 1], as the paper's demo
    does); `size` must be divisible by 2 ** len(channels). Output: float32 `[batch, points, 2]`, (x, y) in pixels of the
    crop, with 0 at the center of the first pixel. With `dropout` > 0, training needs an RNG stream called "dropout".

    Args:
      points: number of landmarks.
      channels: channels of each block: one 3 x 3 convolution and 2 x 2 max-pool.
      hidden: number of units of the hidden fully connected layer.
      norm: "none", as in the paper, or "batch", which is more accurate.
      dropout: dropout rate of the hidden layer's outputs in training; 0 in the paper.
      dtype: dtype of the activations; parameters and results are float32.
      axis: name of the mapped axis of devices over which BatchNorm computes its statistics (Flax: `axis_name`).

    Raises:
      InputError: a value is out of range, or, in a call, the crop's size is not divisible as above.

    >>> import jax
    >>> model = PlainRegressor(points=5, channels=(4, 8), hidden=16)
    >>> crops = jnp.zeros((2, 16, 16, 3), jnp.uint8)
    >>> model.apply(model.init(jax.random.key(0), crops), crops).shape
    (2, 5, 2)
    """

    points: int
    channels: tuple[int, ...] = (32, 64, 128, 256, 512)
    hidden: int = 1024
    norm: Norm = "none"
    dropout: float = 0.0
    dtype: Any = jnp.float32
    axis: str | None = None

    def __post_init__(self) -> None:
        channels = tuple(self.channels) if isinstance(self.channels, list | tuple) else ()
        if not channels or not all(map(is_count, channels)):
            raise InputError(f"channels={quoted(self.channels)}: pass one number or more, each at least 1")
        if not is_count(self.hidden):
            raise InputError(f"hidden={quoted(self.hidden)} must be greater than 0")
        if self.norm not in get_args(Norm):
            raise InputError(f"norm={quoted(self.norm)} must be one of {', '.join(get_args(Norm))}")
        if not isinstance(self.dropout, int | float) or not 0 <= self.dropout < 1:
            raise InputError(f"dropout={quoted(self.dropout)} must be at least 0 and below 1")
        super().__post_init__()

    @nn.compact
    def __call__(
        self, images: Shaped[Array, "batch size size 3"], *, train: bool = False
    ) -> Float[Array, "batch points 2"]:
        x = self.levels(images, train=train)[-1]
        x = x.reshape(x.shape[0], -1)
        x = self.dense(x, self.hidden)
        x = nn.relu(Shift(self.norm, self.dtype, self.axis)(x, train=train))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        x = nn.Dense(2 * self.points, kernel_init=he_normal, dtype=jnp.float32, name="output")(x)
        return x.reshape(-1, self.points, 2)

    @nn.nowrap
    def start_at(self, variables: dict[str, Any], points: Float[Array | np.ndarray, "points 2"]) -> dict[str, Any]:
        """Change `variables` so that the untrained network predicts `points` (pixels of the crop) for every face."""
        return predict_constant(variables, points)

    @nn.nowrap
    def select_points(
        self,
        variables: dict[str, Any],
        index: Int[np.ndarray, "selected"],
        offset: Float[np.ndarray, "selected 2"],
        *,
        size: int,
    ) -> dict[str, Any]:
        """Change the head so that output i is landmark `index[i]`, moved by `offset[i]` pixels of a crop of `size`."""
        return select_outputs(variables, index, offset)

    def dense(self, x: Array, width: int, start: nn.initializers.Initializer = he_normal) -> Array:
        """Apply a fully connected layer without a bias; on CPUs in float32, because XLA is slow in bfloat16 there."""
        dtype = jnp.float32 if devices.platform() == "cpu" else self.dtype
        return nn.Dense(width, use_bias=False, kernel_init=start, dtype=dtype)(x).astype(self.dtype)

    def levels(self, images: Shaped[Array, "batch size size 3"], *, train: bool) -> list[Array]:
        """Return the output of each convolution block, highest resolution first."""
        size, halvings = images.shape[1], len(self.channels)
        if size % 2**halvings:
            raise InputError(
                f"input_size={size} cannot be halved {halvings} times, once for each of the model's channels: use a "
                f"multiple of {2**halvings}"
            )
        x, outputs = images.astype(self.dtype) / 255, []
        for channels in self.channels:
            x = ConvBlock(channels, norm=self.norm, dtype=self.dtype, axis=self.axis)(x, train=train)
            outputs.append(x)
        return outputs


def predict_constant(variables: dict[str, Any], points: Float[Array | np.ndarray, "points 2"]) -> dict[str, Any]:
    """Change the last layer, called "output" in the networks of this package, so that the network predicts `points`."""
    params = variables["params"]
    bias = jnp.asarray(points, jnp.float32).reshape(-1)
    start = {"kernel": jnp.zeros_like(params["output"]["kernel"]), "bias": bias}
    return {**variables, "params": {**params, "output": start}}


def select_outputs(
    variables: dict[str, Any], index: Int[np.ndarray, "selected"], offset: Float[np.ndarray, "selected 2"]
) -> dict[str, Any]:
    """Change the last layer, called "output", so that output i is landmark `index[i]`, moved by `offset[i]` pixels."""
    params = variables["params"]
    kernel, bias = (np.asarray(params["output"][name]) for name in ("kernel", "bias"))
    kernel = kernel.reshape(len(kernel), -1, 2)[:, index].reshape(len(kernel), -1)
    output = {"kernel": kernel, "bias": (bias.reshape(-1, 2)[index] + offset).reshape(-1)}
    return {**variables, "params": {**params, "output": output}}


def is_count(value: Any) -> bool:
    """Return whether `value` is a whole number above 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


CNN6 = partial(PlainRegressor, channels=(32, 64, 128, 256, 512))
# The paper has no channel list for CNN-7. It says only that it has one more block than CNN-6 and a wider start.
CNN7 = partial(PlainRegressor, channels=(64, 64, 128, 256, 512, 512))
CNN7_LIGHT = partial(PlainRegressor, channels=(32, 64, 128, 256, 512, 512))
TINY = partial(PlainRegressor, channels=(8, 16, 16, 32), hidden=64)

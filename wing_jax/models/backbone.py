"""Parts of networks with published ImageNet weights: layers with the options of the reference, and the head."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from wing_jax.errors import InputError
from wing_jax.models.batch_norm import BatchNorm
from wing_jax.models.convolution import Conv, Padding
from wing_jax.models.depthwise import DepthwiseConv
from wing_jax.models.plain import he_normal, predict_constant, select_outputs
from wing_jax.text import quoted

IMAGENET_MEAN = (123.675, 116.28, 103.53)  # of red, green, blue: 0.485, 0.456, 0.406 of 255, as torchvision's
IMAGENET_STD = (58.395, 57.12, 57.375)  # 0.229, 0.224, 0.225 of 255


class BackboneRegressor(nn.Module):
    """A landmark regressor: a backbone, the mean of its features over the crop, dropout, and a linear output.

    Args:
      points: number of landmarks.
      dropout: dropout rate of the mean features in training.
      dtype: dtype of the activations; parameters and results are float32.
      axis: name of a mapped axis of replicas, over which batch statistics are computed.

    Raises:
      InputError: `dropout` is out of range.
    """

    points: int
    dropout: float = 0.0
    dtype: Any = jnp.float32
    axis: str | None = None

    mean: ClassVar[Sequence[float]] = IMAGENET_MEAN
    std: ClassVar[Sequence[float]] = IMAGENET_STD

    def __post_init__(self) -> None:
        if not isinstance(self.dropout, int | float) or not 0 <= self.dropout < 1:
            raise InputError(f"dropout={quoted(self.dropout)} must be at least 0 and below 1")
        super().__post_init__()

    @nn.compact
    def __call__(
        self, images: Shaped[Array, "batch size size 3"], *, train: bool = False
    ) -> Float[Array, "batch points 2"]:
        mean, std = (jnp.asarray(values, jnp.float32)[None, None, None] for values in (self.mean, self.std))
        pixels = ((images.astype(jnp.float32) - mean) / std).astype(self.dtype)
        x = self.features(pixels, train=train).astype(jnp.float32).mean((1, 2))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        x = nn.Dense(2 * self.points, kernel_init=he_normal, dtype=jnp.float32, name="output")(x)
        return x.reshape(-1, self.points, 2)

    def features(self, pixels: Float[Array, "batch size size 3"], *, train: bool) -> Array:
        """Return the features `[batch, height, width, channels]` of normalized pixels."""
        raise NotImplementedError

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


class ConvNorm(nn.Module):
    """Convolution without a bias, BatchNorm and an activation; the convolution is depthwise if `channels` is None."""

    channels: int | None
    side: int = 1
    stride: int = 1
    activation: Callable[[Array], Array] | None = None
    padding: Padding | None = None  # None: zeros on each side, so that stride 1 keeps the size
    epsilon: float = 1e-5
    momentum: float = 0.9
    scale_init: nn.initializers.Initializer = nn.initializers.ones
    dtype: Any = jnp.float32
    axis: str | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width inputs"], *, train: bool) -> Array:
        padding = self.side // 2 if self.padding is None else self.padding
        if self.channels is None:
            x = DepthwiseConv(self.side, self.stride, padding, self.dtype, name="Conv_0")(x)
        else:
            x = Conv(self.channels, self.side, self.stride, padding, self.dtype)(x)
        options = {"dtype": self.dtype, "axis": self.axis, "scale_init": self.scale_init}
        norm = BatchNorm(momentum=self.momentum, epsilon=self.epsilon, **options)
        x = norm(x, use_running_average=not train)
        return x if self.activation is None else self.activation(x)


class InvertedBottleneck(nn.Module):
    """1 x 1 convolution to more channels, a depthwise one, 1 x 1 to fewer; with a shortcut if the shapes match."""

    layer: Callable[..., ConvNorm]
    channels: int
    expansion: int = 6
    side: int = 3
    stride: int = 1

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        y = x
        if self.expansion > 1:
            y = self.layer(self.expansion * x.shape[-1], activation=nn.relu6)(y, train=train)
        y = self.layer(None, side=self.side, stride=self.stride, activation=nn.relu6)(y, train=train)
        y = self.layer(self.channels)(y, train=train)
        return x + y if self.stride == 1 and x.shape[-1] == self.channels else y

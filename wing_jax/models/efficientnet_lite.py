"""EfficientNet-Lite0 with a landmark head.

It is a light network with only operations that phones and embedded devices support.

Tan and Le, "EfficientNet: rethinking model scaling for convolutional neural networks", ICML 2019; the Lite networks are
those of https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite: no squeeze-and-excitation,
ReLU6, fixed widths of stem and head. Theirs start from ImageNet weights and drop layers in training; this one is
trained from scratch and drops nothing.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from wing_jax.models.batch_norm import BatchNorm
from wing_jax.models.plain import he_normal, predict_constant
from wing_jax.models.registry import register_model

STEM, HEAD = 32, 1280  # channels
LEVELS = (  # blocks, expansion, side of the depthwise kernel, stride of the first block, channels
    (1, 1, 3, 1, 16),
    (2, 6, 3, 2, 24),
    (2, 6, 5, 2, 40),
    (3, 6, 3, 2, 80),
    (3, 6, 5, 1, 112),
    (4, 6, 5, 2, 192),
    (1, 6, 3, 1, 320),
)


class InvertedBottleneck(nn.Module):
    """1 x 1 convolution to more channels, a depthwise one, 1 x 1 to fewer; with a shortcut if the shapes match."""

    channels: int
    expansion: int = 6
    side: int = 3
    stride: int = 1
    dtype: Any = jnp.float32
    axis: str | None = None

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        expanded = self.expansion * x.shape[-1]
        conv = partial(nn.Conv, use_bias=False, kernel_init=he_normal, dtype=self.dtype)
        norm = partial(BatchNorm, dtype=self.dtype, axis=self.axis)
        mode = {"use_running_average": not train}
        y = x
        if self.expansion > 1:
            y = nn.relu6(norm()(conv(expanded, (1, 1))(y), **mode))
        depthwise = conv(expanded, (self.side, self.side), self.stride, feature_group_count=expanded)
        y = nn.relu6(norm()(depthwise(y), **mode))
        y = norm()(conv(self.channels, (1, 1))(y), **mode)
        return x + y if x.shape == y.shape else y


@register_model(name="efficientnet_lite0")
class EfficientNetLite0Regressor(nn.Module):
    """EfficientNet-Lite0, called like `PlainRegressor`: crops of any size to points in pixels of the crop.

    Its backbone has 3,371,008 parameters, and halves the resolution five times.

    Args:
      points: number of landmarks.
      dtype: dtype of the activations; parameters and results are float32.
      axis: name of a mapped axis of replicas, over which batch statistics are computed.

    >>> import jax
    >>> model = EfficientNetLite0Regressor(points=5)
    >>> variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3), jnp.uint8))
    >>> variables["params"]["output"]["kernel"].shape
    (1280, 10)
    """

    points: int
    dtype: Any = jnp.float32
    axis: str | None = None

    @nn.compact
    def __call__(
        self, images: Shaped[Array, "batch size size 3"], *, train: bool = False
    ) -> Float[Array, "batch points 2"]:
        conv = partial(nn.Conv, use_bias=False, kernel_init=he_normal, dtype=self.dtype)
        norm = partial(BatchNorm, dtype=self.dtype, axis=self.axis)
        mode = {"use_running_average": not train}
        x = images.astype(self.dtype) / 255
        x = nn.relu6(norm()(conv(STEM, (3, 3), 2)(x), **mode))
        for blocks, expansion, side, stride, channels in LEVELS:
            for block in range(blocks):
                bottleneck = InvertedBottleneck(
                    channels,
                    expansion=expansion,
                    side=side,
                    stride=1 if block else stride,
                    dtype=self.dtype,
                    axis=self.axis,
                )
                x = bottleneck(x, train=train)
        x = nn.relu6(norm()(conv(HEAD, (1, 1))(x), **mode)).mean((1, 2))
        x = nn.Dense(2 * self.points, kernel_init=he_normal, dtype=jnp.float32, name="output")(x)
        return x.reshape(-1, self.points, 2)

    @nn.nowrap
    def start_at(self, variables: dict[str, Any], points: Float[Array | np.ndarray, "points 2"]) -> dict[str, Any]:
        """Change `variables` so that the untrained network predicts `points` (pixels of the crop) for every face."""
        return predict_constant(variables, points)

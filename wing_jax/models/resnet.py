"""ResNet-50 with a landmark head (He et al., CVPR 2016; the paper's stronger network, section 6).

The paper starts from ImageNet weights at 224 x 224; here it is trained from scratch.
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


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolution with a shortcut; the 3 x 3 has the stride ("v1.5")."""

    channels: int
    stride: int = 1
    dtype: Any = jnp.float32
    axis: str | None = None

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        conv = partial(nn.Conv, use_bias=False, kernel_init=he_normal, dtype=self.dtype)
        norm = partial(BatchNorm, dtype=self.dtype, axis=self.axis)
        mode = {"use_running_average": not train}
        y = nn.relu(norm()(conv(self.channels, (1, 1))(x), **mode))
        y = nn.relu(norm()(conv(self.channels, (3, 3), self.stride)(y), **mode))
        y = norm(scale_init=nn.initializers.zeros)(conv(4 * self.channels, (1, 1))(y), **mode)
        if x.shape != y.shape:
            x = norm()(conv(4 * self.channels, (1, 1), self.stride)(x), **mode)
        return nn.relu(x + y)


@register_model(name="resnet50")
class ResNetRegressor(nn.Module):
    """ResNet, called like `PlainRegressor`: crops of any size to points in pixels of the crop.

    Args:
      points: number of landmarks.
      blocks: number of bottlenecks of each level.
      channels: channels of the first convolution and the first level.
      dtype: dtype of the activations; parameters and results are float32.
      axis: name of a mapped axis of replicas, over which batch statistics are computed.
    """

    points: int
    blocks: tuple[int, ...] = (3, 4, 6, 3)
    channels: int = 64
    dtype: Any = jnp.float32
    axis: str | None = None

    @nn.compact
    def __call__(
        self, images: Shaped[Array, "batch size size 3"], *, train: bool = False
    ) -> Float[Array, "batch points 2"]:
        x = images.astype(self.dtype) / 255
        x = nn.Conv(self.channels, (7, 7), 2, use_bias=False, kernel_init=he_normal, dtype=self.dtype)(x)
        x = nn.relu(BatchNorm(dtype=self.dtype, axis=self.axis)(x, use_running_average=not train))
        x = nn.max_pool(x, (3, 3), (2, 2), "SAME")
        for level, count in enumerate(self.blocks):
            for block in range(count):
                stride = 2 if level > 0 and block == 0 else 1
                bottleneck = Bottleneck(self.channels * 2**level, stride=stride, dtype=self.dtype, axis=self.axis)
                x = bottleneck(x, train=train)
        x = x.mean((1, 2))
        x = nn.Dense(2 * self.points, kernel_init=he_normal, dtype=jnp.float32, name="output")(x)
        return x.reshape(-1, self.points, 2)

    @nn.nowrap
    def start_at(self, variables: dict[str, Any], points: Float[Array | np.ndarray, "points 2"]) -> dict[str, Any]:
        """Change `variables` so that the untrained network predicts `points` (pixels of the crop) for every face."""
        return predict_constant(variables, points)


ResNet50 = partial(ResNetRegressor, blocks=(3, 4, 6, 3))
ResNetTiny = partial(ResNetRegressor, blocks=(1, 1), channels=8)

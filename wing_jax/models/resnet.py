"""ResNet-50 with a landmark head (He et al., CVPR 2016; the paper's stronger network, section 6).

Padding, BatchNorm and the range of the pixels are those of torchvision, so that its ImageNet weights fit
(`wing_jax.models.load_imagenet`). The paper starts from ImageNet weights at 224 x 224.
"""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
from jaxtyping import Array, Float

from wing_jax.models.backbone import BackboneRegressor, ConvNorm
from wing_jax.models.registry import register_model

BLOCKS = (3, 4, 6, 3)  # of ResNet-50


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolution with a shortcut; the 3 x 3 has the stride ("v1.5")."""

    layer: Callable[..., ConvNorm]
    channels: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        y = self.layer(self.channels, activation=nn.relu)(x, train=train)
        y = self.layer(self.channels, side=3, stride=self.stride, activation=nn.relu)(y, train=train)
        y = self.layer(4 * self.channels, scale_init=nn.initializers.zeros)(y, train=train)
        if self.stride > 1 or x.shape[-1] != 4 * self.channels:
            x = self.layer(4 * self.channels, stride=self.stride)(x, train=train)
        return nn.relu(x + y)


@register_model(name="resnet50")
class ResNetRegressor(BackboneRegressor):
    """ResNet, called like `PlainRegressor`: crops of any size to points in pixels of the crop.

    Args:
      points: number of landmarks.
      dropout: dropout rate of the mean features in training; 0 in the original.
      dtype: dtype of the activations; parameters and results are float32.
      axis: name of a mapped axis of replicas, over which batch statistics are computed.
      blocks: number of bottlenecks of each level.
      channels: channels of the first convolution and the first level.

    Raises:
      InputError: `dropout` is out of range.

    >>> import jax, jax.numpy as jnp
    >>> model = ResNetRegressor(points=5, blocks=(1, 1), channels=8)
    >>> variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3), jnp.uint8))
    >>> variables["params"]["output"]["kernel"].shape
    (64, 10)
    """

    blocks: tuple[int, ...] = BLOCKS
    channels: int = 64

    def features(self, pixels: Float[Array, "batch size size 3"], *, train: bool) -> Array:
        """Return the features `[batch, height, width, channels]` of normalized pixels."""
        layer = partial(ConvNorm, dtype=self.dtype, axis=self.axis)
        x = layer(self.channels, side=7, stride=2, activation=nn.relu)(pixels, train=train)
        x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        for level, count in enumerate(self.blocks):
            for block in range(count):
                stride = 2 if level > 0 and block == 0 else 1
                x = Bottleneck(layer, self.channels * 2**level, stride=stride)(x, train=train)
        return x


ResNet50 = partial(ResNetRegressor, blocks=BLOCKS)
ResNetTiny = partial(ResNetRegressor, blocks=(1, 1), channels=8)

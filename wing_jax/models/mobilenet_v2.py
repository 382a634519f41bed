"""MobileNetV2 with a landmark head.

Sandler, Howard, Zhu, Zhmoginov and Chen, "MobileNetV2: inverted residuals and linear bottlenecks", CVPR 2018. Padding,
BatchNorm and the range of the pixels are those of torchvision, so that its ImageNet weights fit
(`wing_jax.models.load_imagenet`).
"""

from functools import partial

import flax.linen as nn
from jaxtyping import Array, Float

from wing_jax.models.backbone import BackboneRegressor, ConvNorm, InvertedBottleneck
from wing_jax.models.registry import register_model

STEM, HEAD = 32, 1280  # channels
LEVELS = (  # blocks, expansion, stride of the first block, channels
    (1, 1, 1, 16),
    (2, 6, 2, 24),
    (3, 6, 2, 32),
    (4, 6, 2, 64),
    (3, 6, 1, 96),
    (3, 6, 2, 160),
    (1, 6, 1, 320),
)


@register_model(name="mobilenet_v2")
class MobileNetV2Regressor(BackboneRegressor):
    """MobileNetV2, called like `PlainRegressor`: crops of any size to points in pixels of the crop.

    Its backbone has 2,223,872 parameters, and halves the resolution five times.

    Args:
      points: number of landmarks.
      dropout: dropout rate of the mean features in training; 0.2 in the original.
      dtype: dtype of the activations; parameters and results are float32.
      axis: name of a mapped axis of replicas, over which batch statistics are computed.

    Raises:
      InputError: `dropout` is out of range.

    >>> import jax, jax.numpy as jnp
    >>> model = MobileNetV2Regressor(points=5)
    >>> variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3), jnp.uint8))
    >>> variables["params"]["output"]["kernel"].shape
    (1280, 10)
    """

    def features(self, pixels: Float[Array, "batch size size 3"], *, train: bool) -> Array:
        """Return the features `[batch, height, width, 1280]` of normalized pixels."""
        layer = partial(ConvNorm, dtype=self.dtype, axis=self.axis)
        x = layer(STEM, side=3, stride=2, activation=nn.relu6)(pixels, train=train)
        for blocks, expansion, stride, channels in LEVELS:
            for block in range(blocks):
                bottleneck = InvertedBottleneck(layer, channels, expansion=expansion, stride=1 if block else stride)
                x = bottleneck(x, train=train)
        return layer(HEAD, activation=nn.relu6)(x, train=train)

"""EfficientNet-Lite0 with a landmark head.

It is a light network with only operations that phones and embedded devices support.

Tan and Le, "EfficientNet: rethinking model scaling for convolutional neural networks", ICML 2019; the Lite networks are
those of https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite: no squeeze-and-excitation,
ReLU6, fixed widths of stem and head. Padding, BatchNorm and the range of the pixels are theirs, so that their ImageNet
weights fit (`wing_jax.models.load_imagenet`). Theirs drop layers in training; this one drops none.
"""

from functools import partial
from typing import ClassVar

import flax.linen as nn
from jaxtyping import Array, Float

from wing_jax.models.backbone import BackboneRegressor, ConvNorm, InvertedBottleneck
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


@register_model(name="efficientnet_lite0")
class EfficientNetLite0Regressor(BackboneRegressor):
    """EfficientNet-Lite0, called like `PlainRegressor`: crops of any size to points in pixels of the crop.

    Its backbone has 3,371,008 parameters, and halves the resolution five times.

    Args:
      points: number of landmarks.
      dropout: dropout rate of the mean features in training; 0.2 in the original.
      dtype: dtype of the activations; parameters and results are float32.
      axis: name of a mapped axis of replicas, over which batch statistics are computed.

    Raises:
      InputError: `dropout` is out of range.

    >>> import jax, jax.numpy as jnp
    >>> model = EfficientNetLite0Regressor(points=5)
    >>> variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3), jnp.uint8))
    >>> variables["params"]["output"]["kernel"].shape
    (1280, 10)
    """

    mean: ClassVar = (127.0, 127.0, 127.0)
    std: ClassVar = (128.0, 128.0, 128.0)

    def features(self, pixels: Float[Array, "batch size size 3"], *, train: bool) -> Array:
        """Return the features `[batch, height, width, 1280]` of normalized pixels."""
        layer = partial(ConvNorm, padding="SAME", epsilon=1e-3, momentum=0.99, dtype=self.dtype, axis=self.axis)
        x = layer(STEM, side=3, stride=2, activation=nn.relu6)(pixels, train=train)
        for blocks, expansion, side, stride, channels in LEVELS:
            for block in range(blocks):
                bottleneck = InvertedBottleneck(
                    layer, channels, expansion=expansion, side=side, stride=1 if block else stride
                )
                x = bottleneck(x, train=train)
        return layer(HEAD, activation=nn.relu6)(x, train=train)

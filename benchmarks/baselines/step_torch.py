"""Run training steps in PyTorch, channels last: "eager", "compiled", or "bfloat16" (autocast)."""

import contextlib
import itertools

import numpy as np
from worker import Ready, serve, timed

LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 1e-4, 0.9, 5e-4
WIDTH, EPSILON = 10.0, 2.0


def prepare(settings: dict) -> Ready:
    """Build the network, compile it if requested, and take the first three steps."""
    import torch

    torch.set_num_threads(2)
    initial = dict(np.load(settings["start"]))
    network = build(settings, initial)
    images = torch.from_numpy(initial["images"]).permute(0, 3, 1, 2)  # NCHW shape, channels last in memory
    target = torch.from_numpy(initial["points"]).flatten(1)
    optimizer = torch.optim.SGD(
        network.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, fused=True
    )

    def objective(images, target):
        precision = settings["kind"] == "bfloat16"
        with torch.autocast("cpu", torch.bfloat16) if precision else contextlib.nullcontext():
            predicted = network(images.float().div(255))
        distance = (predicted.float() - target).abs()
        offset = WIDTH - WIDTH * np.log1p(WIDTH / EPSILON)
        return torch.where(distance < WIDTH, WIDTH * torch.log1p(distance / EPSILON), distance - offset).mean()

    if settings["kind"] == "compiled":
        objective = torch.compile(objective)

    def advance(count: int) -> float:
        for _ in range(count):
            optimizer.zero_grad(set_to_none=True)
            loss = objective(images, target)
            loss.backward()
            optimizer.step()
        return loss.item()

    check = [advance(1) for _ in range(3)]
    return Ready(seconds=timed(advance), packages=["torch"], check=[] if settings["kind"] == "bfloat16" else check)


def build(settings: dict, initial: dict):
    """Build the network with the initial kernels, which have Flax's layout."""
    import torch
    from torch import nn

    layers: list[nn.Module] = []
    channels = (3, *settings["channels"])
    for before, after in itertools.pairwise(channels):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
    side = settings["size"] >> len(settings["channels"])
    layers += [nn.Flatten(), nn.Linear(side * side * channels[-1], settings["hidden"]), nn.ReLU(inplace=True)]
    layers += [nn.Linear(settings["hidden"], 2 * settings["points"])]
    network = nn.Sequential(*layers)
    with torch.no_grad():
        trainable = [layer for layer in layers if isinstance(layer, nn.Conv2d | nn.Linear)]
        for i, layer in enumerate(trainable):
            kernel = torch.from_numpy(initial[f"kernel{i}"])
            if i == len(
                settings["channels"]
            ):  # PyTorch flattens the last map as [channel, row, column], not channel last
                kernel = kernel.reshape(side, side, channels[-1], -1).permute(2, 0, 1, 3).flatten(0, 2)
            layer.weight.copy_(kernel.permute(3, 2, 0, 1) if kernel.ndim == 4 else kernel.T)
            layer.bias.zero_()
    return network.to(memory_format=torch.channels_last)


if __name__ == "__main__":
    serve(prepare)

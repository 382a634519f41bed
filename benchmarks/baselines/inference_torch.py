"""Run the first stage in PyTorch with the bundle's weights, channels last, eager or compiled."""

import json
from pathlib import Path

import numpy as np
from worker import Ready, serve, timed

COMPARED = 4  # faces whose points are compared
EPSILON = 1e-5  # of Flax's BatchNorm


def prepare(settings: dict) -> Ready:
    """Build the network and compile it if requested."""
    import torch

    torch.set_num_threads(2)
    network = build(*first_stage(Path(settings["bundle"])))
    crops = torch.from_numpy(np.load(Path(settings["folder"]) / "crops.npz")["images"])
    batch = crops[: settings["batch"]].contiguous()

    def forward(images):
        return network(images.permute(0, 3, 1, 2).float().div(255))

    run = torch.compile(forward) if settings["compiled"] else forward

    @torch.inference_mode()
    def work(count: int) -> None:
        for _ in range(count):
            run(batch).numpy()

    work(3)
    with torch.inference_mode():
        check = forward(crops[:COMPARED]).flatten().tolist()
    return Ready(seconds=timed(work), packages=["torch"], check=check)


def first_stage(bundle: Path) -> tuple[dict, int, dict[str, np.ndarray]]:
    """Return the network's description, the side of its input, and its variables by name ("params/output/bias")."""
    facts = json.loads((bundle / "model.json").read_text())["stages"][0]
    with np.load(bundle / "weights.npz") as stored:
        variables = {name.removeprefix("stage1/"): stored[name] for name in stored.files if name.startswith("stage1/")}
    return facts["model"], facts["input_size"], variables


def build(description: dict, size: int, variables: dict[str, np.ndarray]):
    """Build the network in the order of wing_jax: convolution with folded BatchNorm, pool, ReLU."""
    import torch
    from torch import nn

    depth, side = len(description["channels"]), size >> len(description["channels"])
    layers: list[nn.Module] = []
    for i in range(depth):
        kernel, bias = fold_batch_norm(variables, f"ConvBlock_{i}/Conv_0", f"ConvBlock_{i}/Shift_0")
        conv = nn.Conv2d(kernel.shape[2], kernel.shape[3], 3, padding=1)
        layers += [fill(conv, kernel.transpose(3, 2, 0, 1), bias), nn.MaxPool2d(2), nn.ReLU(inplace=True)]
    kernel, bias = fold_batch_norm(variables, "Dense_0", "Shift_0")
    hidden = kernel.shape[1]
    kernel = kernel.reshape(side, side, -1, hidden).transpose(2, 0, 1, 3).reshape(-1, hidden)  # channel first
    layers += [nn.Flatten(), fill(nn.Linear(*kernel.shape), kernel.T, bias), nn.ReLU(inplace=True)]
    kernel = variables["params/output/kernel"]
    layers.append(fill(nn.Linear(*kernel.shape), kernel.T, variables["params/output/bias"]))
    return nn.Sequential(*layers).eval().to(memory_format=torch.channels_last)


def fold_batch_norm(variables: dict[str, np.ndarray], name: str, shift: str) -> tuple[np.ndarray, np.ndarray]:
    """Return kernel and bias of a layer with its BatchNorm folded in.

    A negative scale of BatchNorm does not commute with the pool, so it is an error.
    """
    kernel, norm = variables[f"params/{name}/kernel"], f"{shift}/BatchNorm_0"
    if f"params/{shift}/bias" in variables:
        return kernel, variables[f"params/{shift}/bias"]
    scale = variables[f"params/{norm}/scale"] / np.sqrt(variables[f"batch_stats/{norm}/var"] + EPSILON)
    assert (scale >= 0).all(), "a negative scale of BatchNorm"
    return kernel * scale, variables[f"params/{norm}/bias"] - variables[f"batch_stats/{norm}/mean"] * scale


def fill(layer, kernel: np.ndarray, bias: np.ndarray):
    """Copy the weights into `layer` and return it."""
    import torch

    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(np.ascontiguousarray(kernel)))
        layer.bias.copy_(torch.from_numpy(bias))
    return layer


if __name__ == "__main__":
    serve(prepare)

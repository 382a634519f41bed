"""Write a stage of a trained bundle as an ONNX file: uint8 crops [batch, size, size, 3] to points [batch, points, 2].

    .venv-benchmarks/bin/python benchmarks/onnx_export.py runs/w300/model --stage 1 --output stage1.onnx

It needs NumPy and onnx alone. Networks called "plain" (CNN-6, CNN-7) are written, with or without BatchNorm, as
Conv, MaxPool, bias or BatchNormalization, Relu and Gemm. Points are in pixels of the crop, as `wing_jax` has them.
"""

import argparse
import json
from pathlib import Path

import numpy as np

OPSET = 17
EPSILON = 1e-5  # of Flax's BatchNorm


def main() -> None:
    """Export the stage that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--stage", type=int, default=1)
    parser.add_argument("--output", type=Path, required=True)
    given = parser.parse_args()
    network, size, variables = read_stage(given.bundle, given.stage)
    given.output.write_bytes(export(network, size, variables))


def read_stage(bundle: Path, stage: int) -> tuple[dict, int, dict[str, np.ndarray]]:
    """The network's description, its input's side, and its variables by name ("params/output/bias")."""
    facts = json.loads((bundle / "model.json").read_text())["stages"][stage - 1]
    prefix = f"stage{stage}/"
    with np.load(bundle / "weights.npz") as stored:
        variables = {name.removeprefix(prefix): stored[name] for name in stored.files if name.startswith(prefix)}
    if facts["network"]["name"] != "plain":
        raise SystemExit(f"a network called {facts['network']['name']!r} is not exported: only plain ones are")
    return facts["network"], facts["input_size"], variables


def export(network: dict, size: int, variables: dict[str, np.ndarray]) -> bytes:
    """The ONNX file's content."""
    import onnx
    from onnx import TensorProto, helper

    graph = _Graph(variables)
    last = graph.pixels("images")
    for i in range(len(network["channels"])):
        kernel = variables[f"params/ConvBlock_{i}/Conv_0/kernel"].transpose(3, 2, 0, 1)
        last = graph.node("Conv", last, graph.constant(kernel), pads=[1, 1, 1, 1])
        last = graph.node("MaxPool", last, kernel_shape=[2, 2], strides=[2, 2])
        last = graph.node("Relu", graph.shift(last, f"ConvBlock_{i}/Shift_0", spatial=True))
    last = graph.node("Flatten", graph.node("Transpose", last, perm=[0, 2, 3, 1]))  # Flax's order: channel last
    last = graph.node("Gemm", last, graph.constant(variables["params/Dense_0/kernel"]))
    last = graph.node("Relu", graph.shift(last, "Shift_0", spatial=False))
    output = [graph.constant(variables[f"params/output/{name}"]) for name in ("kernel", "bias")]
    shape = graph.constant(np.array([-1, network["points"], 2], np.int64))
    last = graph.node("Reshape", graph.node("Gemm", last, *output), shape)
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "wing_jax",
            [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", size, size, 3])],
            [helper.make_tensor_value_info(last, TensorProto.FLOAT, ["batch", network["points"], 2])],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=9,
    )
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


class _Graph:
    """Nodes and constants of an ONNX graph, each value named by its place."""

    def __init__(self, variables: dict[str, np.ndarray]):
        self.variables = variables
        self.nodes: list = []
        self.constants: list = []

    def constant(self, value: np.ndarray) -> str:
        """The name of a new constant."""
        from onnx import numpy_helper

        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(self, kind: str, *inputs: str, **attributes) -> str:
        """The name of a new node's output."""
        from onnx import helper

        name = f"value{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def pixels(self, images: str) -> str:
        """Grey levels to [0, 1], channels first."""
        from onnx import TensorProto

        levels = self.node("Cast", images, to=TensorProto.FLOAT)
        return self.node(
            "Transpose", self.node("Div", levels, self.constant(np.array(255, np.float32))), perm=[0, 3, 1, 2]
        )

    def shift(self, last: str, name: str, *, spatial: bool) -> str:
        """The bias, or BatchNorm by its running statistics, of the block `name`."""
        bias = self.variables.get(f"params/{name}/bias")
        if bias is not None:
            return self.node("Add", last, self.constant(bias[:, None, None] if spatial else bias))
        inner = f"{name}/BatchNorm_0"
        learned = [self.variables[f"params/{inner}/{which}"] for which in ("scale", "bias")]
        measured = [self.variables[f"batch_stats/{inner}/{which}"] for which in ("mean", "var")]
        return self.node(
            "BatchNormalization", last, *(self.constant(value) for value in (*learned, *measured)), epsilon=EPSILON
        )


if __name__ == "__main__":
    main()

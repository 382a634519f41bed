"""Convert JAX functions to ONNX graphs, primitive by primitive of the jaxpr.

Only the primitives of the networks of this package are supported; for others an error names the primitive. Constant
expressions are evaluated during the conversion. Where JAX expands a value along the batch axis, ONNX broadcasts it: no
shape in the graph contains the batch size, so that the graph runs with any.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jax.extend import core
from jaxtyping import Array

from wing_jax.errors import InputError
from wing_jax.runtime.extras import require
from wing_jax.text import quoted

OPSET, IR_VERSION = 18, 8  # those of ONNX 1.13
Value: TypeAlias = "str | np.ndarray"  # the name of a tensor in the graph, or a constant

SIMPLE = {
    "add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "max": "Max", "min": "Min", "exp": "Exp", "log": "Log",
    "neg": "Neg", "sqrt": "Sqrt", "tanh": "Tanh", "logistic": "Sigmoid", "abs": "Abs", "floor": "Floor",
    "stop_gradient": "Identity", "copy": "Identity",
}  # fmt: skip
REDUCTIONS = {"reduce_sum": "ReduceSum", "reduce_max": "ReduceMax"}
NESTED = {"jit": "jaxpr", "pjit": "jaxpr", "custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr"}


def onnx_model(
    function: Callable[[Array], Array], shape: Sequence[int], dtype: Any, *, names: tuple[str, str]
) -> bytes:
    """Convert `function`, from one array `[batch, *shape]` of `dtype` to one array, to the content of an ONNX file.

    `names` are the names of its input and output.

    Raises:
      InputError: an operation of `function` is not supported, or the package onnx is not installed.
    """
    onnx = require("onnx", extra="onnx", purpose="writing an ONNX file")
    (batch,) = export.symbolic_shape("batch")
    closed = jax.make_jaxpr(function)(jax.ShapeDtypeStruct((batch, *shape), dtype))
    graph = _Graph()
    (result,) = graph.run(closed.jaxpr, [np.asarray(c) for c in closed.consts], [names[0]])
    graph.add("Identity", [result], outputs=[names[1]])
    helper, (source,), (target,) = onnx.helper, closed.in_avals, closed.out_avals
    model = helper.make_model(
        helper.make_graph(
            [
                helper.make_node(kind, inputs, outputs, **attributes)
                for kind, inputs, outputs, attributes in graph.nodes
            ],
            "wing_jax",
            [helper.make_tensor_value_info(names[0], _element_type(source.dtype), ["batch", *source.shape[1:]])],
            [helper.make_tensor_value_info(names[1], _element_type(target.dtype), ["batch", *target.shape[1:]])],
            [onnx.numpy_helper.from_array(value, name) for name, value in graph.constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="wing_jax",
    )
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def _element_type(dtype: Any) -> int:
    onnx = require("onnx", extra="onnx", purpose="writing an ONNX file")
    return onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


class _Graph:
    """The nodes and constants of a graph under construction."""

    def __init__(self) -> None:
        self.nodes: list[tuple[str, list[str], list[str], dict]] = []
        self.constants: dict[str, np.ndarray] = {}
        self._names = (f"t{number}" for number in itertools.count())

    def add(self, kind: str, inputs: Sequence[Value], *, outputs: list[str] | None = None, **attributes: Any) -> str:
        """Append a node; return the name of its output."""
        outputs = outputs or [next(self._names)]
        self.nodes.append((kind, [self.name(value) for value in inputs], outputs, attributes))
        return outputs[0]

    def name(self, value: Value) -> str:
        """Return the name of a tensor; a constant is added to the graph first."""
        if isinstance(value, str):
            return value
        name = f"c{len(self.constants)}"
        self.constants[name] = np.ascontiguousarray(value)
        return name

    def run(self, jaxpr: core.Jaxpr, constants: Sequence[Value], inputs: Sequence[Value]) -> list[Value]:
        """Add the nodes of `jaxpr`, and return its outputs for `inputs`."""
        values: dict[Any, Value] = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*constants, *inputs], strict=True))

        def read(atom: Any) -> Value:
            return np.asarray(atom.val, _dtype(atom)) if isinstance(atom, core.Literal) else values[atom]

        for equation in jaxpr.eqns:
            outputs = self._convert_equation(equation, [read(atom) for atom in equation.invars])
            values.update(zip(equation.outvars, outputs, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _convert_equation(self, equation: core.JaxprEqn, inputs: list[Value]) -> list[Value]:
        name, params = equation.primitive.name, equation.params
        if name in NESTED:
            inner = params[NESTED[name]]
            jaxpr, constants = (inner.jaxpr, inner.consts) if isinstance(inner, core.ClosedJaxpr) else (inner, ())
            return self.run(jaxpr, [np.asarray(c) for c in constants], inputs)
        if not any(isinstance(value, str) for value in inputs) and _is_static(equation):
            results = equation.primitive.bind(*map(jnp.asarray, inputs), **params)
            return [np.asarray(value) for value in (results if equation.primitive.multiple_results else [results])]
        if name == "max" and isinstance(inputs[1], np.ndarray) and not inputs[1].any():
            return [self.add("Relu", [inputs[0]])]
        if name in SIMPLE:
            return [self.add(SIMPLE[name], inputs)]
        if name in REDUCTIONS:
            return [self.add(REDUCTIONS[name], [inputs[0], np.array(params["axes"], np.int64)], keepdims=0)]
        method = getattr(self, f"_{name}", None)
        if method is None:
            raise InputError(
                f"the operation {quoted(name)} of this network is not supported by the ONNX export: use --to "
                f"stablehlo or saved-model"
            )
        return [method(equation, *inputs)]

    def _convert_element_type(self, equation: core.JaxprEqn, x: Value) -> Value:
        return self.add("Cast", [x], to=_element_type(equation.params["new_dtype"]))

    def _integer_pow(self, equation: core.JaxprEqn, x: Value) -> Value:
        return self.add("Pow", [x, np.array(equation.params["y"], np.float32)])

    def _square(self, equation: core.JaxprEqn, x: Value) -> Value:
        return self.add("Mul", [x, x])

    def _log1p(self, equation: core.JaxprEqn, x: Value) -> Value:
        return self.add("Log", [self.add("Add", [x, np.array(1, np.float32)])])

    def _rsqrt(self, equation: core.JaxprEqn, x: Value) -> Value:
        return self.add("Reciprocal", [self.add("Sqrt", [x])])

    def _reshape(self, equation: core.JaxprEqn, x: Value) -> Value:
        sizes = equation.params["new_sizes"]
        return self.add("Reshape", [x, np.array([_size(size) for size in sizes], np.int64)])

    def _squeeze(self, equation: core.JaxprEqn, x: Value) -> Value:
        return self.add("Squeeze", [x, np.array(equation.params["dimensions"], np.int64)])

    def _transpose(self, equation: core.JaxprEqn, x: Value) -> Value:
        return self.add("Transpose", [x], perm=list(equation.params["permutation"]))

    def _concatenate(self, equation: core.JaxprEqn, *parts: Value) -> Value:
        return self.add("Concat", parts, axis=equation.params["dimension"])

    def _pad(self, equation: core.JaxprEqn, x: Value, value: Value) -> Value:
        before, after, between = zip(*equation.params["padding_config"], strict=True)
        if any(between):
            raise InputError("padding between elements is not supported by the ONNX export")
        return self.add("Pad", [x, np.array(before + after, np.int64), value])

    def _broadcast_in_dim(self, equation: core.JaxprEqn, x: Value, *sizes: Value) -> Value:
        """Insert axes of size one, then expand them to the static sizes; a new batch axis stays at one."""
        old, new = _shape(equation.invars[0]), _shape(equation.outvars[0])
        old_sizes = dict(zip(equation.params["broadcast_dimensions"], old, strict=True))
        narrow = [_size(old_sizes[axis]) if axis in old_sizes else 1 for axis in range(len(new))]
        reshaped = self.add("Reshape", [x, np.array(narrow, np.int64)])
        wide = [size if isinstance(size, int) else 1 for size in new]
        if all(size == 1 or size == current for size, current in zip(wide, narrow, strict=True)):
            return reshaped
        return self.add("Expand", [reshaped, np.array(wide, np.int64)])

    def _slice(self, equation: core.JaxprEqn, x: Value) -> Value:
        params, shape = equation.params, _shape(equation.invars[0])
        axes = [axis for axis, size in enumerate(shape) if isinstance(size, int)]
        steps = params["strides"] or (1,) * len(shape)
        bounds = [np.array([values[axis] for axis in axes], np.int64) for values in (params["start_indices"],
                  params["limit_indices"])]  # fmt: skip
        return self.add("Slice", [x, *bounds, np.array(axes, np.int64), np.array([steps[a] for a in axes], np.int64)])

    def _rev(self, equation: core.JaxprEqn, x: Value) -> Value:
        axes = np.array(equation.params["dimensions"], np.int64)
        first, last = np.full(len(axes), -1), np.full(len(axes), np.iinfo(np.int64).min)
        return self.add("Slice", [x, first, last, axes, np.full(len(axes), -1)])

    def _dot_general(self, equation: core.JaxprEqn, x: Value, y: Value) -> Value:
        """Convert to a MatMul or Einsum; as in JAX, batch axes come first, then the free axes of x and of y."""
        (x_sums, y_sums), (x_batch, y_batch) = equation.params["dimension_numbers"]
        ranks = [len(_shape(atom)) for atom in equation.invars]
        letters = iter("abcdefghijklmnopqrstuvwxyz")
        x_axes, y_axes = [""] * ranks[0], [""] * ranks[1]
        for x_axis, y_axis in (*zip(x_batch, y_batch, strict=True), *zip(x_sums, y_sums, strict=True)):
            x_axes[x_axis] = y_axes[y_axis] = next(letters)
        x_axes, y_axes = ([axis or next(letters) for axis in axes] for axes in (x_axes, y_axes))
        result = [x_axes[axis] for axis in x_batch]
        result += [axis for i, axis in enumerate(x_axes) if i not in (*x_batch, *x_sums)]
        result += [axis for i, axis in enumerate(y_axes) if i not in (*y_batch, *y_sums)]
        if ranks == [2, 2] and (x_sums, y_sums) == ((1,), (0,)):
            return self.add("MatMul", [x, y])
        return self.add("Einsum", [x, y], equation=f"{''.join(x_axes)},{''.join(y_axes)}->{''.join(result)}")

    def _conv_general_dilated(self, equation: core.JaxprEqn, x: Value, kernel: Value) -> Value:
        params = equation.params
        spec = params["dimension_numbers"]
        if (spec.lhs_spec, spec.rhs_spec, spec.out_spec) != ((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2)):
            raise InputError("a convolution with a layout other than channels last is not supported by the ONNX export")
        if not isinstance(kernel, np.ndarray) or any(step != 1 for step in params["lhs_dilation"]):
            raise InputError(
                "a convolution with a computed kernel, or a transposed one, is not supported by the ONNX export"
            )
        return self._channels_first(
            "Conv",
            x,
            kernel.transpose(3, 2, 0, 1),
            strides=list(params["window_strides"]),
            pads=_pads(params["padding"]),
            dilations=list(params["rhs_dilation"]),
            group=params["feature_group_count"],
        )

    def _reduce_window_max(self, equation: core.JaxprEqn, x: Value) -> Value:
        params = equation.params
        window, strides, padding = (params[name][1:3] for name in ("window_dimensions", "window_strides", "padding"))
        return self._channels_first("MaxPool", x, kernel_shape=list(window), strides=list(strides), pads=_pads(padding))

    def _channels_first(self, kind: str, x: Value, *others: Value, **attributes: Any) -> str:
        """Add a channels-first node between two transpositions; runtimes remove adjacent transpositions."""
        output = self.add(kind, [self.add("Transpose", [x], perm=[0, 3, 1, 2]), *others], **attributes)
        return self.add("Transpose", [output], perm=[0, 2, 3, 1])


def _is_static(equation: core.JaxprEqn) -> bool:
    """Return whether no shape of the result depends on the batch size."""
    return all(isinstance(size, int) for atom in equation.outvars for size in _shape(atom))


def _dtype(atom: Any) -> np.dtype:
    return atom.aval.dtype


def _shape(atom: Any) -> tuple[Any, ...]:
    return atom.aval.shape


def _size(size: Any) -> int:
    """Return a static size, or -1 if it depends on the batch size; ONNX allows -1 once per shape."""
    return size if isinstance(size, int) else -1


def _pads(padding: Sequence[tuple[int, int]]) -> list[int]:
    return [low for low, _ in padding] + [high for _, high in padding]

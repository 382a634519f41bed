"""JAX functions as ONNX graphs: what `jax.make_jaxpr` tells of a network at prediction, operation by operation.

Only what networks of this package consist of is known; another primitive is refused by name. Constants are computed
here. Where JAX widens a value to the batch, ONNX broadcasts it: no shape of the graph names the batch, so that it runs
for any.
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
    """The content of an ONNX file of `function`, from one array `[batch, *shape]` of `dtype` to one array; `names` are
    those of its input and output.

    Raises:
      InputError: `function` does something that is not known here, or the package onnx is not installed.
    """
    onnx = require("onnx", extra="onnx", purpose="writing an ONNX file")
    (batch,) = export.symbolic_shape("batch")
    closed = jax.make_jaxpr(function)(jax.ShapeDtypeStruct((batch, *shape), dtype))
    graph = _Graph()
    (answer,) = graph.run(closed.jaxpr, [np.asarray(c) for c in closed.consts], [names[0]])
    graph.add("Identity", [answer], outputs=[names[1]])
    helper, (given,), (made,) = onnx.helper, closed.in_avals, closed.out_avals
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node(kind, inputs, outputs, **facts) for kind, inputs, outputs, facts in graph.nodes],
            "wing_jax",
            [helper.make_tensor_value_info(names[0], _element(given.dtype), ["batch", *given.shape[1:]])],
            [helper.make_tensor_value_info(names[1], _element(made.dtype), ["batch", *made.shape[1:]])],
            [onnx.numpy_helper.from_array(value, name) for name, value in graph.constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="wing_jax",
    )
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def _element(dtype: Any) -> int:
    onnx = require("onnx", extra="onnx", purpose="writing an ONNX file")
    return onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


class _Graph:
    """Nodes and constants as they come."""

    def __init__(self) -> None:
        self.nodes: list[tuple[str, list[str], list[str], dict]] = []
        self.constants: dict[str, np.ndarray] = {}
        self._names = (f"t{number}" for number in itertools.count())

    def add(self, kind: str, inputs: Sequence[Value], *, outputs: list[str] | None = None, **facts: Any) -> str:
        """Append a node; returns the name of its output."""
        outputs = outputs or [next(self._names)]
        self.nodes.append((kind, [self.name(value) for value in inputs], outputs, facts))
        return outputs[0]

    def name(self, value: Value) -> str:
        """The tensor of that name, or a new one for a constant."""
        if isinstance(value, str):
            return value
        name = f"c{len(self.constants)}"
        self.constants[name] = np.ascontiguousarray(value)
        return name

    def run(self, jaxpr: core.Jaxpr, constants: Sequence[Value], inputs: Sequence[Value]) -> list[Value]:
        """The outputs of `jaxpr` on `inputs`."""
        known: dict[Any, Value] = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*constants, *inputs], strict=True))

        def read(atom: Any) -> Value:
            return np.asarray(atom.val, _dtype(atom)) if isinstance(atom, core.Literal) else known[atom]

        for equation in jaxpr.eqns:
            made = self._equation(equation, [read(atom) for atom in equation.invars])
            known.update(zip(equation.outvars, made, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _equation(self, equation: core.JaxprEqn, inputs: list[Value]) -> list[Value]:
        name, facts = equation.primitive.name, equation.params
        if name in NESTED:
            inner = facts[NESTED[name]]
            jaxpr, constants = (inner.jaxpr, inner.consts) if isinstance(inner, core.ClosedJaxpr) else (inner, ())
            if _is_max_pool_2x2(jaxpr):
                return [self._channels_first("MaxPool", inputs[0], kernel_shape=[2, 2], strides=[2, 2])]
            return self.run(jaxpr, [np.asarray(c) for c in constants], inputs)
        if not any(isinstance(value, str) for value in inputs) and _is_static(equation):
            made = equation.primitive.bind(*map(jnp.asarray, inputs), **facts)
            return [np.asarray(value) for value in (made if equation.primitive.multiple_results else [made])]
        if name == "max" and isinstance(inputs[1], np.ndarray) and not inputs[1].any():
            return [self.add("Relu", [inputs[0]])]
        if name in SIMPLE:
            return [self.add(SIMPLE[name], inputs)]
        if name in REDUCTIONS:
            return [self.add(REDUCTIONS[name], [inputs[0], np.array(facts["axes"], np.int64)], keepdims=0)]
        method = getattr(self, f"_{name}", None)
        if method is None:
            raise InputError(f"the operation {quoted(name)} of this network has no ONNX counterpart here")
        return [method(equation, *inputs)]

    def _convert_element_type(self, equation: core.JaxprEqn, x: Value) -> Value:
        return self.add("Cast", [x], to=_element(equation.params["new_dtype"]))

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

    def _pad(self, equation: core.JaxprEqn, x: Value, filling: Value) -> Value:
        before, after, between = zip(*equation.params["padding_config"], strict=True)
        if any(between):
            raise InputError("padding between the elements has no ONNX counterpart here")
        return self.add("Pad", [x, np.array(before + after, np.int64), filling])

    def _broadcast_in_dim(self, equation: core.JaxprEqn, x: Value, *sizes: Value) -> Value:
        """Axes of one element where the new ones are, widened to the sizes that are numbers; the batch stays at one."""
        old, new = _shape(equation.invars[0]), _shape(equation.outvars[0])
        places = dict(zip(equation.params["broadcast_dimensions"], old, strict=True))
        apart = [_size(places[axis]) if axis in places else 1 for axis in range(len(new))]
        placed = self.add("Reshape", [x, np.array(apart, np.int64)])
        wide = [size if isinstance(size, int) else 1 for size in new]
        if all(size == 1 or size == there for size, there in zip(wide, apart, strict=True)):
            return placed
        return self.add("Expand", [placed, np.array(wide, np.int64)])

    def _slice(self, equation: core.JaxprEqn, x: Value) -> Value:
        facts, shape = equation.params, _shape(equation.invars[0])
        axes = [axis for axis, size in enumerate(shape) if isinstance(size, int)]
        steps = facts["strides"] or (1,) * len(shape)
        bounds = [np.array([values[axis] for axis in axes], np.int64) for values in (facts["start_indices"],
                  facts["limit_indices"])]  # fmt: skip
        return self.add("Slice", [x, *bounds, np.array(axes, np.int64), np.array([steps[a] for a in axes], np.int64)])

    def _rev(self, equation: core.JaxprEqn, x: Value) -> Value:
        axes = np.array(equation.params["dimensions"], np.int64)
        first, last = np.full(len(axes), -1), np.full(len(axes), np.iinfo(np.int64).min)
        return self.add("Slice", [x, first, last, axes, np.full(len(axes), -1)])

    def _dot_general(self, equation: core.JaxprEqn, x: Value, y: Value) -> Value:
        """As one Einsum: batch axes first, then what is left of either, as JAX has it."""
        (x_sums, y_sums), (x_batch, y_batch) = equation.params["dimension_numbers"]
        ranks = [len(_shape(atom)) for atom in equation.invars]
        letters = iter("abcdefghijklmnopqrstuvwxyz")
        x_axes, y_axes = [""] * ranks[0], [""] * ranks[1]
        for mine, other in (*zip(x_batch, y_batch, strict=True), *zip(x_sums, y_sums, strict=True)):
            x_axes[mine] = y_axes[other] = next(letters)
        x_axes, y_axes = ([axis or next(letters) for axis in axes] for axes in (x_axes, y_axes))
        kept = [x_axes[axis] for axis in x_batch]
        kept += [axis for i, axis in enumerate(x_axes) if i not in (*x_batch, *x_sums)]
        kept += [axis for i, axis in enumerate(y_axes) if i not in (*y_batch, *y_sums)]
        if ranks == [2, 2] and (x_sums, y_sums) == ((1,), (0,)):
            return self.add("MatMul", [x, y])
        return self.add("Einsum", [x, y], equation=f"{''.join(x_axes)},{''.join(y_axes)}->{''.join(kept)}")

    def _conv_general_dilated(self, equation: core.JaxprEqn, x: Value, kernel: Value) -> Value:
        facts = equation.params
        spec = facts["dimension_numbers"]
        if (spec.lhs_spec, spec.rhs_spec, spec.out_spec) != ((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2)):
            raise InputError("a convolution of another layout than channels last has no ONNX counterpart here")
        if not isinstance(kernel, np.ndarray) or any(step != 1 for step in facts["lhs_dilation"]):
            raise InputError("a convolution by a computed kernel, or a transposed one, has no ONNX counterpart here")
        return self._channels_first(
            "Conv",
            x,
            kernel.transpose(3, 2, 0, 1),
            strides=list(facts["window_strides"]),
            pads=_pads(facts["padding"]),
            dilations=list(facts["rhs_dilation"]),
            group=facts["feature_group_count"],
        )

    def _reduce_window_max(self, equation: core.JaxprEqn, x: Value) -> Value:
        facts = equation.params
        window, strides, padding = (facts[name][1:3] for name in ("window_dimensions", "window_strides", "padding"))
        return self._channels_first("MaxPool", x, kernel_shape=list(window), strides=list(strides), pads=_pads(padding))

    def _channels_first(self, kind: str, x: Value, *others: Value, **facts: Any) -> str:
        """A node of ONNX's layout between two transpositions, which runtimes make vanish where they meet."""
        inside = self.add(kind, [self.add("Transpose", [x], perm=[0, 3, 1, 2]), *others], **facts)
        return self.add("Transpose", [inside], perm=[0, 2, 3, 1])


def _is_max_pool_2x2(jaxpr: core.Jaxpr) -> bool:
    """Whether it is what `wing_jax.models.max_pool_2x2` does: [n, h, 2, w, 2, c], and the maximum over the twos."""
    if [equation.primitive.name for equation in jaxpr.eqns] != ["reshape", "reduce_max"]:
        return False
    blocks, maximum = jaxpr.eqns
    sizes = blocks.params["new_sizes"]
    return len(sizes) == 6 and (sizes[2], sizes[4]) == (2, 2) and maximum.params["axes"] == (2, 4)


def _is_static(equation: core.JaxprEqn) -> bool:
    """Whether no shape of the result depends on the batch."""
    return all(isinstance(size, int) for atom in equation.outvars for size in _shape(atom))


def _dtype(atom: Any) -> np.dtype:
    return atom.aval.dtype


def _shape(atom: Any) -> tuple[Any, ...]:
    return atom.aval.shape


def _size(size: Any) -> int:
    """A number, or -1 for what depends on the batch; ONNX allows one of them."""
    return size if isinstance(size, int) else -1


def _pads(padding: Sequence[tuple[int, int]]) -> list[int]:
    return [low for low, _ in padding] + [high for _, high in padding]

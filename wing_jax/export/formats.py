"""Export formats for the network of a stage, each with the runtime that loads it."""

import dataclasses
import functools
import importlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped, UInt8

from wing_jax.errors import InputError
from wing_jax.export.onnx_graph import onnx_model
from wing_jax.runtime.extras import require
from wing_jax.runtime.files import plain_path
from wing_jax.runtime.registry import Registry
from wing_jax.runtime.tensorflow_runtime import tensorflow
from wing_jax.text import quoted

# The columns are x and y, or x, y and a covariance (`wing_jax.export.export`).
Network: TypeAlias = Callable[[Shaped[Array, "batch size size 3"]], Float[Array, "batch points columns"]]
Runner: TypeAlias = Callable[[UInt8[np.ndarray, "batch size size 3"]], Float[np.ndarray, "batch points columns"]]
NAMES = ("crops", "points")
PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Format:
    """An export format: `write(network, size, path)`, `load(path)`, and the names of its files."""

    title: str
    ending: str  # of the file or folder of a stage
    write: Callable[[Network, int, Path], None]
    load: Callable[[Path], Runner]
    runtime: str
    batch: str = "any number of crops"


def _write_onnx(network: Network, size: int, path: Path) -> None:
    path.write_bytes(onnx_model(network, (size, size, 3), jnp.uint8, names=NAMES))


def _load_onnx(path: Path) -> Runner:
    onnxruntime = require("onnxruntime", extra="onnx", purpose="checking an ONNX file")
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    return lambda crops: np.asarray(session.run([NAMES[1]], {NAMES[0]: crops})[0])


def _write_stablehlo(network: Network, size: int, path: Path) -> None:
    """Write `path` for `jax.export.deserialize`, and next to it portable StableHLO bytecode for other compilers."""
    (batch,) = jax.export.symbolic_shape("batch")
    crops = jax.ShapeDtypeStruct((batch, size, size, 3), jnp.uint8)
    exported = jax.export.export(jax.jit(network), platforms=PLATFORMS)(crops)
    path.write_bytes(exported.serialize())
    path.with_suffix(".mlirbc").write_bytes(exported.mlir_module_serialized)


def _load_stablehlo(path: Path) -> Runner:
    exported = jax.export.deserialize(bytearray(path.read_bytes()))
    return lambda crops: np.asarray(exported.call(crops))


def _write_saved_model(network: Network, size: int, path: Path) -> None:
    tf, function = _tensorflow_function(network, size, batch=None)
    module = tf.Module()
    module.locate = function
    signatures = {"serving_default": function.get_concrete_function()}
    with plain_path(path.parent) as folder:
        tf.saved_model.save(module, str(folder / path.name), signatures=signatures)


def _load_saved_model(path: Path) -> Runner:
    tf = tensorflow(purpose="a SavedModel")
    with plain_path(path.parent) as folder:
        module = tf.saved_model.load(str(folder / path.name))
    return lambda crops: module.locate(tf.constant(crops)).numpy()


def _write_tflite(network: Network, size: int, path: Path, *, half: bool = False) -> None:
    """Write a TFLite file. With `half` the weights are float16; some runtimes convert them back to float32."""
    tf, function = _tensorflow_function(network, size, batch=1)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], function)
    if half:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]
    path.write_bytes(converter.convert())


def _load_tflite(path: Path) -> Runner:
    try:
        runtime = importlib.import_module("ai_edge_litert.interpreter")
    except ImportError:  # TensorFlow has the interpreter, too, but warns that it is deprecated
        runtime = tensorflow(purpose="a TFLite file").lite
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        interpreter = runtime.Interpreter(model_content=path.read_bytes())
    interpreter.allocate_tensors()
    (source,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()

    def predict(crop: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(source["index"], crop[None])
        interpreter.invoke()
        return interpreter.get_tensor(result["index"])[0].copy()

    return lambda crops: np.stack([predict(crop) for crop in crops])


def _tensorflow_function(network: Network, size: int, *, batch: int | None):
    """Return the module tensorflow, and the network as a TensorFlow function of `batch` crops (None: any number)."""
    tf = tensorflow(purpose="this format")
    from jax.experimental import jax2tf

    shape = f"({batch or 'batch'}, {size}, {size}, 3)"
    signature = [tf.TensorSpec((batch, size, size, 3), tf.uint8, name=NAMES[0])]
    converted = jax2tf.convert(network, polymorphic_shapes=[shape], with_gradient=False)
    return tf, tf.function(converted, input_signature=signature, autograph=False)


def _as_format(name: str, value: Any) -> Format:
    """Convert a registered value, a Format or a function that returns one, to a Format."""
    form = value() if callable(value) and not isinstance(value, Format) else value
    if not isinstance(form, Format):
        raise InputError(f"the export {quoted(name)} is {quoted(value)}, not a Format or a function that returns one")
    return form


EXPORTS: Registry[Format] = Registry("export format", group="wing_jax.exports", adopt=_as_format)


def register_export(form: Any = None, *, name: str = "") -> Any:
    """Register a format for `wing_jax.export.export` and `wing-jax export MODEL --to NAME`.

    Usable as a decorator, with or without a name. Other packages register theirs through an entry point of the group
    "wing_jax.exports".

    Args:
      form: a `Format`, or a function without arguments that returns one.
      name: the name for `--to`; empty: the name of the function.

    Returns:
      The argument `form`.

    Raises:
      InputError: `form` is neither.
      ValueError: the name is already registered, or contains characters other than letters, digits and underscores.

    >>> @register_export
    ... def crops_only() -> Format:
    ...     def write(network, size, path): path.write_text(str(size), encoding="utf-8")
    ...     def load(path): return lambda crops: np.zeros((len(crops), 5, 2), np.float32)
    ...     return Format(title="nothing", ending=".txt", write=write, load=load, runtime="no runtime")
    >>> EXPORTS["crops_only"].ending
    '.txt'
    """
    if form is None:
        return functools.partial(register_export, name=name)
    name = name or getattr(form, "__name__", "")
    EXPORTS.add(name, _as_format(name, form), origin=None if isinstance(form, Format) else form)
    return form


register_export(
    Format(title="ONNX", ending=".onnx", write=_write_onnx, load=_load_onnx, runtime="ONNX Runtime"), name="onnx"
)
register_export(
    Format(
        title="TensorFlow SavedModel",
        ending="",
        write=_write_saved_model,
        load=_load_saved_model,
        runtime="TensorFlow",
    ),
    name="saved-model",
)
register_export(
    Format(
        title="TFLite", ending=".tflite", write=_write_tflite, load=_load_tflite, runtime="TFLite", batch="one crop"
    ),
    name="tflite",
)
register_export(
    Format(
        title="TFLite with float16 weights",
        ending=".tflite",
        write=functools.partial(_write_tflite, half=True),
        load=_load_tflite,
        runtime="TFLite",
        batch="one crop",
    ),
    name="tflite-half",
)
register_export(
    Format(title="StableHLO", ending=".jax", write=_write_stablehlo, load=_load_stablehlo, runtime="jax.export"),
    name="stablehlo",
)

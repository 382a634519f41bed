"""Export trained models to ONNX, TensorFlow SavedModel, TFLite and StableHLO, or to a bundle in float16."""

from wing_jax.export.formats import EXPORTS as EXPORTS
from wing_jax.export.formats import Format as Format
from wing_jax.export.formats import register_export as register_export
from wing_jax.export.stages import Exported as Exported
from wing_jax.export.stages import export as export
from wing_jax.export.stages import halve as halve
from wing_jax.export.stages import make_crops as make_crops

"""Measure models on annotated faces: `evaluate(localizer, faces) -> Evaluation`, and the metrics."""

from wing_jax.evaluation.calibration import calibrate as calibrate
from wing_jax.evaluation.comparison import Comparison as Comparison
from wing_jax.evaluation.evaluation import Evaluation as Evaluation
from wing_jax.evaluation.evaluation import median_offset as median_offset
from wing_jax.evaluation.measurement import Measurement as Measurement
from wing_jax.evaluation.measuring import LocalizerLike as LocalizerLike
from wing_jax.evaluation.measuring import evaluate as evaluate
from wing_jax.evaluation.measuring import evaluate_points as evaluate_points
from wing_jax.evaluation.measuring import leading_metrics as leading_metrics

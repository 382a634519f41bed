"""The public metrics: the functions, the normalizers, and the registry `METRICS` of all metrics by name."""

from wing_jax.evaluation.face_metrics import worst_landmark as worst_landmark
from wing_jax.evaluation.measures import auc as auc
from wing_jax.evaluation.measures import ced as ced
from wing_jax.evaluation.measures import failure_rate as failure_rate
from wing_jax.evaluation.measures import nme as nme
from wing_jax.evaluation.measures import point_errors as point_errors
from wing_jax.evaluation.normalizers import NORMALIZERS as NORMALIZERS
from wing_jax.evaluation.normalizers import box_diagonal as box_diagonal
from wing_jax.evaluation.normalizers import box_size as box_size
from wing_jax.evaluation.normalizers import inter_ocular as inter_ocular
from wing_jax.evaluation.normalizers import inter_pupil as inter_pupil
from wing_jax.evaluation.normalizers import landmark_box_size as landmark_box_size
from wing_jax.evaluation.registry import METRICS as METRICS
from wing_jax.evaluation.registry import Eyes as Eyes
from wing_jax.evaluation.registry import Metric as Metric
from wing_jax.evaluation.registry import as_metric as as_metric
from wing_jax.evaluation.registry import register_metric as register_metric
from wing_jax.evaluation.registry import register_normalizer as register_normalizer

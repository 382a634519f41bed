"""Facial landmark localization in JAX: train, evaluate and use localizers, from Python or the command line.

Importing this package imports neither JAX nor NumPy. Each public name is imported from its module on first use, so
that the command line can handle SIGTERM and prepare XLA before JAX is imported.
"""

import importlib
from typing import TYPE_CHECKING, Any

from wing_jax.runtime import processes as processes  # installs a fork hook

if TYPE_CHECKING:
    from wing_jax import analysis as analysis
    from wing_jax import augment as augment
    from wing_jax import balance as balance
    from wing_jax import losses as losses
    from wing_jax import models as models
    from wing_jax import presets as presets
    from wing_jax import report as report
    from wing_jax.augment import register_augmentation as register_augmentation
    from wing_jax.data.face_set import FaceSet as FaceSet
    from wing_jax.data.load import load_faces as load_faces
    from wing_jax.data.registry import register_reader as register_reader
    from wing_jax.errors import InputError as InputError
    from wing_jax.evaluation import Evaluation as Evaluation
    from wing_jax.evaluation import calibrate as calibrate
    from wing_jax.evaluation import evaluate as evaluate
    from wing_jax.evaluation import metrics as metrics
    from wing_jax.evaluation.metrics import register_metric as register_metric
    from wing_jax.export import register_export as register_export
    from wing_jax.inference.detectors import register_detector as register_detector
    from wing_jax.inference.face_landmarker import FaceLandmarker as FaceLandmarker
    from wing_jax.inference.face_landmarker import Faces as Faces
    from wing_jax.inference.localizer import Localizer as Localizer
    from wing_jax.losses import register_loss as register_loss
    from wing_jax.models import register_model as register_model
    from wing_jax.schemes import Scheme as Scheme
    from wing_jax.train.fit import TrainResult as TrainResult
    from wing_jax.train.fit import fit as fit
    from wing_jax.train.preview import sample_batch as sample_batch
    from wing_jax.train.spec import StageSpec as StageSpec
    from wing_jax.train.start import Start as Start

__version__ = "0.1.0"

# Public name: its location below wing_jax, "module:name", or "module" for a module.
PUBLIC = {
    "Evaluation": "evaluation:Evaluation",
    "FaceLandmarker": "inference.face_landmarker:FaceLandmarker",
    "FaceSet": "data.face_set:FaceSet",
    "Faces": "inference.face_landmarker:Faces",
    "InputError": "errors:InputError",
    "Localizer": "inference.localizer:Localizer",
    "Scheme": "schemes:Scheme",
    "StageSpec": "train.spec:StageSpec",
    "Start": "train.start:Start",
    "TrainResult": "train.fit:TrainResult",
    "analysis": "analysis",
    "augment": "augment",
    "balance": "balance",
    "calibrate": "evaluation:calibrate",
    "evaluate": "evaluation:evaluate",
    "fit": "train.fit:fit",
    "load_faces": "data.load:load_faces",
    "losses": "losses",
    "metrics": "evaluation.metrics",
    "models": "models",
    "presets": "presets",
    "register_augmentation": "augment:register_augmentation",
    "register_detector": "inference.detectors:register_detector",
    "register_export": "export:register_export",
    "register_loss": "losses:register_loss",
    "register_metric": "evaluation.metrics:register_metric",
    "register_model": "models:register_model",
    "register_reader": "data.registry:register_reader",
    "report": "report",
    "sample_batch": "train.preview:sample_batch",
}
__all__ = list(PUBLIC)


def __getattr__(name: str) -> Any:
    """Import a name of `__all__` on first use."""
    if name not in PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = PUBLIC[name].partition(":")
    value: Any = importlib.import_module(f"wing_jax.{module}")
    if attribute:
        value = getattr(value, attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return sorted({*globals(), *__all__})

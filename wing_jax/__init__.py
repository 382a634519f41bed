"""Facial landmark localization in JAX: train, evaluate and use localizers, by objects or from the command line.

Importing this imports neither JAX nor NumPy: each public name is imported from its module when it is first used, so
that the command line handles SIGTERM and prepares XLA before JAX is there.
"""

import importlib
from typing import TYPE_CHECKING, Any

from wing_jax.runtime import processes as processes  # it must see forks from now on

if TYPE_CHECKING:
    from wing_jax import analysis as analysis
    from wing_jax import losses as losses
    from wing_jax import models as models
    from wing_jax import presets as presets
    from wing_jax.data.face_set import FaceSet as FaceSet
    from wing_jax.data.load import load_faces as load_faces
    from wing_jax.errors import InputError as InputError
    from wing_jax.inference.face_landmarker import FaceLandmarker as FaceLandmarker
    from wing_jax.inference.face_landmarker import Faces as Faces
    from wing_jax.inference.localizer import Localizer as Localizer
    from wing_jax.schemes import Scheme as Scheme

__version__ = "0.1.0"

# Public name: the module that it comes from, below wing_jax; a name that is its own module is that module.
MODULES = {
    "FaceSet": "data.face_set",
    "FaceLandmarker": "inference.face_landmarker",
    "Faces": "inference.face_landmarker",
    "InputError": "errors",
    "Localizer": "inference.localizer",
    "Scheme": "schemes",
    "analysis": "analysis",
    "load_faces": "data.load",
    "losses": "losses",
    "models": "models",
    "presets": "presets",
}
__all__ = list(MODULES)


def __getattr__(name: str) -> Any:
    """A name of `__all__`, imported when it is first asked for."""
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"wing_jax.{MODULES[name]}")
    value = module if MODULES[name] == name else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, imported or not."""
    return sorted({*globals(), *__all__})

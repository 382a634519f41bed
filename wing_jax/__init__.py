"""Wing-loss facial landmark localisation in JAX."""

import importlib
from typing import TYPE_CHECKING, Any

from wing_jax.runtime import processes as processes  # it must see forks from now on

if TYPE_CHECKING:
    from wing_jax.inference.face_landmarker import FaceLandmarker as FaceLandmarker
    from wing_jax.inference.localizer import Localizer as Localizer

__version__ = "0.1.0"
__all__ = ["FaceLandmarker", "Localizer"]


HOMES = {"FaceLandmarker": "inference.face_landmarker", "Localizer": "inference.localizer"}


def __getattr__(name: str) -> Any:
    """The names of `__all__`, imported when asked for: the command line heeds SIGTERM before it imports JAX."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"wing_jax.{HOMES[name]}"), name)

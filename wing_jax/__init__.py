"""Wing-loss facial landmark localisation in JAX."""

from wing_jax.finder import Finder as Finder
from wing_jax.localizer import Localizer as Localizer

__version__ = "0.1.0"

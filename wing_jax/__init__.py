"""Wing-loss facial landmark localisation in JAX."""

__version__ = "0.1.0"

"""Training runs and sweeps from configs: the only package that converts a config's names to objects.

The command line and `wing_jax.reproduce` use it. The packages below it do not take configs.
"""

"""Repeat the paper's experiments on any supported data set: one call for each table and figure.

    runner = ExperimentRunner(recipe("mtfl", "short"), output="runs/reproduce")
    product = TARGETS["table3"](runner, seeds=(0, 1, 2), losses=("l2", "l1", "smooth_l1", "wing"))
    product.write(runner.folder, "table3")

`wing-jax reproduce` does the same.
"""

from wing_jax.reproduce.recipes import BUDGETS as BUDGETS
from wing_jax.reproduce.recipes import Recipe as Recipe
from wing_jax.reproduce.recipes import recipe as recipe
from wing_jax.reproduce.runner import METHODS as METHODS
from wing_jax.reproduce.runner import ExperimentRunner as ExperimentRunner
from wing_jax.reproduce.targets import TARGETS as TARGETS
from wing_jax.reproduce.targets import Product as Product

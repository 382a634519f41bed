"""The paper's experiments on whatever data are at hand: each table and figure by one call.

house = Workshop(recipe("mtfl", "short"), output="runs/reproduce")
product = TARGETS["table3"](house, seeds=(0, 1, 2))
product.write(house.folder, "table3")
"""

from wing_jax.reproduce.own_loss import compare_losses as compare_losses
from wing_jax.reproduce.recipes import BUDGETS as BUDGETS
from wing_jax.reproduce.recipes import Recipe as Recipe
from wing_jax.reproduce.recipes import recipe as recipe
from wing_jax.reproduce.targets import TARGETS as TARGETS
from wing_jax.reproduce.targets import Product as Product
from wing_jax.reproduce.workshop import METHODS as METHODS
from wing_jax.reproduce.workshop import Workshop as Workshop

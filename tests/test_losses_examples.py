"""The examples in the docstrings of losses and networks run as they stand."""

import doctest
import importlib

import pytest

MODULES = ("losses.regression", "losses.reduction", "losses.units", "losses.registry", "models.registry")


@pytest.mark.parametrize("module", MODULES)
def test_examples_run(module):
    results = doctest.testmod(importlib.import_module(f"wing_jax.{module}"))
    assert results.attempted
    assert not results.failed

"""Docstrings: every public name documents its arguments, results and errors, and every example runs."""

import doctest
import inspect
import json
import os
import pkgutil
import re
import subprocess
import sys
import types

import pytest

import wing_jax as wj

pytestmark = pytest.mark.slow

# Public module: where its exports are defined; other names in it are imports.
MODULES = {
    "losses": "wing_jax.losses.",
    "models": "wing_jax.models.",
    "augment": "wing_jax.augment.",
    "metrics": "wing_jax.evaluation.",
    "analysis": "wing_jax.analysis.",
    "balance": "wing_jax.balance.",
    "presets": "wing_jax.presets",
    "report": "wing_jax.report.",
}
FLAX_ARGUMENTS = {"parent", "name"}  # added by flax.linen to the arguments of each module
FILES = [module.name for module in pkgutil.walk_packages(wj.__path__, "wing_jax.")]
RUN = """
import contextlib, doctest, importlib, io, json, sys

outputs = {}
for name in sys.argv[1:]:
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        failed = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS).failed
    outputs[name] = printed.getvalue() if failed else ""
print(json.dumps(outputs))
"""


def public():
    """Return the public functions and classes, by name."""
    values = {name: getattr(wj, name) for name in wj.__all__ if not inspect.ismodule(getattr(wj, name))}
    for module, home in MODULES.items():
        for name, value in vars(getattr(wj, module)).items():
            if not name.startswith("_") and callable(value) and getattr(value, "__module__", "").startswith(home):
                values[f"{module}.{name}"] = value
    return values


PUBLIC = public()


def section(value, name):
    """Return the text below the heading `name` in the docstring; empty if there is none."""
    match = re.search(rf"^{name}:\n((?:[ ]+.*\n|\n)*)", inspect.getdoc(value) + "\n", re.MULTILINE)
    return match[1] if match else ""


def parameters(value):
    """Return the names of the parameters of a function or class."""
    is_module = isinstance(value, type) and hasattr(value, "apply")
    return [name for name in inspect.signature(value).parameters if not (is_module and name in FLAX_ARGUMENTS)]


def test_every_public_module_is_checked():
    assert {name for name in wj.__all__ if inspect.ismodule(getattr(wj, name))} == set(MODULES)
    assert len(PUBLIC) > 100


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_documents_its_arguments_and_results(name):
    value = PUBLIC[name]
    described = re.findall(r"^  (\*{0,2}\w+): \S", section(value, "Args"), re.MULTILINE)
    documented = [label.lstrip("*") for label in described]
    assert [label for label in documented if label not in parameters(value)] == []
    assert [label for label in parameters(value) if label not in documented] == []
    returned = inspect.signature(value).return_annotation
    if isinstance(value, types.FunctionType) and returned not in (None, "None"):
        assert section(value, "Returns").strip()
    if isinstance(value, types.FunctionType) and re.search(r"^\s+raise \w", inspect.getsource(value), re.MULTILINE):
        assert section(value, "Raises").strip()


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_has_an_example(name):
    value = PUBLIC[name]
    finder = doctest.DocTestFinder()
    assert sum(len(test.examples) for test in finder.find(value, name, globs={})) > 0


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    """The output of doctest for each module, empty on success. In a new process, as some examples register names."""
    environment = os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1", "WING_JAX_CPU_KERNEL": "off"}
    run = subprocess.run(
        [sys.executable, "-c", RUN, *FILES], cwd=tmp_path_factory.mktemp("examples"), env=environment,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(run.stdout.splitlines()[-1])


@pytest.mark.parametrize("module", FILES)
def test_examples_run(module, examples):
    assert examples[module] == ""

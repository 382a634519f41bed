"""Every public name says what it takes, gives and refuses, and every example in the package runs."""

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

# Public module: where what it exports is defined; other names in it are its own imports.
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
OF_FLAX = {"parent", "name"}  # what flax.linen adds to the arguments of each module
FILES = [found.name for found in pkgutil.walk_packages(wj.__path__, "wing_jax.")]
RUN = """
import contextlib, doctest, importlib, io, json, sys

said = {}
for name in sys.argv[1:]:
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        failed = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS).failed
    said[name] = printed.getvalue() if failed else ""
print(json.dumps(said))
"""


def public():
    """The functions and classes that users see, by name."""
    found = {name: getattr(wj, name) for name in wj.__all__ if not inspect.ismodule(getattr(wj, name))}
    for module, home in MODULES.items():
        for name, value in vars(getattr(wj, module)).items():
            if not name.startswith("_") and callable(value) and getattr(value, "__module__", "").startswith(home):
                found[f"{module}.{name}"] = value
    return found


PUBLIC = public()


def section(value, name):
    """The text below the heading `name` in the docstring, empty where there is none."""
    found = re.search(rf"^{name}:\n((?:[ ]+.*\n|\n)*)", inspect.getdoc(value) + "\n", re.MULTILINE)
    return found[1] if found else ""


def parameters(value):
    """The names of what a function or class takes."""
    is_module = isinstance(value, type) and hasattr(value, "apply")
    return [name for name in inspect.signature(value).parameters if not (is_module and name in OF_FLAX)]


def test_every_public_module_is_looked_at():
    assert {name for name in wj.__all__ if inspect.ismodule(getattr(wj, name))} == set(MODULES)
    assert len(PUBLIC) > 100


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_says_what_it_takes_and_gives(name):
    value = PUBLIC[name]
    described = re.findall(r"^  (\*{0,2}\w+): \S", section(value, "Args"), re.MULTILINE)
    assert [label.lstrip("*") for label in described if label.lstrip("*") not in parameters(value)] == []
    assert [label for label in parameters(value) if label not in {one.lstrip("*") for one in described}] == []
    returned = inspect.signature(value).return_annotation
    if isinstance(value, types.FunctionType) and returned not in (None, "None"):
        assert section(value, "Returns").strip()
    if isinstance(value, types.FunctionType) and re.search(r"^\s+raise \w", inspect.getsource(value), re.MULTILINE):
        assert section(value, "Raises").strip()


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_has_an_example(name):
    value = PUBLIC[name]
    landmarker = doctest.DocTestFinder()
    assert sum(len(found.examples) for found in landmarker.find(value, name, globs={})) > 0


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    """What doctest says of each module, empty where all is well: in a process of their own, for some register names."""
    environment = os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1", "WING_JAX_CPU_KERNEL": "off"}
    run = subprocess.run(
        [sys.executable, "-c", RUN, *FILES], cwd=tmp_path_factory.mktemp("examples"), env=environment,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(run.stdout.splitlines()[-1])


@pytest.mark.parametrize("module", FILES)
def test_examples_run(module, examples):
    assert examples[module] == ""

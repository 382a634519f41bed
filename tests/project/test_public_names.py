"""The public names of `import wing_jax`: each is imported on first use."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import wing_jax

SOURCE = Path(wing_jax.__file__).read_text(encoding="utf-8")


def run(code):
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    return process.stdout.strip()


def test_importing_the_package_imports_nothing_heavy():
    heavy = {"jax", "numpy", "cv2", "flax", "scipy"}
    assert run(f"import sys, wing_jax; dir(wing_jax); print({heavy} & set(sys.modules) or '-')") == "-"


@pytest.mark.slow
def test_losses_import_no_image_or_training_libraries():
    others = {"cv2", "flax", "optax", "tyro"}
    assert run(f"import sys, wing_jax; wing_jax.losses.wing_loss; print({others} & set(sys.modules) or '-')") == "-"


@pytest.mark.parametrize("name", wing_jax.__all__)
def test_every_public_name_is_that_of_its_module_and_has_a_docstring(name):
    module, _, attribute = wing_jax.PUBLIC[name].partition(":")
    source = importlib.import_module(f"wing_jax.{module}")
    assert getattr(wing_jax, name) is (getattr(source, attribute) if attribute else source)
    assert getattr(wing_jax, name).__doc__
    assert attribute in ("", name)


def test_dir_and_type_checkers_list_every_public_name():
    assert run("import wing_jax; print(set(wing_jax.__all__) - set(dir(wing_jax)) or '-')") == "-"
    (block,) = [node for node in ast.parse(SOURCE).body if isinstance(node, ast.If)]
    typed = {}
    for statement in block.body:
        (alias,) = statement.names
        assert alias.name == alias.asname  # a type checker treats this as an export
        typed[alias.name] = f"{statement.module}.{alias.name}"
    assert typed == {name: f"wing_jax.{location.replace(':', '.')}" for name, location in wing_jax.PUBLIC.items()}
    assert list(wing_jax.PUBLIC) == sorted(wing_jax.PUBLIC)


def test_the_package_is_marked_as_typed():
    assert (Path(wing_jax.__file__).parent / "py.typed").exists()


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'wing_jax' has no attribute 'Trainer'"):
        _ = wing_jax.Trainer

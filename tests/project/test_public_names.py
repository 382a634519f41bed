"""What `import wing_jax` gives: every public name, each imported when it is used and not before."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import wing_jax

SOURCE = Path(wing_jax.__file__).read_text(encoding="utf-8")


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_the_package_imports_nothing_heavy():
    heavy = {"jax", "numpy", "cv2", "flax", "scipy"}
    assert run(f"import sys, wing_jax; dir(wing_jax); print({heavy} & set(sys.modules) or '-')") == "-"


def test_losses_import_no_pictures_and_no_training():
    others = {"cv2", "flax", "optax", "tyro"}
    assert run(f"import sys, wing_jax; wing_jax.losses.wing_loss; print({others} & set(sys.modules) or '-')") == "-"


@pytest.mark.parametrize("name", wing_jax.__all__)
def test_every_public_name_is_what_its_module_has_and_says_what_it_is(name):
    module, _, attribute = wing_jax.PUBLIC[name].partition(":")
    found = importlib.import_module(f"wing_jax.{module}")
    assert getattr(wing_jax, name) is (getattr(found, attribute) if attribute else found)
    assert getattr(wing_jax, name).__doc__
    assert attribute in ("", name)


def test_dir_lists_every_public_name_and_so_do_type_checkers():
    assert run("import wing_jax; print(set(wing_jax.__all__) - set(dir(wing_jax)) or '-')") == "-"
    (block,) = [node for node in ast.parse(SOURCE).body if isinstance(node, ast.If)]
    shown = {}
    for statement in block.body:
        (alias,) = statement.names
        assert alias.name == alias.asname  # what a type checker takes for an export
        shown[alias.name] = f"{statement.module}.{alias.name}"
    assert shown == {name: f"wing_jax.{place.replace(':', '.')}" for name, place in wing_jax.PUBLIC.items()}
    assert list(wing_jax.PUBLIC) == sorted(wing_jax.PUBLIC)


def test_types_are_announced():
    assert (Path(wing_jax.__file__).parent / "py.typed").exists()


def test_what_is_not_there():
    with pytest.raises(AttributeError, match="module 'wing_jax' has no attribute 'Trainer'"):
        _ = wing_jax.Trainer

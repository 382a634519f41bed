"""Registries: lookup, names, and entry points of other packages."""

import importlib
import sys

import pytest

from wing_jax.errors import InputError
from wing_jax.runtime.registry import Registry


def make_registry(entries=()):
    registry = Registry("pet", group="wing_jax_tests.pets", adopt=lambda name, loaded: loaded)
    for name, entry in dict(entries).items():
        registry.add(name, entry)
    return registry


def test_a_registry_is_a_mapping_of_its_entries():
    registry = make_registry({"cat": 1, "dog": 2})
    assert dict(registry) == {"cat": 1, "dog": 2}
    assert "cat" in registry
    assert "cow" not in registry
    assert len(registry) == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cta", "no pet is called 'cta': did you mean cat? There are cat, dog"),
        ("elephant", "use one of cat, dog"),
    ],
)
def test_the_message_for_an_unknown_name_lists_the_known_names(name, message):
    with pytest.raises(InputError, match=message.replace("?", r"\?")):
        _ = make_registry({"cat": 1, "dog": 2})[name]


def test_a_name_is_registered_only_once():
    registry = make_registry({"cat": 1})
    with pytest.raises(ValueError, match="registered"):
        registry.add("cat", 2)
    assert registry["cat"] == 1


def test_a_removed_name_can_be_used_again():
    registry = make_registry({"cat": 1})
    registry.remove("cat")
    registry.remove("dog")  # was never added
    assert "cat" not in registry
    registry.add("cat", 2)
    assert registry["cat"] == 2


def test_the_same_function_defined_again_replaces_the_first():
    registry = make_registry()

    def define(value):
        def cat():
            return value

        return cat

    for value in (1, 2):
        registry.add("cat", value, origin=define(value))
    assert registry["cat"] == 2


@pytest.mark.parametrize("name", ["", "two words", "a/b", "--x"])
def test_invalid_names_are_refused(name):
    with pytest.raises(ValueError, match="cannot be called"):
        make_registry().add(name, 1)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed distribution with two entry points; one of its modules cannot be imported."""
    (tmp_path / "pets_module.py").write_text("def cow():\n    return 'moo'\n")
    (tmp_path / "broken_pets.py").write_text("raise RuntimeError('no grass')\n")
    info = tmp_path / "pets-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pets\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[wing_jax_tests.pets]\ncow = pets_module:cow\nox = broken_pets:ox\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield
    sys.modules.pop("pets_module", None)


@pytest.mark.usefixtures("package")
def test_an_entry_point_is_imported_when_its_name_is_looked_up():
    registry = make_registry({"cat": 1})
    assert list(registry) == ["cat", "cow", "ox"]
    assert "pets_module" not in sys.modules
    assert registry["cow"]() == "moo"


@pytest.mark.usefixtures("package")
def test_a_package_that_cannot_be_imported_is_named():
    with pytest.raises(InputError, match=r"the pet 'ox' of 'broken_pets:ox' cannot be imported .*no grass.*: fix"):
        _ = make_registry()["ox"]

"""The scripts of the repository: each documents its command line, and its imports and references exist."""

import ast
import importlib
import re

import numpy as np
import pytest

import wing_jax as wj
from tests.support.paths import ROOT
from wing_jax import presets

FOLDERS = ("benchmarks", "experiments", "reliability")
HELPERS = ("report.py", "comparison.py", "compiled.py", "shared.py")
SCRIPTS = [path for folder in FOLDERS for path in sorted((ROOT / folder).glob("*.py")) if path.name not in HELPERS]


def names_of(path):
    """Return the names that a module defines or imports at the top level."""
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname for alias in node.names if alias.asname}
    return names


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_script_documents_its_command_and_is_listed_in_the_readme_of_its_folder(path):
    name = f"{path.parent.name}/{path.name}"
    assert f"    python {name} " in f"{ast.get_docstring(ast.parse(path.read_text(encoding='utf-8')))} "
    assert f".venv/bin/python {name}" in (path.parent / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", sorted(p for folder in FOLDERS for p in (ROOT / folder).rglob("*.py")), ids=str)
def test_names_imported_from_a_helper_exist(path):
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and f"{node.module}.py" in HELPERS:
            helper = path.parent / f"{node.module}.py"
            helper = helper if helper.exists() else ROOT / "benchmarks" / helper.name
            assert {alias.name for alias in node.names} <= names_of(helper)


def test_every_change_of_the_ablation_applies_to_the_preset(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "experiments")
    ablation, config = importlib.import_module("ablation"), presets.load("w300")
    changed = {name: change(config) for name, (_, change) in ablation.CHANGES.items()}
    assert [name for name, other in changed.items() if other == config] == []


def test_every_variant_of_the_starts_applies_to_the_preset(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "experiments")
    starts = importlib.import_module("starts")
    base = starts.make_base(600)
    assert (base.stage2.steps, base.stage2.evaluate_every, base.data.validation) == (600, 100, 0.2)
    changed = {name: change(base) for name, (_, change) in starts.VARIANTS.items()}
    assert [name for name, other in changed.items() if other == base] == [starts.NOTHING]
    assert len(set(changed.values())) == len(changed)


def test_the_differences_of_the_starts_are_paired_by_face(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "experiments")
    starts, faces = importlib.import_module("starts"), wj.load_faces("synthetic", count=3)
    errors = np.float32([[2, 3, 7], [2.5, 3.5, 7.5]])  # per cent
    table = starts.rows({starts.NOTHING: [errors[0]], "heads": [errors[1]], "mixed": []}, faces)
    assert table[0] == ("from nothing", "4.000", "")
    assert table[1][1:] == ("4.500", "+0.500 (+0.500 to +0.500)")


def test_the_differences_of_the_ablation_are_paired_by_face_where_faces_were_saved(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "experiments")
    ablation, photos = importlib.import_module("ablation"), ["a", "b", "b"]
    unchanged, worse, better = np.float32([[2, 3, 7], [2.5, 3.5, 7.5], [1, 2, 6]])
    nmes = {ablation.UNCHANGED: [unchanged, unchanged], "better": [better], "worse": [worse, worse], "not yet": []}
    assert ablation.rows(nmes, photos) == [
        (ablation.UNCHANGED, "4.00, 4.00", "4.00", ""),
        ("worse", "4.50, 4.50", "4.50", "+0.500 (+0.500 to +0.500)"),
        ("better", "3.00", "3.00", "-1.000 (-1.000 to -1.000)"),
    ]
    only_means = {ablation.UNCHANGED: [np.float32([4.0])], "worse": [worse]}
    assert ablation.rows(only_means, photos)[1][-1] == "+0.50"


def test_models_are_averaged_and_their_common_errors_computed(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "experiments")
    repeats = importlib.import_module("repeats")
    right, down = np.zeros((2, 5, 2)), np.zeros((2, 5, 2))
    right[..., 0], down[:1, :, 0], down[1:, :, 1] = 0.04, 0.04, 0.04  # errors: the first face's are the same
    errors, mirrored = {"a": right, "b": down}, {"a": right / 2, "b": down / 4}
    assert repeats.rows_of_models(errors, mirrored, ["1", "2"]) == [
        ("a", "4.000", "", "2.000"),
        ("b", "4.000", "+0.000 (+0.000 to +0.000)", "1.000"),
        ("mean of all", "3.414", "-0.586 (-1.172 to +0.000)", "1.309"),  # of 4 and 4 / sqrt(2); of 1.5 and sqrt(1.25)
    ]
    assert repeats.common_share(errors) == ["Two models have 50 % of their squared error in common."]


def test_every_script_named_on_a_page_or_in_the_code_exists():
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *(ROOT / "wing_jax").rglob("*.py")]
    pages += [path for folder in FOLDERS for path in (ROOT / folder).iterdir() if path.suffix in (".md", ".py")]
    named = {
        (page.name, name)
        for page in pages
        for name in re.findall(rf"\b(?:{'|'.join(FOLDERS)})/[\w/]+\.py", page.read_text(encoding="utf-8"))
    }
    assert {name for _, name in named} >= {"benchmarks/train_step.py", "reliability/fuzz.py"}
    assert [(page, name) for page, name in sorted(named) if not (ROOT / name).exists()] == []

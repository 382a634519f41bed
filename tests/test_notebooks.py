"""Every notebook runs, is paired with its text, and is stored with what it shows."""

import json
import re
from pathlib import Path

import matplotlib
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.py"))


def _code_cells(text: str) -> list[str]:
    cells = re.split(r"^# %%", text, flags=re.MULTILINE)[1:]
    return [cell.partition("\n")[2].strip() for cell in cells if not cell.startswith(" [markdown]")]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs(path, monkeypatch):
    matplotlib.use("Agg")
    monkeypatch.setattr("matplotlib.pyplot.show", lambda: None)
    exec(compile(path.read_text(), str(path), "exec"), {"__name__": "notebook"})


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_is_paired_and_stored_with_its_outputs(path):
    stored = json.loads(path.with_suffix(".ipynb").read_text())["cells"]
    code = [cell for cell in stored if cell["cell_type"] == "code"]
    assert ["".join(cell["source"]).strip() for cell in code] == _code_cells(path.read_text())
    shown = [kind for cell in code for output in cell["outputs"] for kind in output.get("data", {})]
    assert "image/png" in shown
    assert not any(output["output_type"] == "error" for cell in code for output in cell["outputs"])

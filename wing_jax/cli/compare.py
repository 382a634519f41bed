"""The command `wing-jax compare REPORT REPORT ...`."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from wing_jax.cli.options import parse
from wing_jax.errors import InputError
from wing_jax.report.plots import group_figure, save_figure
from wing_jax.report.tables import Grid, label, number, rich_table
from wing_jax.runtime import files
from wing_jax.runtime.console import make_console, say
from wing_jax.text import cut, quoted, reason


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """Compare several evaluations of one test set by group of faces, in a table and a plot."""

    reports: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="REPORT [REPORT ...]")]
    """folders that `wing-jax evaluate` wrote"""
    names: tuple[str, ...] = ()  # a title for each report; default: the names of the models' folders
    group: str = "pose"  # group of faces to compare by, such as pose or subset
    output: str = "runs/compare.png"  # the plot's file


def run(arguments: list[str]) -> None:
    """Print the last stage's NME by group, for the first condition and metric of each report; write the plot."""
    options = parse(CompareOptions, arguments, command="compare")
    names = options.names or tuple(_model_of(Path(report)) for report in options.reports)
    if not options.reports or len(names) != len(options.reports):
        raise InputError(
            f"{len(options.reports)} reports, {len(names)} names: pass the folders of one or more reports; "
            f"--names needs one name for each, or none"
        )
    entries = [_last_stage(Path(report), options.group) for report in options.reports]
    groups = {name: entry["groups"][options.group] for name, entry in zip(names, entries, strict=True)}
    metric, labels = label(entries[0]), list(entries[0]["groups"][options.group])
    rows = [_row(name, [numbers.get(name) for numbers in groups.values()]) for name in labels]
    grid = Grid(
        title=f"{entries[0]['dataset']}, {entries[0]['condition']}: {metric}",
        header=(options.group, "faces", *names),
        rows=(*rows, _row("all", entries)),
        words=1,
    )
    console = make_console()
    console.print(rich_table(grid))
    say(console, f"figure: {save_figure(group_figure(groups, label=metric), Path(options.output))}")


def _model_of(report: Path) -> str:
    """Return the model's name from the report's path: RUN/model/report-DATA or NAME/report-DATA."""
    model = report.absolute().parent
    return model.parent.name if model.name == "model" else model.name


def _last_stage(report: Path, group: str) -> dict:
    """Return the last stage's entry for the report's first condition and metric."""
    path = report / "results.json"
    try:
        summary = json.loads(files.read_text(path))
        entries = [e for e in summary if all(e[key] == summary[0][key] for key in ("condition", "metric"))]
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise InputError(f"{path}: cannot read these results ({reason(error)}): run wing-jax evaluate first") from error
    if group not in entries[-1]["groups"]:
        raise InputError(
            f"{path}: no group {quoted(group)}: use one of {cut(', '.join(entries[-1]['groups']), length=200)}"
        )
    return entries[-1]


def _row(name: str, entries: Sequence[dict | None]) -> tuple[str, ...]:
    faces = next(str(entry["faces"]) for entry in entries if entry)
    return (name, faces, *(number(entry["mean"]) if entry else "-" for entry in entries))

"""The numbers of an evaluation (`Measurement.to_dict`) as tables: for the screen, as plain text and in Markdown."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from rich.table import Table
from rich.text import Text

from wing_jax.text import printable


class Grid(NamedTuple):
    """A table of text."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: int  # how many of the first columns hold words
    note: str = ""


def label(entry: dict) -> str:
    """What an entry's mean is called, with its unit: "NME by inter-ocular (%)"."""
    return f"{'NME by ' if entry['nme'] else ''}{entry['metric']} ({entry['unit']})"


def series(measurement: Any, measurements: Sequence[Any]) -> str:
    """What a measurement is called among `measurements`: its stage, and its condition where there are several."""
    several = len({m.condition for m in measurements}) > 1
    return f"{measurement.stage}, {measurement.condition}" if several else measurement.stage


def results_grid(summary: Sequence[dict]) -> Grid:
    """One row for each stage and condition, normalizer by normalizer, which is named in each."""
    header = ("normalized by", "stage", "boxes", *_numbers_header(nme=True))
    chosen = [entry for entry in summary if entry["nme"]]
    return Grid("Normalized mean error", header, _by_metric(chosen), 3, _note(chosen))


def other_grids(summary: Sequence[dict]) -> list[Grid]:
    """The same for each metric that is no NME, a table each, for each has a unit of its own."""
    found = []
    for name in dict.fromkeys(entry["metric"] for entry in summary if not entry["nme"]):
        chosen = [entry for entry in summary if entry["metric"] == name]
        header = ("metric", "stage", "boxes", *_numbers_header(nme=False, unit=chosen[0]["unit"]))
        found.append(Grid(label(chosen[0]), header, _by_metric(chosen), 3, _left_out(chosen)))
    return found


def group_grid(summary: Sequence[dict], group: str) -> Grid:
    """One row for each label of `group` and evaluation, by the first metric of the summary."""
    entries = [entry for entry in _leading(summary) if group in entry["groups"]]
    labels = dict.fromkeys(label for entry in entries for label in entry["groups"][group])
    rows = (
        (name, entry["stage"], entry["condition"], *_numbers(entry["groups"][group][name], entry))
        for name in labels
        for entry in entries
        if name in entry["groups"][group]
    )
    first = summary[0]
    header = (group, "stage", "boxes", *_numbers_header(nme=first["nme"], unit=first["unit"]))
    return Grid(f"By {group}, {label(first)}", header, tuple(rows), 3)


def landmark_grid(summary: Sequence[dict]) -> Grid | None:
    """One row a landmark (counted from 0), one column of mean errors an evaluation, by the first normalizer; None where
    there is no NME."""
    entries = _leading([entry for entry in summary if entry["nme"]])
    if not entries:
        return None
    columns = [entry["landmarks"] for entry in entries]
    rows = ((str(i), *(number(mean) for mean in means)) for i, means in enumerate(zip(*columns, strict=True)))
    header = ("landmark", *(f"{entry['stage']}, {entry['condition']} (%)" for entry in entries))
    return Grid(f"Mean error by landmark, normalized by {entries[0]['metric']}", header, tuple(rows), 1)


def number(value: float | None, *, digits: int = 2) -> str:
    """The value with that many decimals; a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


def rich_table(grid: Grid) -> Table:
    """The grid for a `rich` console. Its text appears as it is: "[id]" in a name is no markup."""
    title, note = Text(printable(grid.title), "table.title"), Text(printable(grid.note), "table.caption")
    table = Table(title=title or None, caption=note or None, title_justify="left", caption_justify="left")
    for place, name in enumerate(grid.header):
        table.add_column(Text(printable(name)), justify="left" if place < grid.words else "right")
    for row in grid.rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    return table


def markdown(grid: Grid) -> str:
    """The grid as a Markdown table under its title, ending in a newline."""
    rule = ["---" if place < grid.words else "---:" for place in range(len(grid.header))]
    cells = [grid.header, rule, *grid.rows]
    lines = ["| " + " | ".join(map(_in_markdown, row)) + " |" for row in cells]
    return "\n".join([f"**{_in_markdown(grid.title)}**", "", *lines, *(["", grid.note] if grid.note else []), ""])


def _in_markdown(text: str) -> str:
    """Text that may hold names, without what Markdown takes for its own or for HTML."""
    return re.sub(r"[\\`*\[\]<|]", r"\\\g<0>", printable(text))


def text(grid: Grid) -> str:
    """The grid in plain characters, columns aligned, without a newline at the end."""
    rows = [tuple(map(printable, row)) for row in (grid.header, *grid.rows)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if place < grid.words else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([*filter(None, [printable(grid.title)]), *lines, *filter(None, [printable(grid.note)])])


def _numbers_header(*, nme: bool, unit: str = "%") -> tuple[str, ...]:
    return (
        "faces",
        "NME (%)" if nme else f"mean ({unit})",
        f"median ({unit})",
        "AUC",
        "failures (%)",
        f"limit ({unit})",
    )


def _by_metric(entries: Sequence[dict]) -> tuple[tuple[str, ...], ...]:
    order = [entry["metric"] for entry in entries]
    ordered = sorted(entries, key=lambda entry: order.index(entry["metric"]))
    return tuple((entry["metric"], entry["stage"], entry["condition"], *_numbers(entry, entry)) for entry in ordered)


def _numbers(numbers: dict, entry: dict) -> tuple[str, ...]:
    limit = entry["threshold"]
    shown = "-" if limit is None else f"{100 * limit if entry['unit'] == '%' else limit:g}"
    means = (number(numbers["mean"]), number(numbers["median"]))
    rates = (number(numbers["auc"], digits=3), number(numbers["failure_percent"]))
    return (str(numbers["faces"]), *means, *rates, shown)


def _leading(summary: Sequence[dict]) -> list[dict]:
    return [entry for entry in summary if entry["metric"] == summary[0]["metric"]]


def _note(summary: Sequence[dict]) -> str:
    limit = "AUC and failures are taken up to the limit, an NME."
    left = _left_out(summary, why=", their normalizer being zero or not visible")
    return f"{limit} {left}".rstrip()


def _left_out(summary: Sequence[dict], *, why: str = "") -> str:
    out = {entry["metric"]: entry["left_out"] for entry in summary if entry["left_out"]}
    counts = "; ".join(f"{count} by {name}" for name, count in out.items())
    return f"Faces left out{why}: {counts}." if counts else ""

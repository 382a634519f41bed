"""Format an evaluation (`Measurement.to_dict`) as tables: for the terminal, as plain text and as Markdown."""

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
    words: int  # the number of leading text columns
    note: str = ""


def label(entry: dict) -> str:
    """Return the label of an entry's mean, with its unit: "NME by inter-ocular (%)"."""
    return f"{'NME by ' if entry['nme'] else ''}{entry['metric']} ({entry['unit']})"


def series(measurement: Any, measurements: Sequence[Any]) -> str:
    """Return the label of a measurement: its stage, and its condition if `measurements` have several."""
    several = len({m.condition for m in measurements}) > 1
    return f"{measurement.stage}, {measurement.condition}" if several else measurement.stage


def results_grid(summary: Sequence[dict]) -> Grid:
    """Return the table of NMEs: one row for each normalizer, stage and condition."""
    header = ("normalized by", "stage", "boxes", *_numbers_header(nme=True))
    chosen = [entry for entry in summary if entry["nme"]]
    return Grid("Normalized mean error", header, _by_metric(chosen), 3, _note(chosen))


def other_grids(summary: Sequence[dict]) -> list[Grid]:
    """Return one such table for each metric that is not an NME, as their units differ."""
    grids = []
    for name in dict.fromkeys(entry["metric"] for entry in summary if not entry["nme"]):
        chosen = [entry for entry in summary if entry["metric"] == name]
        header = ("metric", "stage", "boxes", *_numbers_header(nme=False, unit=chosen[0]["unit"]))
        grids.append(Grid(label(chosen[0]), header, _by_metric(chosen), 3, _left_out(chosen)))
    return grids


def group_grid(summary: Sequence[dict], group: str) -> Grid:
    """Return one row for each label of `group` and each evaluation, by the first metric of the summary."""
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


def stress_grid(results: Sequence[Any]) -> Grid:
    """Return one row for each `wing_jax.evaluation.stress.StressResult`; the first is that of the unchanged faces."""
    entries = [result.measurement.to_dict() for result in results]
    unchanged = entries[0]["mean"]
    rows = (
        (
            result.measurement.condition if index else result.name,
            *_numbers(entry, entry)[1:-1],
            "" if not index or None in (entry["mean"], unchanged) else f"{entry['mean'] - unchanged:+.2f}",
        )
        for index, (result, entry) in enumerate(zip(results, entries, strict=True))
    )
    first = entries[0]
    header = ("faces changed by", *_numbers_header(nme=first["nme"], unit=first["unit"])[1:-1], "minus unchanged")
    return Grid(f"Stress, {first['stage']}, {label(first)}", header, tuple(rows), 1)


def landmark_grid(summary: Sequence[dict]) -> Grid | None:
    """Return mean errors by the first normalizer, or None without an NME.

    There is a row for each landmark (counted from 0) and a column for each evaluation.
    """
    entries = _leading([entry for entry in summary if entry["nme"]])
    if not entries:
        return None
    columns = [entry["landmarks"] for entry in entries]
    rows = ((str(i), *(number(mean) for mean in means)) for i, means in enumerate(zip(*columns, strict=True)))
    header = ("landmark", *(f"{entry['stage']}, {entry['condition']} (%)" for entry in entries))
    return Grid(f"Mean error by landmark, normalized by {entries[0]['metric']}", header, tuple(rows), 1)


def number(value: float | None, *, digits: int = 2) -> str:
    """Format the value with that many decimals; a dash for None."""
    return "-" if value is None else f"{value:.{digits}f}"


def rich_table(grid: Grid) -> Table:
    """Return the grid for a `rich` console. Its text is shown literally: "[id]" in a name is not markup."""
    title, note = Text(printable(grid.title), "table.title"), Text(printable(grid.note), "table.caption")
    table = Table(title=title or None, caption=note or None, title_justify="left", caption_justify="left")
    for column, name in enumerate(grid.header):
        table.add_column(Text(printable(name)), justify="left" if column < grid.words else "right")
    for row in grid.rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    return table


def markdown(grid: Grid) -> str:
    """Return the grid as a Markdown table with a title, ending in a newline."""
    rule = ["---" if column < grid.words else "---:" for column in range(len(grid.header))]
    cells = [grid.header, rule, *grid.rows]
    lines = ["| " + " | ".join(map(_escape_markdown, row)) + " |" for row in cells]
    return "\n".join([f"**{_escape_markdown(grid.title)}**", "", *lines, *(["", grid.note] if grid.note else []), ""])


def _escape_markdown(text: str) -> str:
    """Escape text for Markdown and HTML."""
    return re.sub(r"[\\`*\[\]<|]", r"\\\g<0>", printable(text))


def text(grid: Grid) -> str:
    """Return the grid as plain text with aligned columns, without a newline at the end."""
    rows = [tuple(map(printable, row)) for row in (grid.header, *grid.rows)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if index < grid.words else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
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
    shown_limit = "-" if limit is None else f"{100 * limit if entry['unit'] == '%' else limit:g}"
    means = (number(numbers["mean"]), number(numbers["median"]))
    rates = (number(numbers["auc"], digits=3), number(numbers["failure_percent"]))
    return (str(numbers["faces"]), *means, *rates, shown_limit)


def _leading(summary: Sequence[dict]) -> list[dict]:
    return [entry for entry in summary if entry["metric"] == summary[0]["metric"]]


def _note(summary: Sequence[dict]) -> str:
    limit = "AUC and failure rate use the limit in the last column as the NME threshold."
    left_out = _left_out(summary, reason=", because their normalizer is zero or needs a point that is not visible")
    return f"{limit} {left_out}".rstrip()


def _left_out(summary: Sequence[dict], *, reason: str = "") -> str:
    left_out = {entry["metric"]: entry["left_out"] for entry in summary if entry["left_out"]}
    counts = "; ".join(f"{count} by {name}" for name, count in left_out.items())
    return f"Faces excluded{reason}: {counts}." if counts else ""

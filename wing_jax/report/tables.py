"""The numbers of a summary (`wing_jax.evaluation.evaluation.summarise`) as tables: for the screen and in Markdown."""

import re
from collections.abc import Sequence
from typing import NamedTuple

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


_NUMBERS = ("faces", "NME (%)", "median (%)", "AUC", "failures (%)", "limit (%)")


def results_grid(summary: Sequence[dict]) -> Grid:
    """One row an evaluation, normaliser by normaliser, which is named in each."""
    order = [entry["normalisation"] for entry in summary]
    rows = (
        (entry["normalisation"], entry["stage"], entry["condition"], *_numbers(entry, entry["threshold"]))
        for entry in sorted(summary, key=lambda entry: order.index(entry["normalisation"]))
    )
    header = ("normalised by", "stage", "boxes", *_NUMBERS)
    return Grid("Normalised mean error", header, tuple(rows), 3, _note(summary))


def group_grid(summary: Sequence[dict], group: str) -> Grid:
    """One row for each label of `group` and evaluation, under the first normaliser of the summary."""
    entries = [entry for entry in _leading(summary) if group in entry["groups"]]
    labels = dict.fromkeys(label for entry in entries for label in entry["groups"][group])
    rows = (
        (label, entry["stage"], entry["condition"], *_numbers(entry["groups"][group][label], entry["threshold"]))
        for label in labels
        for entry in entries
        if label in entry["groups"][group]
    )
    header = (group, "stage", "boxes", *_NUMBERS)
    return Grid(f"By {group}, normalised by {_normalisation(summary)}", header, tuple(rows), 3)


def landmark_grid(summary: Sequence[dict]) -> Grid:
    """One row a landmark (counted from 0), one column of mean errors an evaluation, by the first normaliser."""
    entries = _leading(summary)
    columns = [entry["landmarks_percent"] for entry in entries]
    rows = ((str(i), *(number(mean) for mean in means)) for i, means in enumerate(zip(*columns, strict=True)))
    header = ("landmark", *(f"{entry['stage']}, {entry['condition']} (%)" for entry in entries))
    return Grid(f"Mean error by landmark, normalised by {_normalisation(summary)}", header, tuple(rows), 1)


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


def _numbers(entry: dict, threshold: float) -> tuple[str, ...]:
    nmes = (number(entry["nme_percent"]), number(entry["median_percent"]))
    rates = (number(entry["auc"], digits=3), number(entry["failure_percent"]))
    return (str(entry["faces"]), *nmes, *rates, f"{100 * threshold:g}")


def _normalisation(summary: Sequence[dict]) -> str:
    return summary[0]["normalisation"]


def _leading(summary: Sequence[dict]) -> list[dict]:
    return [entry for entry in summary if entry["normalisation"] == _normalisation(summary)]


def _note(summary: Sequence[dict]) -> str:
    out = {entry["normalisation"]: entry["left_out"] for entry in summary if entry["left_out"]}
    told = "; ".join(f"{count} by {name}" for name, count in out.items())
    limit = "AUC and failures are taken up to the limit, an NME."
    return f"{limit} Faces left out, their normaliser being zero or not visible: {told}." if told else limit

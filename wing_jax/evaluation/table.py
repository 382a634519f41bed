"""A list of dicts that prints as a table."""

from collections.abc import Iterable, Mapping
from typing import Any

from wing_jax.report import tables


class Table(list[dict[str, Any]]):
    """A list of rows, each a dict with the same keys; `print` shows a table with a title.

    >>> print(Table([{"pose": "left", "faces": 3, "nme": 4.25}], title="By pose"))
    By pose
    pose  faces   nme
    left      3  4.25
    """

    def __init__(self, rows: Iterable[Mapping[str, Any]], *, title: str = ""):
        super().__init__(dict(row) for row in rows)
        self.title = title

    def __str__(self) -> str:
        header = tuple(self[0]) if self else ()
        text_columns = next((i for i, name in enumerate(header) if not isinstance(self[0][name], str)), len(header))
        rows = tuple(tuple(_format_cell(name, value) for name, value in row.items()) for row in self)
        return tables.text(tables.Grid(self.title, header, rows, text_columns))

    __repr__ = __str__


def _format_cell(name: str, value: Any) -> str:
    if value is None or value != value:
        return "-"
    return f"{value:.{3 if name == 'auc' else 2}f}" if isinstance(value, float) else str(value)

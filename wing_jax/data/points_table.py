"""A table of your own: CSV with a header, one face a row, pictures relative to its folder, numbers counted from 0.

Columns, in any order, capital or not; others are left alone:

- the picture: `image`, `image_name`, `image_path`, `file`, `filename`, `file_name` or `path`
- the points: `x0`, `y0`, `x1`, `y1` ... counted from 0; or `NAME_x`, `NAME_y` by the scheme's names, with spaces or
  underscores (`nose_tip_x`); or `original_0_x`, `original_0_y` ... as in the lists of
  https://github.com/HRNet/HRNet-Facial-Landmark-Detection, whose code takes them as 0-based. Both cells of a point
  empty: it has no position.
- `v0`, `v1` ... or `NAME_v`, all or none: 0 no position, 1 hidden, 2 visible, empty unknown, as in COCO
  (`wing_jax.data.coco`). Where the whole file has no 2, visibility is unknown, for 1 may then mean anything.
- the box: `box_x0`, `box_y0`, `box_x1`, `box_y1`, all or none, from the centre of its first to that of its last pixel
- `photo` (the same for faces of one photo) and `subset`

Cells are parted by comma, semicolon or tab, whichever gives the header a column for the picture; the decimal sign is a
point. Lines of empty cells are blank lines.
"""

import csv
import dataclasses
import functools
import io
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int8

from wing_jax import files
from wing_jax.data.listing import numbers, within
from wing_jax.data.records import Face, FaceSet, gather
from wing_jax.errors import InputError
from wing_jax.schemes import Scheme
from wing_jax.types import Visibility
from wing_jax.values import Value

PICTURE = ("image", "image_name", "image_path", "file", "filename", "file_name", "path")
BOX = ("box_x0", "box_y0", "box_x1", "box_y1")
STATES = {"0": Visibility.UNKNOWN, "1": Visibility.OCCLUDED, "2": Visibility.VISIBLE, "": Visibility.UNKNOWN}


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class _Columns(Value):
    width: int
    picture: int
    points: list[int]  # x, y of each point in turn
    states: list[int] | None
    box: list[int] | None
    photo: int | None
    subset: int | None


def read_points_csv(root: str | Path, *, scheme: Scheme, faults: list[str] | None = None) -> FaceSet:
    """The faces of the CSV file `root`, whose points are those of `scheme`; the module says which columns.

    Without columns for the box it is the tight box of the points. `faults` as in `records.gather`.

    Raises:
      InputError: the file or its header is not as it must be, or a row is not; the message names the line.
    """
    path = Path(root)
    header, rows = _table(path)
    columns = _columns(path, header, scheme)
    states = columns.states
    seen = states is not None and any(
        len(row) == columns.width and any(_plain(row[i]) == "2" for i in states) for _, row in rows
    )
    makers = (functools.partial(_face, path, where, row, columns, seen) for where, row in rows)
    convention = "landmarks" if columns.box is None else "csv"
    return gather(makers, name=path.stem, scheme=scheme, box_convention=convention, faults=faults)


def _table(path: Path) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """The header in small letters; and of each row, "FILE:LINE" and the cells, stripped."""
    try:
        text = files.read_text(path, encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot read this table ({error}): give a CSV file in UTF-8") from error
    first = next((line for line in text.split("\n") if line.strip()), "")
    delimiter = next((sign for sign in ",;\t" if set(PICTURE) & set(_cells(first, sign))), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        rows = [(f"{path}:{reader.line_num}", [cell.strip() for cell in row]) for row in reader if "".join(row).strip()]
    except csv.Error as error:
        raise InputError(f"{path}:{reader.line_num}: not CSV ({error}): check the quotes of this line") from None
    if len(rows) < 2:
        raise InputError(f"{path}: no row below the header: give a CSV file with a header and one face a row")
    return [cell.lower() for cell in rows[0][1]], rows[1:]


def _cells(line: str, delimiter: str) -> list[str]:
    return [cell.strip().strip('"').lower() for cell in line.split(delimiter)]


def _columns(path: Path, header: list[str], scheme: Scheme) -> _Columns:
    at: dict[str, int] = {}
    for index, name in enumerate(header):
        if name and at.setdefault(name, index) != index:
            raise InputError(f"{path}: two columns of the header are called {name[:40]!r}: rename one")
    pictures = [name for name in PICTURE if name in at]
    count = scheme.points
    plain = [name.lower() for name in scheme.names]
    styles = (  # the column of x, y or v of a point
        lambda index, axis: f"{axis}{index}",
        lambda index, axis: f"original_{index}_{axis}",
        lambda index, axis: f"{plain[index]}_{axis}",
        lambda index, axis: f"{plain[index].replace(' ', '_')}_{axis}",
    )
    style = next((s for s in styles if all(s(i, axis) in at for i in range(count) for axis in "xy")), None)
    if len(pictures) != 1 or style is None:
        found = ", ".join(header[:6])[:80]
        raise InputError(
            f"{path}: the header {found!r}... must have one column for the picture ({', '.join(PICTURE)}) and, for "
            f"each of the {count} points of {scheme.name}, x0, y0 to x{count - 1}, y{count - 1}, or original_0_x, "
            f"original_0_y ..., or {plain[0].replace(' ', '_')}_x, {plain[0].replace(' ', '_')}_y ..."
        )
    for more in (f"x{count}", f"original_{count}_x"):
        if more in at:
            raise InputError(f"{path}: {more!r} is of a point more than {scheme.name} has ({count}): use its scheme")
    return _Columns(
        width=len(header),
        picture=at[pictures[0]],
        points=[at[style(index, axis)] for index in range(count) for axis in "xy"],
        states=_all_or_none(path, at, [style(index, "v") for index in range(count)]),
        box=_all_or_none(path, at, BOX),
        photo=at.get("photo"),
        subset=at.get("subset"),
    )


def _all_or_none(path: Path, at: dict[str, int], names: list[str] | tuple[str, ...]) -> list[int] | None:
    missing = [name for name in names if name not in at]
    if missing and len(missing) < len(names):
        raise InputError(f"{path}: the header has no column {missing[0]!r} but others of its kind: add it")
    return None if missing else [at[name] for name in names]


def _face(path: Path, where: str, row: list[str], columns: _Columns, seen: bool) -> Face:
    if len(row) != columns.width:
        raise InputError(f"{where}: {len(row)} columns where the header has {columns.width}: correct this line")
    states = None if columns.states is None else [_plain(row[i]) for i in columns.states]
    picture = row[columns.picture]
    photo = within("", picture, where=where).as_posix()
    subset = photo.split("/")[0] if "/" in photo else path.stem
    box = columns.box
    return Face(
        where=where,
        picture=within(path.parent, picture, where=where),
        points=_points(where, [row[i] for i in columns.points], states),
        visibility=_visibility(where, states) if states and seen else Visibility.UNKNOWN,
        box=None if box is None else numbers([row[i] for i in box], where=where, expected=f"a box {', '.join(BOX)}"),
        photo=(row[columns.photo] if columns.photo is not None else "") or photo,
        subset=(row[columns.subset] if columns.subset is not None else "") or subset,
    )


def _points(where: str, cells: list[str], states: list[str] | None) -> Float[np.ndarray, "points 2"]:
    states = states or [""] * (len(cells) // 2)
    _visibility(where, states)
    empty = [not (x or y) or state == "0" for x, y, state in zip(cells[::2], cells[1::2], states, strict=True)]
    for index, state in enumerate(states):
        if empty[index] and state in ("1", "2"):
            raise InputError(f"{where}: point {index} has visibility {state} but no position: fill x and y, or write 0")
        if not empty[index] and not (cells[2 * index] and cells[2 * index + 1]):
            raise InputError(f"{where}: point {index} has one coordinate of two: fill both or none")
    points = np.full((len(states), 2), np.nan, np.float32)
    for index in np.flatnonzero(~np.array(empty)):
        pair = cells[2 * index : 2 * index + 2]
        points[index] = numbers(pair, where=f"{where}: point {index}", expected="numbers 'x', 'y'")
    return points


def _plain(cell: str) -> str:
    """pandas writes "2.0" where a column has empty cells."""
    return cell.removesuffix(".0")


def _visibility(where: str, states: list[str]) -> Int8[np.ndarray, "points"]:
    wrong = [state for state in states if state not in STATES]
    if wrong:
        raise InputError(f"{where}: visibility {wrong[0][:40]!r} is not 0, 1 or 2: correct it or leave it empty")
    return np.array([STATES[state] for state in states], np.int8)

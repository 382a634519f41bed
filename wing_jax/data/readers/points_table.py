"""A table of your own: CSV with a header, one face a row, numbers counted from 0.

Columns, in any order, capital or not; others are left alone:

- the picture: `image`, `image_name`, `image_path`, `file`, `filename`, `file_name` or `path`; where none of these is
  there, `image_file`, `img`, `img_name`, `img_path`, `filepath` or `file_path`, and at last `image_id` (CelebA). Where
  they are looked for says `wing_jax.data.picture_finder`
- the points: `x0`, `y0`, `x1`, `y1` ... counted from 0; `x_0` ... `y_0` ..., as `wing-jax predict` writes them; or
  `NAME_x`, `NAME_y` (`x_NAME` ...) by the names of the scheme's points, also spelled otherwise
  (`wing_jax.data.readers.keypoint_names`); or `original_0_x`, `original_0_y` ... as in the lists of
  https://github.com/HRNet/HRNet-Facial-Landmark-Detection, whose code takes them as 0-based. Both cells of a point
  empty, `nan` or -1: it has no position.
- `v0`, `v1` ... or `NAME_v`, all or none: 0 no position, 1 hidden, 2 visible, empty unknown, as in COCO; or true and
  false, or probabilities (`wing_jax.data.readers.states`). Where the whole file has no 2, visibility is unknown, for 1
  may then mean anything.
- the box: `box_x0`, `box_y0`, `box_x1`, `box_y1`, or `left`, `top`, `right`, `bottom`, all or none, from the center of
  its first to that of its last pixel
- `photo` (the same for faces of one photo) and `subset`
- the picture's size in pixels: `image_width`, `image_height`, or `width`, `height`, unless `left`, `top` or `x`, `y`
  stand beside them, for then they are a box's

Cells are parted by comma, semicolon or tab, whichever gives the header a column for the picture; the decimal sign is a
point, or, where cells are not parted by commas, a comma. Lines of empty cells are blank lines, and so is a first line
`sep=;`, which tells Excel the sign.
"""

import csv
import dataclasses
import functools
import io
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from wing_jax.data.face_set import Face, FaceSet, gather
from wing_jax.data.photos import original_photo
from wing_jax.data.picture_finder import PictureFinder, finder_of_list
from wing_jax.data.picture_sizes import told_size
from wing_jax.data.readers.keypoint_names import match_names, refuse_exchanged_sides, tells_sides
from wing_jax.data.readers.listing import has_no_position, numbers
from wing_jax.data.readers.states import StatesReader, states_reader
from wing_jax.data.registry import register_reader
from wing_jax.errors import InputError
from wing_jax.runtime import files
from wing_jax.schemes import Scheme
from wing_jax.text import quoted, reason
from wing_jax.values import Value

PICTURE = ("image", "image_name", "image_path", "file", "filename", "file_name", "path")
# Names of the picture's column where none of those is there; in tables that have one of those, these may be of others.
SELDOM = ("image_file", "img", "img_name", "img_path", "filepath", "file_path")
LAST = ("image_id",)  # the picture in CelebA's tables, a number beside it in others
SEPARATOR = re.compile(r"\A\s*\"?sep=.\"?\s*\n", re.IGNORECASE)  # Excel's first line
BOX = ("box_x0", "box_y0", "box_x1", "box_y1")
EDGES = ("left", "top", "right", "bottom")
SIZES = (("image_width", "image_height"), ("width", "height"))
VIDEO = {"frame", "timestamp"}
NAMED = (  # columns NAME_x or x_NAME
    r"(?P<name>.*[^\W_])[\s_.-]+(?P<axis>[xyv])",
    r"(?P<axis>[xyv])[\s_.-]+(?P<name>.+)",
)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class _Columns(Value):
    width: int
    picture: int
    points: list[int]  # x, y of each point in turn
    states: list[int] | None
    box: list[int] | None
    photo: int | None
    subset: int | None
    sided: bool  # left and right in the names of columns must be the scheme's
    size: tuple[int, int] | None  # width and height of the picture


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class _Table(Value):
    path: Path
    columns: _Columns
    finder: PictureFinder
    states: StatesReader


@register_reader(name="csv", title="a table, CSV", endings=(".csv", ".tsv"), names_pictures=True)
def read_points_csv(root: str | Path, *, scheme: Scheme, images: str = "", faults: list[str] | None = None) -> FaceSet:
    """The faces of the CSV file `root`, whose points are those of `scheme`; the module says which columns.

    Without columns for the box it is the tight box of the points. `images` is the folder of the pictures, where it is
    none that the list tells. `faults` as in `records.gather`.

    Raises:
      InputError: the file or its header is not as it must be, or a row is not; the message names the line.
    """
    path = Path(root)
    header, rows = _read(path)
    columns = _columns(path, header, scheme)
    states = columns.states or []
    table = _Table(
        path=path,
        columns=columns,
        finder=finder_of_list(path, images=images),
        states=states_reader(row[i] for _, row in rows if len(row) == columns.width for i in states),
    )
    makers = (functools.partial(_face, table, where, row) for where, row in rows)
    convention = "landmarks" if columns.box is None else "csv"
    faces = gather(makers, name=path.stem, scheme=scheme, box_convention=convention, faults=faults)
    if columns.sided:
        refuse_exchanged_sides(faces.points, faces.visible, scheme, where=str(path))
    return faces


def _read(path: Path) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """The header; and of each row, "FILE:LINE" and the cells; all stripped."""
    try:
        text = files.read_text(path, encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot read this table ({reason(error)}): give a CSV file in UTF-8") from error
    text = SEPARATOR.sub("\n", text)
    first = next((line for line in text.split("\n") if line.strip()), "")
    delimiter = next((sign for sign in ",;\t" if {*PICTURE, *SELDOM, *LAST} & set(_cells(first, sign))), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True)
    try:
        rows = [(f"{path}:{reader.line_num}", [cell.strip() for cell in row]) for row in reader if "".join(row).strip()]
    except csv.Error as error:
        raise InputError(
            f"{path}:{reader.line_num}: not CSV ({reason(error)}): check the quotes of this line"
        ) from None
    if len(rows) < 2:
        raise InputError(f"{path}: no row below the header: give a CSV file with a header and one face a row")
    if delimiter != ",":
        rows = [(where, [_with_point(cell) for cell in row]) for where, row in rows]
    return rows[0][1], rows[1:]


def _cells(line: str, delimiter: str) -> list[str]:
    return [cell.strip().strip('"').lower() for cell in line.split(delimiter)]


def _with_point(cell: str) -> str:
    """A number with a decimal comma, written with a point."""
    return cell.replace(",", ".") if re.fullmatch(r"[+-]?[0-9]*,[0-9]+(e[+-]?[0-9]+)?", cell, re.IGNORECASE) else cell


def _columns(path: Path, header: list[str], scheme: Scheme) -> _Columns:
    at: dict[str, int] = {}
    for index, name in enumerate(map(str.lower, header)):
        if name and at.setdefault(name, index) != index:
            raise InputError(f"{path}: two columns of the header are called {quoted(name)}: rename one")
    pictures = next((found for kind in (PICTURE, SELDOM, LAST) if (found := [name for name in kind if name in at])), [])
    count = scheme.points
    if not pictures and at.keys() & VIDEO:
        raise InputError(
            f"{path}: the table of a video (its columns are {', '.join(header[:4])} ...), which names no pictures: "
            "write the frames as pictures, and give the table that wing-jax predict writes of those"
        )
    style, sided = _style(header, at, scheme)
    if len(pictures) != 1 or not style:
        found, plain = ", ".join(header[:6])[:80].lower(), scheme.names[0].lower().replace(" ", "_")
        raise InputError(
            f"{path}: the header {quoted(found)}... must have one column for the picture ({', '.join(PICTURE)}) and, "
            f"for each of the {count} points of {scheme.name}, x0, y0 to x{count - 1}, y{count - 1}, or original_0_x, "
            f"original_0_y ..., or {plain}_x, {plain}_y ..."
        )
    for more in (f"x{count}", f"x_{count}", f"original_{count}_x"):
        if more in at:
            raise InputError(f"{path}: {more!r} is of a point more than {scheme.name} has ({count}): use its scheme")
    edges = [at[name] for name in EDGES] if at.keys() >= set(EDGES) else None
    return _Columns(
        width=len(header),
        picture=at[pictures[0]],
        points=[at[style[index, axis]] for index in range(count) for axis in "xy"],
        states=_all_or_none(path, at, [style[index, "v"] for index in range(count)]),
        box=_all_or_none(path, at, BOX) or edges,
        photo=at.get("photo"),
        subset=at.get("subset"),
        size=_size_columns(at),
        sided=sided,
    )


def _style(header: list[str], at: dict[str, int], scheme: Scheme) -> tuple[dict[tuple[int, str], str], bool]:
    """(by point and axis x, y or v: the name of the column, none where not all are there; whether left and right in
    these names must be the scheme's)."""
    plain = [name.lower() for name in scheme.names]
    short = [name.replace(" ", "_") for name in plain]
    numbers = range(scheme.points)
    for style in ("{axis}{index}", "{axis}_{index}", "original_{index}_{axis}", "{plain}_{axis}", "{short}_{axis}"):
        columns: dict[tuple[int, str], str] = {
            (index, axis): style.format(axis=axis, index=index, plain=plain[index], short=short[index])
            for index in numbers
            for axis in "xyv"
        }
        if all(columns[index, axis] in at for index in numbers for axis in "xy"):
            return columns, "{index}" not in style and tells_sides(scheme.names, scheme)
    for pattern in NAMED:
        named: dict[str, dict[str, str]] = {}
        for cell in header:
            if match := re.fullmatch(pattern, cell, re.IGNORECASE):
                named.setdefault(match["name"], {})[match["axis"].lower()] = cell.lower()
        names = [name for name, axes in named.items() if {"x", "y"} <= axes.keys()]
        matched = match_names(names, scheme)
        if set(numbers) <= set(matched):
            of = {index: named[name] for name, index in zip(names, matched, strict=True) if index is not None}
            columns = {(i, axis): of[i].get(axis, f"{short[i]}_{axis}") for i in numbers for axis in "xyv"}
            return columns, tells_sides(names, scheme)
    return {}, False


def _size_columns(at: dict[str, int]) -> tuple[int, int] | None:
    of_a_box = any(set(corner) <= at.keys() for corner in (("left", "top"), ("x", "y"), ("box_x", "box_y")))
    for pair in SIZES[: 1 if of_a_box else None]:
        if set(pair) <= at.keys():
            return at[pair[0]], at[pair[1]]
    return None


def _all_or_none(path: Path, at: dict[str, int], names: Sequence[str]) -> list[int] | None:
    missing = [name for name in names if name not in at]
    if missing and len(missing) < len(names):
        raise InputError(f"{path}: the header has no column {quoted(missing[0])} but others of its kind: add it")
    return None if missing else [at[name] for name in names]


def _face(table: _Table, where: str, row: list[str]) -> Face:
    columns = table.columns
    if len(row) != columns.width:
        raise InputError(f"{where}: {len(row)} columns where the header has {columns.width}: correct this line")
    states = [""] * (len(columns.points) // 2) if columns.states is None else [row[i] for i in columns.states]
    positioned, visibility = table.states.read(states, where=where)
    picture, photo = table.finder.find(row[columns.picture], where=where)
    box, size = columns.box, columns.size
    return Face(
        where=where,
        picture=picture,
        points=_points(where, [row[i] for i in columns.points], positioned),
        visibility=visibility,
        box=None if box is None else numbers([row[i] for i in box], where=where, expected=f"a box {', '.join(BOX)}"),
        photo=(row[columns.photo] if columns.photo is not None else "") or original_photo(photo),
        subset=(row[columns.subset] if columns.subset is not None else "")
        or (photo.split("/")[0] if "/" in photo else table.path.stem),
        picture_size=None if size is None else told_size(row[size[0]], row[size[1]]),
    )


def _points(where: str, cells: list[str], positioned: Bool[np.ndarray, "points"]) -> Float[np.ndarray, "points 2"]:
    points = np.full((len(positioned), 2), np.nan, np.float32)
    for index in np.flatnonzero(positioned):
        pair = cells[2 * index : 2 * index + 2]
        if has_no_position(*pair):
            continue
        if not all(pair):
            raise InputError(f"{where}: point {index} has one coordinate of two: fill both or none")
        points[index] = numbers(pair, where=f"{where}: point {index}", expected="numbers 'x', 'y'")
    return points

"""CSV tables with a header and one face per row; coordinates count from 0.

Columns, in any order and any case; other columns are ignored:

- the picture: `image`, `image_name`, `image_path`, `file`, `filename`, `file_name` or `path`; without any of these,
  `image_file`, `img`, `img_name`, `img_path`, `filepath` or `file_path`; without any of those, `image_id` (CelebA).
  `wing_jax.data.picture_finder` describes where pictures are searched
- the points: `x0`, `y0`, `x1`, `y1` ... counted from 0; `x_0` ... `y_0` ..., as written by `wing-jax predict`; or
  `NAME_x`, `NAME_y` (`x_NAME` ...) with the names of the scheme's points, also in other spellings
  (`wing_jax.data.readers.keypoint_names`); or `original_0_x`, `original_0_y` ... as in the lists of
  https://github.com/HRNet/HRNet-Facial-Landmark-Detection, whose code takes them as 0-based. A point has no
  position if both of its cells are empty, `nan` or -1
- `v0`, `v1` ... or `NAME_v`, all or none: 0 no position, 1 hidden, 2 visible, empty unknown, as in COCO; or true and
  false, or probabilities (`wing_jax.data.readers.states`). If the file contains no 2, visibility is unknown, because 1
  may then mean anything
- the box: `box_x0`, `box_y0`, `box_x1`, `box_y1`, or `left`, `top`, `right`, `bottom`, all or none, from the center of
  its first pixel to that of its last
- `photo` (the same for faces of one photo) and `subset`
- the picture's size in pixels: `image_width`, `image_height`, or `width`, `height`, unless there are also
  columns `left`, `top` or `x`, `y`, because `width` and `height` are then those of a box

The separator is a comma, semicolon or tab, whichever gives the header a column for the picture. The decimal sign is a
point, or also a comma if cells are not separated by commas. Lines of empty cells are skipped, and so is a first line
`sep=;`, which Excel uses to declare the separator.
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

from wing_jax.data.face_set import Face, FaceSet, build_face_set
from wing_jax.data.photos import original_photo
from wing_jax.data.picture_finder import PictureFinder, finder_of_list
from wing_jax.data.picture_sizes import parse_size
from wing_jax.data.readers.keypoint_names import format_names, match_names, must_match_sides, reject_swapped_sides
from wing_jax.data.readers.listing import has_no_position, numbers
from wing_jax.data.readers.states import StatesReader, detect_states_format
from wing_jax.data.registry import register_reader
from wing_jax.errors import InputError
from wing_jax.runtime import files
from wing_jax.schemes import Scheme
from wing_jax.text import quoted, reason
from wing_jax.values import Value

PICTURE = ("image", "image_name", "image_path", "file", "filename", "file_name", "path")
# Names of the picture column if none of PICTURE exists; in tables with one of PICTURE these may mean something else.
RARE_PICTURE = ("image_file", "img", "img_name", "img_path", "filepath", "file_path")
LAST_PICTURE = ("image_id",)  # the picture in CelebA's tables, a number in others
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
    points: list[int]  # x and y of each point, alternating
    states: list[int] | None
    box: list[int] | None
    photo: int | None
    subset: int | None
    check_sides: bool  # left and right in the column names must mean those of the scheme
    size: tuple[int, int] | None  # width and height of the picture


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class _Table(Value):
    path: Path
    columns: _Columns
    finder: PictureFinder
    states: StatesReader


@register_reader(name="csv", title="a table, CSV", extensions=(".csv", ".tsv"), names_pictures=True)
def read_points_csv(root: str | Path, *, scheme: Scheme, images: str = "", faults: list[str] | None = None) -> FaceSet:
    """Read the faces of the CSV file `root`, whose points are those of `scheme`; the module describes the columns.

    Without columns for the box, it is the tight box of the points. `images` is the folder of the pictures, if they are
    not where the file says. `faults` as in `face_set.build_face_set`.

    Raises:
      InputError: the file, its header or a row is not valid; the message names the line.
    """
    path = Path(root)
    header, rows = _read(path)
    columns = _parse_header(path, header, scheme)
    states = columns.states or []
    table = _Table(
        path=path,
        columns=columns,
        finder=finder_of_list(path, images=images),
        states=detect_states_format(row[i] for _, row in rows if len(row) == columns.width for i in states),
    )
    face_readers = (functools.partial(_face, table, location, row) for location, row in rows)
    convention = "landmarks" if columns.box is None else "csv"
    faces = build_face_set(face_readers, name=path.stem, scheme=scheme, box_convention=convention, faults=faults)
    if columns.check_sides:
        reject_swapped_sides(faces.points, faces.visible, scheme, location=str(path))
    return faces


def _read(path: Path) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Read the header and, for each row, "FILE:LINE" and the cells; all stripped."""
    try:
        text = files.read_text(path, encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot read this table ({reason(error)}): pass a CSV file in UTF-8") from error
    text = SEPARATOR.sub("\n", text)
    first = next((line for line in text.split("\n") if line.strip()), "")
    names = {*PICTURE, *RARE_PICTURE, *LAST_PICTURE}
    delimiter = next((sign for sign in ",;\t" if names & set(_split_cells(first, sign))), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True)
    try:
        rows = [(f"{path}:{reader.line_num}", [cell.strip() for cell in row]) for row in reader if "".join(row).strip()]
    except csv.Error as error:
        raise InputError(
            f"{path}:{reader.line_num}: not CSV ({reason(error)}): correct the quotes in this line"
        ) from None
    if len(rows) < 2:
        raise InputError(f"{path}: no row below the header: pass a CSV file with a header and one face per row")
    if delimiter != ",":
        rows = [(location, [_replace_decimal_comma(cell) for cell in row]) for location, row in rows]
    return rows[0][1], rows[1:]


def _split_cells(line: str, delimiter: str) -> list[str]:
    return [cell.strip().strip('"').lower() for cell in line.split(delimiter)]


def _replace_decimal_comma(cell: str) -> str:
    """Replace the comma in a number with a decimal comma by a point."""
    return cell.replace(",", ".") if re.fullmatch(r"[+-]?[0-9]*,[0-9]+(e[+-]?[0-9]+)?", cell, re.IGNORECASE) else cell


def _parse_header(path: Path, header: list[str], scheme: Scheme) -> _Columns:
    column_indices: dict[str, int] = {}
    for index, name in enumerate(map(str.lower, header)):
        if name and column_indices.setdefault(name, index) != index:
            raise InputError(f"{path}: two columns of the header are named {quoted(name)}: rename one")
    groups = ([name for name in names if name in column_indices] for names in (PICTURE, RARE_PICTURE, LAST_PICTURE))
    pictures = next((names for names in groups if names), [])
    count = scheme.points
    if not pictures and column_indices.keys() & VIDEO:
        raise InputError(
            f"{path}: a table of a video (its columns are {', '.join(header[:4])} ...), without picture names: "
            "save the frames as pictures, and pass the table that wing-jax predict writes for those"
        )
    point_columns, check_sides = _find_point_columns(header, column_indices, scheme)
    if len(pictures) != 1 or not point_columns:
        if len(pictures) == 1:
            _check_all_named(path, header, scheme)
        start, name = ", ".join(header[:6])[:80].lower(), scheme.names[0].lower().replace(" ", "_")
        raise InputError(
            f"{path}: the header {quoted(start)}... must have one column for the picture ({', '.join(PICTURE)}) and, "
            f"for each of the {count} points of {scheme.name}, x0, y0 to x{count - 1}, y{count - 1}, or original_0_x, "
            f"original_0_y ..., or {name}_x, {name}_y ..."
        )
    for extra in (f"x{count}", f"x_{count}", f"original_{count}_x"):
        if extra in column_indices:
            raise InputError(
                f"{path}: column {extra!r}, but {scheme.name} has only {count} points: pass the scheme of this file"
            )
    edges = [column_indices[name] for name in EDGES] if column_indices.keys() >= set(EDGES) else None
    return _Columns(
        width=len(header),
        picture=column_indices[pictures[0]],
        points=[column_indices[point_columns[index, axis]] for index in range(count) for axis in "xy"],
        states=_find_all_or_none(path, column_indices, [point_columns[index, "v"] for index in range(count)]),
        box=_find_all_or_none(path, column_indices, BOX) or edges,
        photo=column_indices.get("photo"),
        subset=column_indices.get("subset"),
        size=_find_size_columns(column_indices),
        check_sides=check_sides,
    )


def _find_point_columns(
    header: list[str], column_indices: dict[str, int], scheme: Scheme
) -> tuple[dict[tuple[int, str], str], bool]:
    """Find the columns of the points.

    Returns:
      (column name by point and axis x, y or v, empty if a column is missing; whether left and right in these names must
      mean those of the scheme).
    """
    plain = [name.lower() for name in scheme.names]
    short = [name.replace(" ", "_") for name in plain]
    numbers = range(scheme.points)
    for style in ("{axis}{index}", "{axis}_{index}", "original_{index}_{axis}", "{plain}_{axis}", "{short}_{axis}"):
        columns: dict[tuple[int, str], str] = {
            (index, axis): style.format(axis=axis, index=index, plain=plain[index], short=short[index])
            for index in numbers
            for axis in "xyv"
        }
        if all(columns[index, axis] in column_indices for index in numbers for axis in "xy"):
            return columns, "{index}" not in style and must_match_sides(scheme.names, scheme)
    for pattern in NAMED:
        columns_by_name: dict[str, dict[str, str]] = {}
        for cell in header:
            if match := re.fullmatch(pattern, cell, re.IGNORECASE):
                columns_by_name.setdefault(match["name"], {})[match["axis"].lower()] = cell.lower()
        names = [name for name, axes in columns_by_name.items() if {"x", "y"} <= axes.keys()]
        matches = match_names(names, scheme)
        if set(numbers) <= set(matches):
            axes = {i: columns_by_name[name] for name, i in zip(names, matches, strict=True) if i is not None}
            columns = {(i, axis): axes[i].get(axis, f"{short[i]}_{axis}") for i in numbers for axis in "xyv"}
            return columns, must_match_sides(names, scheme)
    return {}, False


def _check_all_named(path: Path, header: list[str], scheme: Scheme) -> None:
    """Raise InputError if the columns name some of the points, but not all."""
    for pattern in NAMED:
        names = list(dict.fromkeys(match["name"] for cell in header if (match := re.fullmatch(pattern, cell, re.I))))
        matches = match_names(names, scheme)
        if any(index is not None for index in matches):
            missing = [name for index, name in enumerate(scheme.names) if index not in matches]
            others = [name for name, index in zip(names, matches, strict=True) if index is None]
            raise InputError(
                f"{path}: no x and y columns for {format_names(missing)} of {scheme.name} (names in the header that "
                f"match no point: {format_names(others)}): rename the columns in the header"
            )


def _find_size_columns(column_indices: dict[str, int]) -> tuple[int, int] | None:
    has_box = any(set(corner) <= column_indices.keys() for corner in (("left", "top"), ("x", "y"), ("box_x", "box_y")))
    for pair in SIZES[: 1 if has_box else None]:
        if set(pair) <= column_indices.keys():
            return column_indices[pair[0]], column_indices[pair[1]]
    return None


def _find_all_or_none(path: Path, column_indices: dict[str, int], names: Sequence[str]) -> list[int] | None:
    missing = [name for name in names if name not in column_indices]
    if missing and len(missing) < len(names):
        raise InputError(f"{path}: the header has no column {quoted(missing[0])}, but others like it: add it")
    return None if missing else [column_indices[name] for name in names]


def _face(table: _Table, location: str, row: list[str]) -> Face:
    columns = table.columns
    if len(row) != columns.width:
        raise InputError(f"{location}: {len(row)} columns, but {columns.width} in the header: correct this line")
    states = [""] * (len(columns.points) // 2) if columns.states is None else [row[i] for i in columns.states]
    positioned, visibility = table.states.read(states, location=location)
    picture, photo = table.finder.find(row[columns.picture], location=location)
    box, size = columns.box, columns.size
    return Face(
        location=location,
        picture=picture,
        points=_points(location, [row[i] for i in columns.points], positioned),
        visibility=visibility,
        box=None
        if box is None
        else numbers([row[i] for i in box], location=location, expected=f"a box {', '.join(BOX)}"),
        photo=(row[columns.photo] if columns.photo is not None else "") or original_photo(photo),
        subset=(row[columns.subset] if columns.subset is not None else "")
        or (photo.split("/")[0] if "/" in photo else table.path.stem),
        picture_size=None if size is None else parse_size(row[size[0]], row[size[1]]),
    )


def _points(location: str, cells: list[str], positioned: Bool[np.ndarray, "points"]) -> Float[np.ndarray, "points 2"]:
    points = np.full((len(positioned), 2), np.nan, np.float32)
    for index in np.flatnonzero(positioned):
        pair = cells[2 * index : 2 * index + 2]
        if has_no_position(*pair):
            continue
        if not all(pair):
            raise InputError(f"{location}: point {index} has only one coordinate: fill in both or none")
        points[index] = numbers(pair, location=f"{location}: point {index}", expected="numbers 'x', 'y'")
    return points

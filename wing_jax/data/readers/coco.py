"""COCO keypoint JSON, as CVAT, mmpose, Roboflow and many others write it; https://cocodataset.org/#format-data.

`root` is the JSON file: `images` [{id, file_name, width, height}], `annotations` [{id, image_id, bbox: [x, y, width,
height], keypoints: [x, y, v] * N, iscrowd}], `categories` [{id, keypoints: names}]. `wing_jax.data.picture_finder` says
where pictures are looked for; `wing_jax.data.photos` which of them are copies of one photo.

Coordinates are taken as they are, as 0-based pixel centers, as mmpose does. A file made from a source that counts from
1 without subtracting it stays one pixel off (mmpose's 300-VW sample holds the numbers of its `.pts` files); a tool may
count from the corner of the first pixel, half a pixel more. No field says so. The box ends at x + width, y + height.

v is 0 (not labelled: no position, whatever x and y are), 1 (labelled, hidden) or 2 (labelled, visible); or a
probability, see `wing_jax.data.readers.states`. Face sets converted by mmpose write 1 for every point (300W, AFLW,
WFLW), so where no point of a file has a 2, visibility is unknown. Others write 2 throughout (300W-LP, LaPa), which
cannot be told from all points visible, and is read so. A point whose x and y are null, NaN or -1 has no position
either.

Names of keypoints in the category tell the order of the points (`wing_jax.data.readers.keypoint_names`), those of the
one category that has names also for annotations of a category without.

Not faces with landmarks by COCO's own meaning, and left out: annotations with `iscrowd` 1 (a region of many), without
keypoints (boxes and masks of other things), and with v = 0 throughout (not annotated).

Whole bodies hold 68 points of a face, in the order of ibug68: COCO-WholeBody (Jin et al., ECCV 2020) in `face_kpts`,
with `face_box` and `face_valid`; its keypoints merged, as mmpose does it, from 23 on of 133; Halpe
(https://github.com/Fang-Haoshu/Halpe-FullBody) from 26 on of 136. Bodies without a face are left out.
"""

import dataclasses
import functools
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from wing_jax.data.face_set import Face, FaceSet, gather
from wing_jax.data.photos import original_photo, told_photo
from wing_jax.data.picture_finder import PictureFinder, finder_of_list
from wing_jax.data.picture_sizes import told_size
from wing_jax.data.readers.json_file import json_numbers, json_said, read_json
from wing_jax.data.readers.keypoint_names import order_of_names, refuse_exchanged_sides, tells_sides
from wing_jax.data.readers.listing import has_no_position
from wing_jax.data.readers.states import StatesReader, state_of, states_reader
from wing_jax.data.registry import register_reader
from wing_jax.errors import InputError
from wing_jax.geometry import tight_box
from wing_jax.schemes import IBUG_68, Scheme
from wing_jax.text import cut
from wing_jax.values import Value

EXPECTED = "a finite number: a keypoint is 'x, y, v'"
CLOSE, LOOSE = 2.5, 1.5  # sides of a box per extent of the points, and per side of the same box read otherwise
HINT = "correct the names in the file or in the scheme's TOML, or remove them from the file to take its order"


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Layout:
    """Where an annotation holds the points of a face."""

    key: str = "keypoints"
    total: int  # points under that key
    first: int = 0  # the first of the face
    box: str = "bbox"  # "": there is none of the face
    convention: str = "coco"
    told: str = ""  # what it is, for a message


WHOLE_BODIES = (
    _Layout(
        key="face_kpts", total=68, box="face_box", convention="coco-wholebody", told="'face_kpts' of COCO-WholeBody"
    ),
    _Layout(total=133, first=23, box="", convention="landmarks", told="133 points of COCO-WholeBody"),
    _Layout(total=136, first=26, box="", convention="landmarks", told="136 points of Halpe"),
)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class _File(Value):
    path: Path
    scheme: Scheme
    layout: _Layout
    finder: PictureFinder
    images: dict[int | str, dict[str, Any]]
    orders: dict[int | str, list[int]]  # by category: where the scheme's points stand among its keypoints
    states: StatesReader


@register_reader(name="coco", title="COCO keypoints, JSON", endings=(".json",), names_pictures=True)
def read_coco(root: str | Path, *, scheme: Scheme, images: str = "", faults: list[str] | None = None) -> FaceSet:
    """The faces of the COCO JSON file `root`, whose keypoints are the points of `scheme`.

    Keypoints stand in the order of their names in the category, where these are the scheme's, else in the scheme's
    order. The box is the annotated one; without `bbox`, the tight box of the points. The `attributes` that CVAT adds
    are read where they are booleans. `images` is the folder of the pictures, where it is none that the list tells.
    `faults` as in `records.gather`.

    Raises:
      InputError: the file is not as above, its names of keypoints are not those of the scheme, or an annotation is
        broken; the message names its id.
    """
    path = Path(root)
    content = read_json(path, hint="give a COCO keypoint file")
    if isinstance(content, dict) and {"scheme", "coordinates", "faces"} <= content.keys():
        raise InputError(
            f"{path}: what wing-jax predict wrote of one picture, not a list: give its predictions.csv, or the folder "
            "of its .pts files"
        )
    by_id = _by_id(path, _entries(path, content, "images"))
    listed = _entries(path, content, "annotations")
    layout = _layout(path, listed, scheme)
    annotations = [entry for entry in listed if _has_landmarks(entry, layout)]
    if not annotations:
        raise InputError(f"{path}: none of {len(listed)} annotations has labelled keypoints: annotate some")
    orders, sided = _orders(path, content.get("categories"), annotations, layout, scheme)
    file = _File(
        path=path,
        scheme=scheme,
        layout=layout,
        finder=finder_of_list(path, images=images),
        images=by_id,
        orders=orders,
        states=states_reader(state for entry in annotations for state in _states(entry, layout)),
    )
    makers = (functools.partial(_face, file, entry) for entry in annotations)
    faces = gather(makers, name=path.stem, scheme=scheme, box_convention=layout.convention, faults=faults)
    _refuse_corners(faces, where=str(path))
    if sided:
        refuse_exchanged_sides(faces.points, faces.visible, scheme, where=str(path))
    return faces


def _entries(path: Path, content: Any, key: str) -> list[dict[str, Any]]:
    entries = content.get(key) if isinstance(content, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InputError(f"{path}: no list of objects {key!r}: is this a COCO keypoint file?")
    return entries


def _by_id(path: Path, entries: list[dict[str, Any]]) -> dict[int | str, dict[str, Any]]:
    by_id: dict[int | str, dict[str, Any]] = {}
    for number, entry in enumerate(entries):
        name = entry.get("id")
        if not isinstance(name, int | str) or name in by_id:
            raise InputError(f"{path}: entry {number} of 'images' has no id of its own: give each another one")
        by_id[name] = entry
    for name, entry in list(by_id.items()):  # some tools write an id as a number here and as text there
        by_id.setdefault(str(name), entry)
    return by_id


def _layout(path: Path, listed: list[dict[str, Any]], scheme: Scheme) -> _Layout:
    """That of the scheme's own points, unless no annotation has as many and there are whole bodies."""
    counts = {key: Counter(len(_values(entry, key)) / 3 for entry in listed) for key in ("keypoints", "face_kpts")}
    plain = _Layout(total=scheme.points)
    found = next((layout for layout in WHOLE_BODIES if counts[layout.key][layout.total]), None)
    if found is None or counts["keypoints"][scheme.points]:
        return plain
    if scheme.name != IBUG_68.name:
        raise InputError(
            f"{path}: its faces have the 68 points of {IBUG_68.name} ({found.told}) where {scheme.name} has "
            f"{scheme.points}: give {IBUG_68.name} as the scheme"
        )
    return found


def _values(annotation: dict[str, Any], key: str) -> list[Any]:
    """The numbers under `key`, also where they are grouped by points; none where there is no list."""
    values = annotation.get(key)
    if not isinstance(values, list):
        return []
    if values and all(isinstance(value, list) and len(value) == 3 for value in values):
        return [number for point in values for number in point]
    return values


def _has_landmarks(annotation: dict[str, Any], layout: _Layout) -> bool:
    """See the module's docstring. What is broken counts as landmarks, so that it is refused and not left out."""
    keypoints = annotation.get(layout.key)
    if annotation.get("iscrowd") in (1, "1") or keypoints is None or keypoints == []:
        return False
    if layout.key == "face_kpts" and annotation.get("face_valid") in (0, "false", "False"):
        return False
    states = _states(annotation, layout)
    return not states or any(state_of(state) != 0 for state in states)


def _states(annotation: dict[str, Any], layout: _Layout) -> list[Any]:
    """Each v of the face; none where the keypoints are no list of threes."""
    values = _values(annotation, layout.key)
    return _of_face(values, layout)[2::3] if len(values) % 3 == 0 else []


def _of_face(values: list[Any], layout: _Layout) -> list[Any]:
    whole = layout.total == len(values) / 3 and layout.first
    return values[3 * layout.first : 3 * (layout.first + IBUG_68.points)] if whole else values


def _orders(
    path: Path, categories: object, annotations: list[dict[str, Any]], layout: _Layout, scheme: Scheme
) -> tuple[dict[int | str, list[int]], bool]:
    """(by category that is used: where the scheme's points stand among its keypoints; whether left and right in its
    names must be the scheme's)."""
    orders: dict[int | str, list[int]] = {}
    sided = False
    used = {str(entry.get("category_id")) for entry in annotations}
    named = _named_categories(path, categories) if layout.told == "" else {}
    unnamed = used - named.keys()
    for number, names in named.items():
        if number not in used and not (unnamed and len(names) == scheme.points):
            continue
        where = f"{path}: category {cut(number)}"
        if len(names) != scheme.points:
            mine = [entry for entry in annotations if str(entry.get("category_id")) == number]
            if any(len(_values(entry, layout.key)) == 3 * scheme.points for entry in mine):
                raise InputError(
                    f"{where}: names {len(names)} keypoints, but its annotations have {scheme.points}: {HINT}"
                )
            continue  # the annotations have as many as are named, not those of the scheme: each is refused
        order = order_of_names(names, scheme, where=where, hint=HINT)
        if order is not None:
            orders[number] = order
            sided |= tells_sides(names, scheme)
    if unnamed and orders:  # their names must be those of the others
        if len({tuple(order) for order in orders.values()}) > 1:
            raise InputError(
                f"{path}: category {cut(min(unnamed))} of its annotations names no keypoints, and the others name "
                "them in several orders: add its names"
            )
        orders |= dict.fromkeys(unnamed, next(iter(orders.values())))
    return orders, sided


def _named_categories(path: Path, categories: object) -> dict[str, list[str]]:
    """By the category's id: its names of keypoints, where it has any."""
    if not isinstance(categories, list) or not all(isinstance(category, dict) for category in categories):
        if categories in (None, {}):
            return {}
        raise InputError(
            f"{path}: 'categories' is no list of objects, so that the names of keypoints are not told: {HINT}"
        )
    named = {}
    for category in categories:
        names = category.get("keypoints")
        if names is None or names == {} or names == "":
            continue
        if not isinstance(names, list):
            raise InputError(
                f"{path}: 'keypoints' of category {json_said(category.get('id'))} is no list of names: {HINT}"
            )
        if any(name not in (None, "") for name in names):
            named[str(category.get("id"))] = [str(name) for name in names]
    return named


def _face(file: _File, annotation: dict[str, Any]) -> Face:
    where = f"{file.path}: annotation {json_said(annotation.get('id'))}"
    layout, scheme = file.layout, file.scheme
    values = _values(annotation, layout.key)
    if not isinstance(annotation[layout.key], list) or len(values) != 3 * layout.total:
        count = len(values) if isinstance(annotation[layout.key], list) else "no list of"
        raise InputError(
            f"{where}: {count} numbers in {layout.key!r} where {layout.total} points of {scheme.name} "
            f"have {3 * layout.total}: correct it or use its scheme"
        )
    values = _of_face(values, layout)
    labelled, visibility = file.states.read(values[2::3], where=where)
    points = np.full((scheme.points, 2), np.nan, np.float32)
    pairs = list(zip(values[::3], values[1::3], strict=True))
    kept = [index for index in np.flatnonzero(labelled) if not has_no_position(*pairs[index])]
    numbers = [number for index in kept for number in pairs[index]]
    points[kept] = json_numbers(numbers, where=where, expected=EXPECTED).reshape(-1, 2)
    order = file.orders.get(str(annotation.get("category_id")), list(range(scheme.points)))
    image, name = _image(file, annotation, where)
    picture, photo = file.finder.find(name, where=where)
    attributes = annotation.get("attributes")
    return Face(
        where=where,
        picture=picture,
        points=points[order],
        visibility=visibility[order] if isinstance(visibility, np.ndarray) else visibility,
        box=_box(annotation.get(layout.box), layout.box, where) if layout.box else None,
        photo=told_photo(image) or original_photo(photo),
        subset=photo.split("/")[0] if "/" in photo else file.path.stem,
        attributes={str(name): value for name, value in attributes.items() if isinstance(value, bool)}
        if isinstance(attributes, dict)
        else {},
        picture_size=told_size(image.get("width"), image.get("height")),
    )


def _image(file: _File, annotation: dict[str, Any], where: str) -> tuple[dict[str, Any], str]:
    """The image of an annotation, and the name of its file."""
    number = annotation.get("image_id")
    known = isinstance(number, int | str)
    image = file.images.get(number) or file.images.get(str(number)) if known else None
    name = None if image is None else image.get("file_name")
    if image is None or not isinstance(name, str):
        raise InputError(f"{where}: no image with a file_name has its image_id {json_said(number)}: add it")
    return image, name


def _box(values: object, key: str, where: str) -> Float[np.ndarray, "4"] | None:
    if values is None or values == []:
        return None
    if not isinstance(values, list) or len(values) != 4:
        raise InputError(f"{where}: {key!r} is not [x, y, width, height]: correct it")
    box = json_numbers(values, where=where, expected=f"a finite number of {key!r}")
    with np.errstate(over="ignore"):  # an infinite box is refused with the empty ones
        return np.concatenate([box[:2], box[:2] + box[2:]])


def _refuse_corners(faces: FaceSet, *, where: str) -> None:
    """Look whether the boxes are [x0, y0, x1, y1] by mistake: read so they are close around the points, while read as
    [x, y, width, height] they are much larger.

    Raises:
      InputError: that is so in more than half of the faces.
    """
    if faces.box_convention == "landmarks":
        return
    corner, size = faces.boxes[:, :2], faces.boxes[:, 2:] - faces.boxes[:, :2]
    low, high = np.split(np.asarray(tight_box(faces.points, faces.visible)), 2, axis=1)
    sides, spans = (size - corner).max(1), (high - low).max(1)
    around = np.concatenate([corner - low, high - size], axis=1).max(1) <= 0.02 * spans
    mistaken = around & (sides <= CLOSE * spans) & (size.max(1) > LOOSE * sides)
    if mistaken.sum() > len(faces) / 2:
        raise InputError(
            f"{where}: in {mistaken.sum()} of {len(faces)} faces the box is close around the points only if it is read "
            "as [x0, y0, x1, y1], and COCO's is [x, y, width, height]: write it so"
        )

"""COCO keypoint JSON, as written by CVAT, mmpose, Roboflow and many others; https://cocodataset.org/#format-data.

`root` is the JSON file: `images` [{id, file_name, width, height}], `annotations` [{id, image_id, bbox: [x, y, width,
height], keypoints: [x, y, v] * N, iscrowd}], `categories` [{id, keypoints: names}]. `wing_jax.data.picture_finder`
describes where pictures are searched, `wing_jax.data.photos` which of them are copies of one photo.

Coordinates are read unchanged, as 0-based pixel centers, as in mmpose. A file made from a source that counts from 1
without subtracting 1 is one pixel off (mmpose's 300-VW sample contains the numbers of its `.pts` files); with a tool
that counts from the corner of the first pixel it is half a pixel off. No field indicates this. The box ends at
x + width, y + height.

v is 0 (not labeled: no position, whatever x and y are), 1 (labeled, hidden) or 2 (labeled, visible); or a probability,
see `wing_jax.data.readers.states`. Face sets converted by mmpose have 1 for every point (300W, AFLW, WFLW), so if no
point of a file has a 2, visibility is unknown. Others have 2 for every point (300W-LP, LaPa); this cannot be
distinguished from all points being visible, and is read so. A point whose x and y are null, NaN or -1 has no position
either.

The keypoint names of the category define the order of the points (`wing_jax.data.readers.keypoint_names`). If only one
category has names, they also apply to annotations of categories without names.

Annotations that COCO does not mean as faces with landmarks are skipped: those with `iscrowd` 1 (a region of many),
without keypoints (boxes and masks of other objects), and with v = 0 for every point (not annotated).

Annotations of whole bodies contain 68 points of a face, in the order of ibug68: COCO-WholeBody (Jin et al., ECCV 2020)
in `face_kpts`, with `face_box` and `face_valid`, or in the merged keypoints of mmpose, from index 23 of 133; Halpe
(https://github.com/Fang-Haoshu/Halpe-FullBody) from index 26 of 136. Bodies without a face are skipped.
"""

import dataclasses
import functools
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from wing_jax.data.face_set import Face, FaceSet, build_face_set
from wing_jax.data.photos import original_photo, roboflow_photo
from wing_jax.data.picture_finder import PictureFinder, finder_of_list
from wing_jax.data.picture_sizes import parse_size
from wing_jax.data.readers.json_file import format_json_value, json_numbers, read_json
from wing_jax.data.readers.keypoint_names import find_point_order, must_match_sides, reject_swapped_sides
from wing_jax.data.readers.listing import has_no_position
from wing_jax.data.readers.states import StatesReader, detect_states_format, parse_state
from wing_jax.data.registry import register_reader
from wing_jax.errors import InputError
from wing_jax.geometry import tight_box
from wing_jax.schemes import IBUG_68, Scheme
from wing_jax.text import cut
from wing_jax.values import Value

EXPECTED = "a finite number: a keypoint is 'x, y, v'"
# Largest side of a close box per extent of the points, smallest side of a loose box per side of the close one.
CLOSE, LOOSE = 2.5, 1.5
HINT = "correct the names in the file or in the scheme's TOML, or remove them from the file to use its order"


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Layout:
    """Where an annotation contains the points of a face."""

    key: str = "keypoints"
    total: int  # points under that key
    first: int = 0  # index of the first point of the face
    box: str = "bbox"  # "": no box of the face
    convention: str = "coco"
    description: str = ""  # for a message


WHOLE_BODIES = (
    _Layout(
        key="face_kpts",
        total=68,
        box="face_box",
        convention="coco-wholebody",
        description="'face_kpts' of COCO-WholeBody",
    ),
    _Layout(total=133, first=23, box="", convention="landmarks", description="133 points of COCO-WholeBody"),
    _Layout(total=136, first=26, box="", convention="landmarks", description="136 points of Halpe"),
)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class _File(Value):
    path: Path
    scheme: Scheme
    layout: _Layout
    finder: PictureFinder
    images: dict[int | str, dict[str, Any]]
    orders: dict[int | str, list[int]]  # by category: for each point of the scheme its index in the keypoints
    states: StatesReader


@register_reader(name="coco", title="COCO keypoints, JSON", extensions=(".json",), names_pictures=True)
def read_coco(root: str | Path, *, scheme: Scheme, images: str = "", faults: list[str] | None = None) -> FaceSet:
    """Read the faces of the COCO JSON file `root`, whose keypoints are the points of `scheme`.

    The keypoints are in the order of their names in the category, if it has names, else in the order of the scheme. The
    box is the annotated one; without `bbox`, the tight box of the points. The boolean `attributes` that CVAT adds are
    read. `images` is the folder of the pictures, if they are not where the file says. `faults` as in
    `face_set.build_face_set`.

    Raises:
      InputError: the file is not as described above, its keypoint names do not match the scheme, or an annotation is
        not valid; the message contains its id.
    """
    path = Path(root)
    content = read_json(path, hint="pass a COCO keypoint file")
    if isinstance(content, dict) and {"scheme", "coordinates", "faces"} <= content.keys():
        raise InputError(
            f"{path}: the output of wing-jax predict for one picture, not a COCO file: pass its predictions.csv, or "
            "the folder of its .pts files"
        )
    images_by_id = _index_images(path, _get_entries(path, content, "images"))
    entries = _get_entries(path, content, "annotations")
    layout = _detect_layout(path, entries, scheme)
    annotations = [entry for entry in entries if _has_landmarks(entry, layout)]
    if not annotations:
        raise InputError(f"{path}: none of {len(entries)} annotations has labeled keypoints: annotate some")
    orders, check_sides = _find_orders(path, content.get("categories"), annotations, layout, scheme)
    file = _File(
        path=path,
        scheme=scheme,
        layout=layout,
        finder=finder_of_list(path, images=images),
        images=images_by_id,
        orders=orders,
        states=detect_states_format(state for entry in annotations for state in _get_states(entry, layout)),
    )
    face_readers = (functools.partial(_face, file, entry) for entry in annotations)
    faces = build_face_set(face_readers, name=path.stem, scheme=scheme, box_convention=layout.convention, faults=faults)
    _reject_corners(faces, location=str(path))
    if check_sides:
        reject_swapped_sides(faces.points, faces.visible, scheme, location=str(path))
    return faces


def _get_entries(path: Path, content: Any, key: str) -> list[dict[str, Any]]:
    entries = content.get(key) if isinstance(content, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InputError(f"{path}: no list of objects {key!r}: pass a COCO keypoint file")
    return entries


def _index_images(path: Path, entries: list[dict[str, Any]]) -> dict[int | str, dict[str, Any]]:
    by_id: dict[int | str, dict[str, Any]] = {}
    for number, entry in enumerate(entries):
        name = entry.get("id")
        if not isinstance(name, int | str) or name in by_id:
            raise InputError(f"{path}: entry {number} of 'images' has no unique id: give each entry a different id")
        by_id[name] = entry
    for name, entry in list(by_id.items()):  # some tools write an id as a number in one place and as text in another
        by_id.setdefault(str(name), entry)
    return by_id


def _detect_layout(path: Path, entries: list[dict[str, Any]], scheme: Scheme) -> _Layout:
    """Return the layout of a whole body if its number of points occurs and that of the scheme does not."""
    counts = {key: Counter(len(_get_values(entry, key)) / 3 for entry in entries) for key in ("keypoints", "face_kpts")}
    plain = _Layout(total=scheme.points)
    layout = next((layout for layout in WHOLE_BODIES if counts[layout.key][layout.total]), None)
    if layout is None or counts["keypoints"][scheme.points]:
        return plain
    if scheme.name != IBUG_68.name:
        raise InputError(
            f"{path}: its faces have the 68 points of {IBUG_68.name} ({layout.description}), but {scheme.name} has "
            f"{scheme.points}: pass {IBUG_68.name} as the scheme"
        )
    return layout


def _get_values(annotation: dict[str, Any], key: str) -> list[Any]:
    """Return the numbers under `key`, flattened if they are grouped by points; empty if there is no list."""
    values = annotation.get(key)
    if not isinstance(values, list):
        return []
    if values and all(isinstance(value, list) and len(value) == 3 for value in values):
        return [number for point in values for number in point]
    return values


def _has_landmarks(annotation: dict[str, Any], layout: _Layout) -> bool:
    """Return whether an annotation has landmarks; also true if it is not valid, so that it is rejected, not skipped."""
    keypoints = annotation.get(layout.key)
    if annotation.get("iscrowd") in (1, "1") or keypoints is None or keypoints == []:
        return False
    if layout.key == "face_kpts" and annotation.get("face_valid") in (0, "false", "False"):
        return False
    states = _get_states(annotation, layout)
    return not states or any(parse_state(state) != 0 for state in states)


def _get_states(annotation: dict[str, Any], layout: _Layout) -> list[Any]:
    """Return each v of the face; empty if the keypoints are not a list of triples."""
    values = _get_values(annotation, layout.key)
    return _select_face(values, layout)[2::3] if len(values) % 3 == 0 else []


def _select_face(values: list[Any], layout: _Layout) -> list[Any]:
    is_body = layout.total == len(values) / 3 and layout.first
    return values[3 * layout.first : 3 * (layout.first + IBUG_68.points)] if is_body else values


def _find_orders(
    path: Path, categories: object, annotations: list[dict[str, Any]], layout: _Layout, scheme: Scheme
) -> tuple[dict[int | str, list[int]], bool]:
    """Find the order of the keypoints of each category that is used.

    Returns:
      (by category: for each point of the scheme its index in the keypoints; whether left and right in the names must
      mean those of the scheme).
    """
    orders: dict[int | str, list[int]] = {}
    check_sides = False
    used = {str(entry.get("category_id")) for entry in annotations}
    named = _read_category_names(path, categories) if layout.description == "" else {}
    unnamed = used - named.keys()
    for number, names in named.items():
        if number not in used and not (unnamed and len(names) == scheme.points):
            continue
        location = f"{path}: category {cut(number)}"
        if len(names) != scheme.points:
            entries = [entry for entry in annotations if str(entry.get("category_id")) == number]
            if any(len(_get_values(entry, layout.key)) == 3 * scheme.points for entry in entries):
                raise InputError(
                    f"{location}: names {len(names)} keypoints, but its annotations have {scheme.points}: {HINT}"
                )
            continue  # the annotations have as many points as names, unlike the scheme: each is rejected later
        order = find_point_order(names, scheme, location=location, hint=HINT)
        if order is not None:
            orders[number] = order
            check_sides |= must_match_sides(names, scheme)
    if unnamed and orders:  # use the names of the other categories
        if len({tuple(order) for order in orders.values()}) > 1:
            raise InputError(
                f"{path}: category {cut(min(unnamed))} of its annotations has no keypoint names, and those of the "
                "other categories have several orders: add its names"
            )
        orders |= dict.fromkeys(unnamed, next(iter(orders.values())))
    return orders, check_sides


def _read_category_names(path: Path, categories: object) -> dict[str, list[str]]:
    """Return the keypoint names of the categories that have names, by category id."""
    if not isinstance(categories, list) or not all(isinstance(category, dict) for category in categories):
        if categories in (None, {}):
            return {}
        raise InputError(f"{path}: 'categories' is not a list of objects, so the keypoint names are unknown: {HINT}")
    named = {}
    for category in categories:
        names = category.get("keypoints")
        if names is None or names == {} or names == "":
            continue
        if not isinstance(names, list):
            raise InputError(
                f"{path}: 'keypoints' of category {format_json_value(category.get('id'))} is not a list of names: "
                f"{HINT}"
            )
        if any(name not in (None, "") for name in names):
            named[str(category.get("id"))] = [str(name) for name in names]
    return named


def _face(file: _File, annotation: dict[str, Any]) -> Face:
    location = f"{file.path}: annotation {format_json_value(annotation.get('id'))}"
    layout, scheme = file.layout, file.scheme
    values = _get_values(annotation, layout.key)
    if not isinstance(annotation[layout.key], list) or len(values) != 3 * layout.total:
        count = f"{len(values)} numbers" if isinstance(annotation[layout.key], list) else "no list of numbers"
        raise InputError(
            f"{location}: {count} in {layout.key!r}, expected {3 * layout.total} for {layout.total} points of "
            f"{scheme.name}: correct it or pass the scheme of this file"
        )
    values = _select_face(values, layout)
    labeled, visibility = file.states.read(values[2::3], location=location)
    points = np.full((scheme.points, 2), np.nan, np.float32)
    pairs = list(zip(values[::3], values[1::3], strict=True))
    positioned = [index for index in np.flatnonzero(labeled) if not has_no_position(*pairs[index])]
    numbers = [number for index in positioned for number in pairs[index]]
    points[positioned] = json_numbers(numbers, location=location, expected=EXPECTED).reshape(-1, 2)
    order = file.orders.get(str(annotation.get("category_id")), list(range(scheme.points)))
    image, name = _find_image(file, annotation, location)
    picture, photo = file.finder.find(name, location=location)
    attributes = annotation.get("attributes")
    return Face(
        location=location,
        picture=picture,
        points=points[order],
        visibility=visibility[order] if isinstance(visibility, np.ndarray) else visibility,
        box=_parse_box(annotation.get(layout.box), layout.box, location) if layout.box else None,
        photo=roboflow_photo(image) or original_photo(photo),
        subset=photo.split("/")[0] if "/" in photo else file.path.stem,
        attributes={str(name): value for name, value in attributes.items() if isinstance(value, bool)}
        if isinstance(attributes, dict)
        else {},
        picture_size=parse_size(image.get("width"), image.get("height")),
    )


def _find_image(file: _File, annotation: dict[str, Any], location: str) -> tuple[dict[str, Any], str]:
    """Return the image of an annotation and its file name."""
    number = annotation.get("image_id")
    is_id = isinstance(number, int | str)
    image = file.images.get(number) or file.images.get(str(number)) if is_id else None
    name = None if image is None else image.get("file_name")
    if image is None or not isinstance(name, str):
        raise InputError(f"{location}: no image with a file_name has its image_id {format_json_value(number)}: add it")
    return image, name


def _parse_box(values: object, key: str, location: str) -> Float[np.ndarray, "4"] | None:
    if values is None or values == []:
        return None
    if not isinstance(values, list) or len(values) != 4:
        raise InputError(f"{location}: {key!r} is not [x, y, width, height]: correct it")
    box = json_numbers(values, location=location, expected=f"a finite number of {key!r}")
    with np.errstate(over="ignore"):  # an infinite box is rejected later, like an empty one
        return np.concatenate([box[:2], box[:2] + box[2:]])


def _reject_corners(faces: FaceSet, *, location: str) -> None:
    """Check that the boxes are not [x0, y0, x1, y1] by mistake.

    Such boxes are close around the points if they are read so, and much larger if read as [x, y, width, height].

    Raises:
      InputError: this is the case in more than half of the faces.
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
            f"{location}: the boxes of {mistaken.sum()} of {len(faces)} faces seem to be [x0, y0, x1, y1]: "
            "write them as [x, y, width, height]"
        )

"""COCO keypoint JSON, as CVAT, mmpose and many other tools write it; https://cocodataset.org/#format-data.

`root` is the JSON file: `images` [{id, file_name, width, height}], `annotations` [{id, image_id, bbox: [x, y, width,
height], keypoints: [x, y, v] * N, iscrowd}], `categories` [{id, keypoints: names}]. Pictures lie relative to the file's
folder, or else below an `images/` in it or beside it (as `annotations/` and `images/` of CVAT and mmpose do).

Coordinates are taken as they are, as 0-based pixel centres, as mmpose does. A file made from a source that counts from
1 without subtracting it stays one pixel off (mmpose's 300-VW sample holds the numbers of its `.pts` files); a tool may
count from the corner of the first pixel, half a pixel more. No field says so. The box ends at x + width, y + height.

v is 0 (not labelled: no position, whatever x and y are), 1 (labelled, hidden) or 2 (labelled, visible). Face sets
converted by mmpose write 1 for every point (300W, AFLW, WFLW), so where no point of a file has a 2, visibility is
unknown. Others write 2 throughout (300W-LP, LaPa), which cannot be told from all points visible, and is read so.

Not faces with landmarks by COCO's own meaning, and left out: annotations with `iscrowd` 1 (a region of many), without
keypoints (boxes and masks of other things), and with v = 0 throughout (not annotated).
"""

import functools
import json
import os.path
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from wing_jax import files
from wing_jax.data.listing import LARGEST, within
from wing_jax.data.picture_sizes import told_size
from wing_jax.data.records import Face, FaceSet, gather
from wing_jax.errors import InputError
from wing_jax.schemes import Scheme
from wing_jax.types import Visibility

EXPECTED = "a finite number: a keypoint is 'x, y, v'"


def read_coco(root: str | Path, *, scheme: Scheme, faults: list[str] | None = None) -> FaceSet:
    """The faces of the COCO JSON file `root`, whose keypoints are the points of `scheme`.

    Keypoints stand in the scheme's order, or, where the category names them by the scheme's names, in the order of
    those. The box is the annotated one; without `bbox`, the tight box of the points. The `attributes` that CVAT adds
    are read where they are booleans. `faults` as in `records.gather`.

    Raises:
      InputError: the file is not as above, or an annotation is not; the message names its id.
    """
    path = Path(root)
    content = read_json(path, mend="give a COCO keypoint file")
    by_id = _by_id(path, _entries(path, content, "images"))
    listed = _entries(path, content, "annotations")
    annotations = [entry for entry in listed if _has_landmarks(entry)]
    if not annotations:
        raise InputError(f"{path}: none of {len(listed)} annotations has labelled keypoints: annotate some")
    seen = any(2 in _states(entry) for entry in annotations)
    orders = _orders(path, content.get("categories"), scheme)
    makers = (functools.partial(_face, path, entry, by_id, orders, scheme, seen) for entry in annotations)
    return gather(makers, name=path.stem, scheme=scheme, box_convention="coco", faults=faults)


def read_json(path: Path, *, mend: str) -> Any:
    """What the JSON file `path` holds; `mend` ends the message where it cannot be read.

    Raises:
      InputError: it cannot be read, or is no JSON.
    """
    try:
        return json.loads(files.read_text(path, encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno}: not JSON, or cut short ({error.msg}): {mend}") from None
    except (OSError, ValueError, RecursionError) as error:  # no text, absurdly long numbers, absurdly deep lists
        raise InputError(f"{path}: cannot read this JSON file ({error}): {mend}") from error


def json_numbers(values: Sequence[Any], *, where: str, expected: str) -> Float[np.ndarray, "values"]:
    """`values` of a JSON list as float32 numbers; `expected` says in the message what each should be.

    Raises:
      InputError: a value is no number, or not finite.
    """
    wrong = [value for value in values if type(value) not in (int, float) or not abs(value) < LARGEST]
    if wrong:
        raise InputError(f"{where}: {_said(wrong[0])} is not {expected}")
    return np.array(values, np.float32)


def _said(value: object) -> str:
    return "a list or object" if isinstance(value, list | dict) else json.dumps(value)[:60]


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
    return by_id


def _has_landmarks(annotation: dict[str, Any]) -> bool:
    """See the module's docstring. What is broken counts as landmarks, so that it is refused and not left out."""
    keypoints = annotation.get("keypoints")
    if annotation.get("iscrowd") == 1 or keypoints is None or keypoints == []:
        return False
    states = _states(annotation)
    return not states or any(state != 0 for state in states)


def _states(annotation: dict[str, Any]) -> list[Any]:
    """Each v; none where the keypoints are no list of threes."""
    keypoints = annotation["keypoints"]
    return keypoints[2::3] if isinstance(keypoints, list) and len(keypoints) % 3 == 0 else []


def _orders(path: Path, categories: object, scheme: Scheme) -> dict[int | str, list[int]]:
    """By category: where the scheme's points stand among its keypoints. Categories without the scheme's names: none."""
    orders: dict[int | str, list[int]] = {}
    for category in categories if isinstance(categories, list) else []:
        names = category.get("keypoints") if isinstance(category, dict) else None
        if isinstance(names, list) and isinstance(category.get("id"), int | str):
            plain = [str(name).replace("_", " ").lower() for name in names]
            if sorted(plain) == sorted(name.lower() for name in scheme.names):
                orders[category["id"]] = [plain.index(name.lower()) for name in scheme.names]
    return orders


def _face(
    path: Path,
    annotation: dict[str, Any],
    images: dict[int | str, dict[str, Any]],
    orders: dict[int | str, list[int]],
    scheme: Scheme,
    seen: bool,
) -> Face:
    where = f"{path}: annotation {_said(annotation.get('id'))}"
    keypoints = annotation["keypoints"]
    if not isinstance(keypoints, list) or len(keypoints) != 3 * scheme.points:
        count = len(keypoints) if isinstance(keypoints, list) else "no list of"
        raise InputError(
            f"{where}: {count} numbers in 'keypoints' where {scheme.points} points of {scheme.name} "
            f"have {3 * scheme.points}: correct it or use its scheme"
        )
    state = json_numbers(keypoints[2::3], where=where, expected=EXPECTED)
    if not np.isin(state, (0, 1, 2)).all():
        raise InputError(f"{where}: visibility {state[~np.isin(state, (0, 1, 2))][0]:g} is not 0, 1 or 2: correct it")
    labelled = np.flatnonzero(state)
    points = np.full((scheme.points, 2), np.nan, np.float32)
    kept = [keypoints[3 * index + axis] for index in labelled for axis in (0, 1)]
    points[labelled] = json_numbers(kept, where=where, expected=EXPECTED).reshape(-1, 2)
    category = annotation.get("category_id")
    order = orders.get(category if isinstance(category, int | str) else "", list(range(scheme.points)))
    states = np.array((Visibility.UNKNOWN, Visibility.OCCLUDED, Visibility.VISIBLE), np.int8)
    picture, photo = _picture(path, annotation, images, where)
    image = images[annotation["image_id"]]
    attributes = annotation.get("attributes")
    return Face(
        where=where,
        picture=picture,
        points=points[order],
        visibility=states[state.astype(int)][order] if seen else Visibility.UNKNOWN,
        box=_box(annotation.get("bbox"), where),
        photo=photo,
        subset=photo.split("/")[0] if "/" in photo else path.stem,
        attributes={str(name): value for name, value in attributes.items() if isinstance(value, bool)}
        if isinstance(attributes, dict)
        else {},
        picture_size=told_size(image.get("width"), image.get("height")),
    )


def _picture(
    path: Path, annotation: dict[str, Any], images: dict[int | str, dict[str, Any]], where: str
) -> tuple[Path, str]:
    number = annotation.get("image_id")
    image = images.get(number) if isinstance(number, int | str) else None
    name = None if image is None else image.get("file_name")
    if not isinstance(name, str):
        raise InputError(f"{where}: no image with a file_name has its image_id {_said(number)}: add it")
    photo = within("", name, where=where).as_posix()
    folders = (path.parent, path.parent / "images", path.parent.parent / "images")
    places = [within(folder, name, where=where) for folder in folders]
    return next((place for place in places if os.path.exists(place)), places[0]), photo


def _box(values: object, where: str) -> Float[np.ndarray, "4"] | None:
    if values is None or values == []:
        return None
    if not isinstance(values, list) or len(values) != 4:
        raise InputError(f"{where}: 'bbox' is not [x, y, width, height]: correct it")
    box = json_numbers(values, where=where, expected="a finite number of 'bbox'")
    with np.errstate(over="ignore"):  # an infinite box is refused with the empty ones
        return np.concatenate([box[:2], box[:2] + box[2:]])

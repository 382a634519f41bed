"""MTFL: 5 points and a pose class; 10,000 training faces, 2,995 test faces from AFLW.

Zhang et al., "Facial landmark detection by deep multi-task learning", ECCV 2014;
https://mmlab.ie.cuhk.edu.hk/projects/TCDCN.html. Each line of `training.txt` and `testing.txt`:
path, x1..x5, y1..y5, gender, smile, glasses, pose (1 left profile .. 5 right profile). MTFL has no boxes: the boxes of
training faces follow the rule below, those of test faces are the detector-like boxes of
https://github.com/ZhiwenShao/AFLW_bbox_annotation if available.

The points count from 1. No source says so: a network trained with flips cannot learn a shift to one side, and its
predictions on held-out training faces agree with points that count from 1 (RESULTS.md). If points that count from 1 are
read from 0, flips teach two positions, two pixels apart. The test points are a further 1.3 pixels to the right and 0.8
pixels lower, for an unknown reason; this is not corrected.
"""

import functools
from pathlib import Path

import numpy as np
from jaxtyping import Float

from wing_jax.data.face_set import Face, FaceSet, build_face_set
from wing_jax.data.picture_finder import PictureFinder, finder_below
from wing_jax.data.readers.listing import numbers, read_lines, read_rows
from wing_jax.data.registry import register_reader
from wing_jax.errors import InputError
from wing_jax.geometry import box_around, larger_side, tight_box
from wing_jax.schemes import MTFL_5
from wing_jax.text import quoted

LISTS = {"train": "training.txt", "test": "testing.txt"}
ATTRIBUTES = ("male", "smiling", "glasses")  # in the list 1: yes; 2: no
POSES = ("1 left profile", "2 left", "3 frontal", "4 right", "5 right profile")
EXPECTED = "'image x1..x5 y1..y5 gender smile glasses pose'"
# Measured between the published test boxes and the test points: a rule for boxes, not for points.
SIDE_PER_EXTENT = 1.71
MEAN_POINT_FROM_CENTER = np.array([0.025, 0.026], np.float32)


def read_mtfl(
    root: str | Path, split: str, *, boxes: str | Path | None = None, faults: list[str] | None = None
) -> FaceSet:
    """Read the `split` ("train" or "test") of MTFL below `root`; `boxes` is the folder with `AFLW_boundingbox.txt`.

    Attributes: "male", "smiling", "glasses". `faults` as in `face_set.build_face_set`.

    Raises:
      InputError: a file is missing, or a line is not as published; the message names file and line.
    """
    listing = Path(root) / LISTS[split]
    lines = read_rows(listing, hint=f"pass the folder that contains {listing.name}")
    by_name = None if boxes is None else _read_published_boxes(Path(boxes))
    finder = finder_below(root)
    face_readers = (functools.partial(_face, finder, location, line, by_name) for location, line in lines)
    name = "MTFL" if split == "train" else "MTFL AFLW test"
    return build_face_set(face_readers, name=name, scheme=MTFL_5, box_convention="mtfl", faults=faults)


@register_reader(name="mtfl", title="MTFL, 5 points", folder="mtfl", patterns=tuple(LISTS.values()))
def _read_with_published_boxes(root: Path, split: str, *, faults: list[str] | None = None) -> FaceSet:
    """Call `read_mtfl`, with the published boxes of test faces if they are beside the set, in `mtfl_boxes`."""
    boxes = root.parent / "mtfl_boxes"
    return read_mtfl(root, split, boxes=boxes if split == "test" and boxes.is_dir() else None, faults=faults)


def _face(finder: PictureFinder, location: str, line: str, boxes: dict[str, np.ndarray] | None) -> Face:
    fields = line.rsplit(maxsplit=14)
    values = numbers(fields[1:], location=location, expected=EXPECTED)
    if len(values) != 14:
        raise InputError(f"{location}: {quoted(line)} is not {EXPECTED}")
    pose = values[13]
    if pose not in (1, 2, 3, 4, 5):
        raise InputError(f"{location}: expected a pose from 1 to 5, got {quoted(fields[14])}: {quoted(line)}")
    picture, photo = finder.find(fields[0], location=location)
    name = Path(photo).name
    if boxes is not None and name not in boxes:
        raise InputError(f"{location}: AFLW_boundingbox.txt has no box for {quoted(name)}: copy both box files again")
    points = np.ascontiguousarray(values[:10].reshape(2, 5).T) - 1  # counted from 1
    return Face(
        location=location,
        picture=picture,
        points=points,
        box=box_of_five_points(points[None])[0] if boxes is None else boxes[name],
        photo=photo,
        subset=photo.split("/")[0],
        attributes={name: bool(value == 1) for name, value in zip(ATTRIBUTES, values[10:13], strict=True)},
        pose=POSES[int(pose) - 1],
    )


def box_of_five_points(points: Float[np.ndarray, "n 5 2"]) -> Float[np.ndarray, "n 4"]:
    """Return square boxes: the side is 1.71 times the larger extent of the points, their mean slightly off center."""
    side = SIDE_PER_EXTENT * larger_side(tight_box(points))
    center = points.mean(1) - MEAN_POINT_FROM_CENTER * side
    return np.asarray(box_around(center, side), np.float32)


def _read_published_boxes(folder: Path) -> dict[str, Float[np.ndarray, "4"]]:
    """Read the boxes by picture name; a line is `x1 x2 y1 y2`, in the order of `AFLW_image_list.txt`."""
    hint = "pass the folder that contains AFLW_boundingbox.txt and AFLW_image_list.txt"
    values, names = (read_lines(folder / name, hint=hint) for name in ("AFLW_boundingbox.txt", "AFLW_image_list.txt"))
    if len(values) != len(names):
        raise InputError(f"{folder}: {len(values)} boxes but {len(names)} names: copy both files again")
    by_name = {}
    for (number, line), (_, name) in zip(values, names, strict=True):
        location = f"{folder / 'AFLW_boundingbox.txt'}:{number}"
        box = numbers(line.split(), location=location, expected="'x1 x2 y1 y2'")
        if len(box) != 4 or not (box[0] < box[1] and box[2] < box[3]):
            raise InputError(f"{location}: {quoted(line)} is not 'x1 x2 y1 y2'")
        by_name[name.replace("\\", "/").rsplit("/", 1)[-1]] = box[[0, 2, 1, 3]]
    return by_name

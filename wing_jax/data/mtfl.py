"""MTFL: 5 points and a pose class; 10,000 training faces, 2,995 test faces from AFLW.

Zhang et al., "Facial landmark detection by deep multi-task learning", ECCV 2014;
https://mmlab.ie.cuhk.edu.hk/projects/TCDCN.html. Each line of `training.txt` and `testing.txt`:
path, x1..x5, y1..y5, gender, smile, glasses, pose (1 left profile .. 5 right profile). The published points are
taken as 0-based. MTFL has no boxes: the training faces get one by the rule below, the test faces the detector-like
boxes of https://github.com/ZhiwenShao/AFLW_bbox_annotation where they are given.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from wing_jax.data.records import FaceSet
from wing_jax.errors import InputError
from wing_jax.schemes import MTFL_5

LISTS = {"train": "training.txt", "test": "testing.txt"}
LARGEST = float(np.finfo(np.float32).max)
POSES = ("1 left profile", "2 left", "3 frontal", "4 right", "5 right profile")
# Measured once between the published test boxes and the test points: a rule for boxes, not for points.
SIDE_PER_EXTENT = 1.71
MEAN_POINT_FROM_CENTRE = np.array([0.036, 0.037], np.float32)


def read_mtfl(root: str | Path, split: str, *, boxes: str | Path | None = None) -> FaceSet:
    """The `split` ("train" or "test") of MTFL below `root`; `boxes` is the folder with `AFLW_boundingbox.txt`.

    Raises:
      InputError: a file is missing, or a line is not as published; the message names file and line.
    """
    listing = Path(root) / LISTS[split]
    lines = _lines(listing, f"give the folder that holds {listing.name}")
    rows = [_row(listing, number, line) for number, line in lines]
    if not rows:
        raise InputError(f"{listing}: the list is empty: is this the published file?")
    points = np.array([row[1] for row in rows], np.float32).reshape(-1, 2, 5).transpose(0, 2, 1)
    pictures = tuple(Path(root) / row[0] for row in rows)
    return FaceSet(
        name="MTFL" if split == "train" else "MTFL AFLW test",
        scheme=MTFL_5,
        pictures=pictures,
        points=np.ascontiguousarray(points),
        visible=np.ones(points.shape[:2], bool),
        boxes=box_of_five_points(points) if boxes is None else _published_boxes(Path(boxes), pictures),
        box_convention="mtfl",
        photos=tuple(row[0] for row in rows),
        subsets=tuple(row[0].split("/")[0] for row in rows),
        poses=tuple(POSES[row[2] - 1] for row in rows),
    )


def box_of_five_points(points: Float[np.ndarray, "n 5 2"]) -> Float[np.ndarray, "n 4"]:
    """A square box by rule: side 1.71 times the larger extent of the points, their mean slightly off its centre."""
    side = SIDE_PER_EXTENT * (points.max(1) - points.min(1)).max(1, keepdims=True)
    centre = points.mean(1) - MEAN_POINT_FROM_CENTRE * side
    return np.concatenate([centre - side / 2, centre + side / 2], axis=1).astype(np.float32)


def _lines(path: Path, mend: str) -> list[tuple[int, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot read this list ({error}): {mend}") from error
    return [(i + 1, line.strip()) for i, line in enumerate(text.splitlines()) if line.strip()]


def _row(path: Path, number: int, line: str) -> tuple[str, list[float], int]:
    fields = line.rsplit(maxsplit=14)
    try:
        name, values, pose = fields[0], [float(field) for field in fields[1:11]], int(fields[14])
    except (ValueError, IndexError):
        raise InputError(
            f"{path}:{number}: {line[:60]!r} is not 'image x1..x5 y1..y5 gender smile glasses pose'"
        ) from None
    if not (np.abs(values) < LARGEST).all() or not 1 <= pose <= 5:
        raise InputError(f"{path}:{number}: a coordinate is not finite or the pose is not 1..5: {line[:60]!r}")
    return name.replace("\\", "/"), values, pose


def _published_boxes(folder: Path, pictures: tuple[Path, ...]) -> Float[np.ndarray, "n 4"]:
    """`x1 x2 y1 y2` a line, in the order of `AFLW_image_list.txt`."""
    mend = "give the folder that holds AFLW_boundingbox.txt and AFLW_image_list.txt"
    values, names = (_lines(folder / name, mend) for name in ("AFLW_boundingbox.txt", "AFLW_image_list.txt"))
    if len(values) != len(names):
        raise InputError(f"{folder}: {len(values)} boxes but {len(names)} names: copy both files again")
    by_name = {}
    for (number, line), (_, name) in zip(values, names, strict=True):
        try:
            left, right, top, bottom = map(float, line.split())
        except ValueError:
            left = right = top = bottom = np.nan
        if not (-LARGEST < left < right < LARGEST and -LARGEST < top < bottom < LARGEST):
            raise InputError(f"{folder / 'AFLW_boundingbox.txt'}:{number}: {line[:60]!r} is not 'x1 x2 y1 y2'")
        by_name[name.replace("\\", "/").rsplit("/", 1)[-1]] = (left, top, right, bottom)
    missing = [picture.name for picture in pictures if picture.name not in by_name]
    if missing:
        raise InputError(f"{folder}: no box for {len(missing)} of {len(pictures)} faces, first {missing[0]}")
    return np.array([by_name[picture.name] for picture in pictures], np.float32)

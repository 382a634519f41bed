"""WFLW: 98 points and six attributes; 7,500 training and 2,500 test faces on photos of WIDER FACE.

Wu et al., "Look at boundary: a boundary-aware face alignment algorithm", CVPR 2018; both archives are at
https://wywu.github.io/projects/LAB/WFLW.html, and the README of the annotations describes the lists. Expected below
the root: `WFLW_images/` and `WFLW_annotations/list_98pt_rect_attr_train_test/list_98pt_rect_attr_{train,test}.txt`. A
line is x y of 98 points, x_min y_min x_max y_max of a detector's box (it may cut points off), six flags (pose,
expression, illumination, make-up, occlusion, blur; 1: yes) and the image's name below `WFLW_images`.

No source says whether the points count from 0 or 1. They are taken as 0-based, as in MMPose (`wflw2coco.py`) and PIPNet
(`preprocess.py`), which use them unchanged. MMPose's JSON files of WFLW contain another box, 1.2 times the tight box of
the points. Hidden points have a position; the list does not say which points are hidden.
"""

import functools
from pathlib import Path

import numpy as np

from wing_jax.data.face_set import Face, FaceSet, build_face_set
from wing_jax.data.picture_finder import PictureFinder, finder_below
from wing_jax.data.readers.listing import numbers, read_rows
from wing_jax.data.registry import register_reader
from wing_jax.errors import InputError
from wing_jax.schemes import WFLW_98
from wing_jax.text import quoted

SPLITS = ("train", "test")
LISTS = Path("WFLW_annotations/list_98pt_rect_attr_train_test")
ATTRIBUTES = ("pose", "expression", "illumination", "make-up", "occlusion", "blur")
EXPECTED = "98 pairs 'x y', a box of four numbers, six flags and an image"
NUMBERS = 2 * 98 + 4 + 6


@register_reader(
    name="wflw",
    title="WFLW, 98 points",
    splits=SPLITS,
    folder="WFLW",
    patterns=("WFLW_annotations/*/list_98pt_rect_attr_*.txt",),
)
def read_wflw(root: str | Path, split: str, *, faults: list[str] | None = None) -> FaceSet:
    """Read the `split` ("train" or "test") of WFLW below `root`.

    Attributes: "pose" (large), "expression", "illumination", "make-up", "occlusion", "blur", the six subsets of the
    published test. The faces of one photo have the same `photo`, in training and test. `faults` as in
    `face_set.build_face_set`.

    Raises:
      InputError: the list is missing, or a line is not as published; the message names file and line.
    """
    root = Path(root)
    if split not in SPLITS:
        raise InputError(f"{root}: WFLW has no split {quoted(split)}: use one of {', '.join(SPLITS)}")
    listing = root / LISTS / f"list_98pt_rect_attr_{split}.txt"
    lines = read_rows(listing, hint="pass the folder that contains WFLW_annotations/ and WFLW_images/")
    finder = finder_below(root / "WFLW_images")
    face_readers = (functools.partial(_face, finder, location, line) for location, line in lines)
    return build_face_set(face_readers, name="WFLW", scheme=WFLW_98, box_convention="wflw", faults=faults)


def _face(finder: PictureFinder, location: str, line: str) -> Face:
    fields = line.split(maxsplit=NUMBERS)
    if len(fields) != NUMBERS + 1:
        raise InputError(f"{location}: expected {NUMBERS + 1} fields ({EXPECTED}), got {len(fields)}")
    values = numbers(fields[:NUMBERS], location=location, expected=EXPECTED)
    flags = values[-len(ATTRIBUTES) :]
    if not np.isin(flags, (0, 1)).all():
        raise InputError(
            f"{location}: the six flags {quoted(' '.join(fields[-7:-1]))} are not all 0 or 1: correct them"
        )
    picture, name = finder.find(fields[-1], location=location)
    return Face(
        location=location,
        picture=picture,
        points=values[: 2 * 98].reshape(98, 2),
        box=values[2 * 98 : 2 * 98 + 4],
        photo=f"wflw/{name}",
        subset="WFLW",
        attributes={attribute: bool(flag) for attribute, flag in zip(ATTRIBUTES, flags, strict=True)},
    )

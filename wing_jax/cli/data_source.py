"""The data set that an action of `wing-jax data` is about."""

import dataclasses
import sys
from collections.abc import Iterator
from typing import Annotated, Literal

import tyro

from wing_jax.config import DataName
from wing_jax.data import registry
from wing_jax.data.face_set import FaceSet
from wing_jax.data.load import load_faces, splits_of
from wing_jax.errors import InputError
from wing_jax.text import quoted


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """The data set in DIR, and how to read it."""

    root: Annotated[str, tyro.conf.Positional]  # folder, or an .xml, .json or .csv file
    format: Literal["auto"] | DataName = "auto"  # auto: told by the files
    images: str = ""  # folder of the pictures that a list (COCO, imglab, CSV) names; empty: where the list tells
    scheme: str = ""  # of your own data: a TOML file, or a published scheme's name
    boxes: str = "given"  # or by another rule of `wing_jax.data.boxes`
    # Pictures of another size than their annotation file says: report or refuse them, or move points and boxes.
    picture_size: Literal["check", "rescale"] = "check"


DRAWN = 500  # synthetic faces, where no number is asked for


def faces_to_draw(data: str, faces: int, *, usual: int = DRAWN) -> int:
    """How many synthetic faces to draw: `faces`, or `usual` where that is 0.

    Raises:
      InputError: a number is asked for of another data set, which is always taken whole.
    """
    if faces and data != "synthetic":
        raise InputError(f"faces={faces} is a number of synthetic faces, and {data!r} is taken whole: leave it out")
    return faces or usual


def splits_in(options: Source) -> Iterator[tuple[str, FaceSet, list[str]]]:
    """(name, faces, faults) of the splits that are there."""
    name = registry.detect(options.root) if options.format == "auto" else options.format
    complaints: list[str] = []
    found = False
    for split in splits_of(name, options.root):
        faults: list[str] = []
        try:
            faces = load_faces(
                name,
                split,
                root=options.root,
                images=options.images,
                scheme=options.scheme,
                boxes=options.boxes,
                picture_size=options.picture_size,
                faults=faults,
            )
        except InputError as error:
            complaints.append(f"split {quoted(split)}: {error}")
            continue
        found = True
        yield split, faces, faults
    if not found:
        raise InputError(complaints[0])
    for complaint in complaints:
        print(f"not there, or not readable: {complaint}", file=sys.stderr)

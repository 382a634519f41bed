"""The options that name annotated faces: the same in all commands that read some."""

import dataclasses
import sys
from collections.abc import Iterator
from typing import Annotated

import tyro

from wing_jax.choices import Occluded, PictureSize
from wing_jax.data.face_set import FaceSet
from wing_jax.data.load import draws_faces, find_reader, load_faces, splits_of
from wing_jax.errors import InputError
from wing_jax.text import quoted

DRAWN = 500  # synthetic faces, where no number is given


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataOptions:
    """A data set, and how to read it."""

    data: str  # `wing-jax data formats` lists them
    root: str = ""  # the data set's folder or file; empty: below WING_JAX_DATA or ../shared/data
    split: str = "test"  # or another that the data set has: "train", "private", "val"
    images: str = ""  # folder of the images that a list (COCO, imglab, CSV) names; empty: where the list says
    scheme: str = ""  # of your own data: a TOML file, or a published scheme's name; else convert the points to it
    boxes: str = "given"  # or by another rule of `wing_jax.data.boxes`, such as "landmarks"
    occluded: Occluded = "keep"  # points annotated as occluded: keep those with a position, or none
    # Images of another size than their annotation file says: report or refuse them, or move points and boxes.
    picture_size: PictureSize = "check"

    def load(self, *, split: str = "", count: int = 0, seed: int = 0, faults: list[str] | None = None) -> FaceSet:
        """The faces of `split` (empty: of the option); `count` and `seed` are of synthetic faces.

        Raises:
          InputError: the data are not as they must be.
        """
        return load_faces(
            self.data,
            split or self.split,
            root=self.root,
            images=self.images,
            scheme=self.scheme,
            boxes=self.boxes,
            occluded=self.occluded,
            picture_size=self.picture_size,
            count=count,
            seed=seed,
            faults=faults,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class PathOptions(DataOptions):
    """The data set in PATH, a folder or a file; without PATH, the one called --data where it usually lies."""

    path: Annotated[str, tyro.conf.Positional] = ""
    data: str = "auto"  # auto: detected from the files
    split: str = ""  # empty: all, or, where one is needed, the first there is

    def found(self) -> "PathOptions":
        """These options with the data set's name and its root.

        Raises:
          InputError: nothing names a data set, or two places are given, or the files tell no format.
        """
        if self.path and self.root and self.path != self.root:
            raise InputError(f"{self.path} and --root {self.root}: give one of them")
        root = self.path or self.root
        if self.data == "auto" and not root:
            raise InputError("no data set is given: give its folder or file, or --data NAME")
        return dataclasses.replace(self, root=root, data=find_reader(self.data, root)[0])

    def splits(self, *, count: int = DRAWN) -> Iterator[tuple[str, FaceSet, list[str]]]:
        """(name, faces, faults) of the splits that are there, or of the one that is asked for; `count` is of synthetic
        faces.

        Raises:
          InputError: none is there, or as for `found`.
        """
        options, complaints, done = self.found(), [], False
        names = splits_of(options.data, options.root)
        count = count if draws_faces(options.data) else 0
        if self.split and self.split not in names:
            raise InputError(f"{options.root or options.data}: no split {quoted(self.split)} there")
        for split in (self.split,) if self.split else names:
            faults: list[str] = []
            try:
                faces = options.load(split=split, count=count, faults=faults)
            except InputError as error:
                complaints.append(f"split {quoted(split)}: {error}")
                continue
            done = True
            yield split, faces, faults
        if not done:
            raise InputError(complaints[0])
        for complaint in complaints:
            print(f"not there, or not readable: {complaint}", file=sys.stderr)

    def one_split(self, *, count: int = DRAWN) -> FaceSet:
        """The faces of the split that is asked for, or of the first there is.

        Raises:
          InputError: it is not there, or as for `found`.
        """
        return next(faces for _, faces, _ in self.splits(count=count))


def faces_to_draw(data: str, faces: int, *, usual: int = DRAWN) -> int:
    """How many faces to draw of the data set `data`: `faces`, or `usual` where that is 0; 0 of one that is taken whole.

    Raises:
      InputError: a number is asked for of a set that is taken whole, or there is no such set.
    """
    if data != "auto" and draws_faces(data):
        return faces or usual
    if faces:
        raise InputError(f"faces={faces} is a number of synthetic faces, and {data!r} is taken whole: leave it out")
    return 0

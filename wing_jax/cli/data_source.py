"""The options that choose a data set, shared by all commands that read one."""

import dataclasses
import sys
from collections.abc import Iterator
from typing import Annotated

import tyro

from wing_jax.choices import Occluded, PictureSize
from wing_jax.data.face_set import FaceSet
from wing_jax.data.load import draws_faces, find_reader, find_splits, load_faces
from wing_jax.errors import InputError, NoFacesError
from wing_jax.text import quoted

DEFAULT_FACES = 500  # synthetic faces, if no number is given


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataOptions:
    """A data set, and how to read it."""

    data: str  # name of the data set or format; `wing-jax data formats` lists them
    root: str = ""  # folder or file of the data set; empty: its usual folder in WING_JAX_DATA or ../shared/data
    split: str = "test"  # the split of the data set: test, train, or another that `wing-jax data formats` lists
    # folder of the pictures that an annotation file (COCO, imglab, CSV) names; empty: the paths in that file
    images: str = ""
    # your own data: its landmark scheme (a name or a TOML file); a published set: the scheme to convert its points to
    scheme: str = ""
    # given: the boxes of the data set; or a key of wing_jax.data.boxes.RULES, such as landmarks (the tight box of the
    # points)
    boxes: str = "given"
    occluded: Occluded = "keep"  # points annotated as occluded: keep (if they have a position) or ignore
    # for pictures whose size differs from the annotation file; check: reject them; rescale: rescale points and boxes
    picture_size: PictureSize = "check"

    def load(self, *, split: str = "", count: int = 0, seed: int = 0, faults: list[str] | None = None) -> FaceSet:
        """Load the faces of `split`, by default that of the options; `count` and `seed` are for synthetic faces.

        Raises:
          InputError: the data are invalid.
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
    """The data set in PATH, a folder or a file; without PATH, the data set --data in its usual folder."""

    path: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="[PATH]")] = ""  # folder or file of the data set
    data: str = "auto"  # name of the data set or format; auto: detected from the file layout
    split: str = ""  # the split; empty: all splits

    def resolve(self) -> "PathOptions":
        """Return these options with the name and root of the data set.

        Raises:
          InputError: there is no data set, or two different paths, or the format cannot be detected.
        """
        if self.path and self.root and self.path != self.root:
            raise InputError(f"{self.path} and --root {self.root}: pass one of them")
        root = self.path or self.root
        if self.data == "auto" and not root:
            raise InputError("no data set is given: pass its folder or file, or --data NAME")
        return dataclasses.replace(self, root=root, data=find_reader(self.data, root)[0])

    def splits(
        self, *, count: int = DEFAULT_FACES, broken: list[str] | None = None
    ) -> Iterator[tuple[str, FaceSet, list[str]]]:
        """Yield (name, faces, faults) of all splits that are there, or of the chosen one.

        Splits without files are named on stderr. `count` is for synthetic faces. `broken` collects the errors of splits
        that are there but cannot be read; without it the first one is raised.

        Raises:
          InputError: no split can be read, a split is broken, or as for `resolve`.
        """
        options, absent, succeeded = self.resolve(), [], False
        names = find_splits(options.data, options.root)
        count = count if draws_faces(options.data) else 0
        if self.split and self.split not in names:
            raise InputError(
                f"{options.root or options.data}: no split {quoted(self.split)}: use one of {', '.join(names)}"
            )
        for split in (self.split,) if self.split else names:
            faults: list[str] = []
            try:
                faces = options.load(split=split, count=count, faults=faults)
            except InputError as error:
                message = f"split {quoted(split)}: {error}"
                if isinstance(error, NoFacesError) or isinstance(
                    error.__cause__, FileNotFoundError | NotADirectoryError
                ):
                    absent.append(message)
                elif broken is None:
                    raise InputError(message) from error
                else:
                    broken += [*(f"{split}: {fault}" for fault in faults), message]
                continue
            succeeded = True
            yield split, faces, faults
        if not succeeded:
            raise InputError([*(broken or ()), *absent][0])
        for message in absent:
            print(f"missing: {message}", file=sys.stderr)

    def one_split(self, *, count: int = DEFAULT_FACES) -> FaceSet:
        """Return the faces of the chosen split, or of the first one.

        Raises:
          InputError: the split cannot be read, or as for `resolve`.
        """
        return next(faces for _, faces, _ in self.splits(count=count))


def faces_to_draw(data: str, faces: int, *, default: int = DEFAULT_FACES) -> int:
    """Return how many synthetic faces to draw: `faces`, or `default` if that is 0; 0 if `data` is another data set.

    Raises:
      InputError: `faces` is not 0 for another data set, or there is no such data set.
    """
    if data != "auto" and draws_faces(data):
        return faces or default
    if faces:
        raise InputError(f"faces={faces} is only for synthetic faces: remove --faces to use all of {data!r}")
    return 0

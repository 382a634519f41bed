"""FG-NET: 68 points in its own order on 1,002 photos of 82 people from infancy to old age, many from old prints.

The FG-NET Aging Database, 2002; Lanitis et al., "Toward automatic simulation of aging effects on face images", PAMI
2002; its points are Cootes's. Expected below the root: `images/001A02.JPG` (person 001, two years old; a letter
at the end distinguishes photos of one age) and `points/001a02.pts`, with
`version: 1`, `n_points: 68` and lines "x y" in braces.

The points count from 0, although `.pts` files usually count from 1. No source says so; it was measured with a network
trained with flips, which cannot learn a shift to one side (as for MTFL): `wing-jax data label fgnet w300 OUT --data
fgnet --scheme mtfl5` prints that the points, read unchanged, are 0.19 pixels right of the network's (median of 811
faces, in a copy with pictures downscaled to 288 pixels). Points that count from 1 would be one pixel right of them, or
somewhat less if the copy multiplied them by its scale factor.

No split is published. Here every fifth person (005, 010 ... 080) is in the test set, so that nobody is in both. All
photos of a person have the same `photo`, so that validation does not split them either.
"""

import functools
import re
from pathlib import Path

from wing_jax.data.face_set import Face, FaceSet, build_face_set
from wing_jax.data.picture_finder import Spellings, find_picture_named
from wing_jax.data.readers.points_file import read_pts
from wing_jax.data.registry import register_reader
from wing_jax.errors import InputError, NoFacesError
from wing_jax.runtime.files import find_files
from wing_jax.schemes import FGNET_68
from wing_jax.text import quoted

SPLITS = ("train", "test")
TEST_STEP = 5  # every fifth person is in the test set


@register_reader(
    name="fgnet",
    title="FG-NET, 68 points in its own order",
    splits=SPLITS,
    folder="fgnet",
    patterns=("points/[0-9][0-9][0-9][aA][0-9][0-9]*.pts",),
)
def read_fgnet(root: str | Path, split: str, *, faults: list[str] | None = None) -> FaceSet:
    """Read the `split` ("train" or "test") of FG-NET below `root`: 811 and 191 faces of the full set.

    The box is the tight box of the 68 points. `faults` as in `face_set.build_face_set`.

    Raises:
      InputError: no face is found, or a file is missing or not as published.
    """
    root = Path(root)
    if split not in SPLITS:
        raise InputError(f"{root}: FG-NET has no split {quoted(split)}: use one of {', '.join(SPLITS)}")
    files = find_files(root / "points", "*.pts")
    if not files:
        raise NoFacesError(
            f"{root}: no points/*.pts here: pass the folder of FG-NET, which contains images/ and points/"
        )
    spellings = Spellings()
    selected = [path for path in files if (int(_person(path)) % TEST_STEP == 0) == (split == "test")]
    face_readers = (functools.partial(_face, root, path, spellings) for path in selected)
    return build_face_set(face_readers, name="FG-NET", scheme=FGNET_68, box_convention="landmarks", faults=faults)


def _person(path: Path) -> str:
    """Return the three digits PPP of PPPaYY; "000", which is no person, for other names."""
    match = re.fullmatch(r"([0-9]{3})[aA][0-9]{2}[a-zA-Z]?", path.stem)
    return match[1] if match else "000"


def _face(root: Path, path: Path, spellings: Spellings) -> Face:
    person = _person(path)
    if person == "000":
        raise InputError(
            f"{path}: not a file name of FG-NET, which is PPPaYY.pts with person and age: rename or remove it"
        )
    return Face(
        location=str(path),
        picture=find_picture_named(root / "images" / f"{path.stem.upper()}.JPG", spellings),
        points=read_pts(path, points=68) + 1,  # read_pts subtracts 1, but these points count from 0
        photo=f"fgnet/{person}",
        subset="FG-NET",
    )

"""Wide poses in `.pts` files: MERL-RAV, and the 2-D challenge of Menpo 2017.

MERL-RAV: Kumar et al., "LUVLi face alignment", CVPR 2020; https://github.com/abhi1kumar/MERL-RAV_dataset, whose README
describes the files. Over 19,000 faces of AFLW's photos (on request from TU Graz, see `aflw`) with 68 points and the
visibility of each: "x y" is visible, "-x -y" is hidden by another object at (x, y), "-1 -1" is hidden by the face
itself and has no position. Expected is either the output of the repository's script, `merl_rav_organized/POSE/SET` with
`NAME.pts` + `NAME.jpg`, or the unchanged repository, `merl_rav_labels/POSE/SET/labels/NAME.pts` with the photos in
`aflw/flickr/0`, `2` and `3`; `POSE/SET` may also be in the root itself. POSE is frontal, lefthalf, righthalf, left or
right; SET is trainset or testset; faces of one photo are named NAME_1, NAME_2. The README does not say whether
coordinates count from 0 or 1; they are taken to count from 1 after their signs are read, as in other `.pts` files of
the 68-point scheme.

Menpo 2017: Zafeiriou et al., "The Menpo facial landmark localisation challenge", CVPRW 2017; ask at
https://ibug.doc.ic.ac.uk/resources/2nd-facial-landmark-tracking-competition-menpo-ben/. `NAME.pts` + `NAME.jpg` (or
`.png`), counted from 1. Expected: `train/` and `test/`, each searched with all folders below it. This layout is our
own: the challenge has one folder for training and no public annotation of its test photos. Near-frontal faces have 68
points, profiles 39 of another scheme.
"""

import functools
import re
from pathlib import Path

from wing_jax.data.face_set import Face, FaceSet, build_face_set
from wing_jax.data.images import is_picture
from wing_jax.data.picture_finder import Spellings, find_picture_beside, find_picture_named
from wing_jax.data.readers.aflw import aflw_photo
from wing_jax.data.readers.points_file import read_pts, read_signed_pts
from wing_jax.data.registry import register_reader
from wing_jax.errors import InputError, NoFacesError
from wing_jax.runtime.files import find_files
from wing_jax.schemes import IBUG_68
from wing_jax.text import quoted

POSES = {"left": "1 left", "lefthalf": "2 left half", "frontal": "3 frontal", "righthalf": "4 right half"}
POSES |= {"right": "5 right"}
SETS = {"train": "trainset", "test": "testset"}
PROFILE_POINTS = 39


@register_reader(
    name="menpo",
    title="Menpo and MERL-RAV, 68 points",
    folder="menpo",
    patterns=("merl_rav_labels/*/*/labels/*.pts", "merl_rav_organized/*/*set/*.pts"),
)
def read_menpo(root: str | Path, split: str, *, faults: list[str] | None = None) -> FaceSet:
    """Read the `split` ("train" or "test") of MERL-RAV below `root`, or of Menpo 2017 if there is no MERL-RAV.

    MERL-RAV: points that the face itself hides are NaN; the subset is the pose, and `pose` orders the poses. Menpo:
    the near-frontal faces; a profile of 39 points is a fault of that face. The box is the tight box of the points that
    have a position. `faults` as in `face_set.build_face_set`.

    Raises:
      InputError: no face is found, a `.pts` file has no picture, or a file is not valid.
    """
    root, spellings = Path(root), Spellings()
    if files := _merl_rav_files(root, SETS[split]):
        photos = _aflw_pictures(root) if files[0].parent.name == "labels" else {}
        face_readers = [functools.partial(_merl_rav_face, root, path, photos, spellings) for path in files]
    else:
        face_readers = [
            functools.partial(_menpo_face, path, split, spellings) for path in find_files(root / split, "**/*.pts")
        ]
    if not face_readers:
        raise NoFacesError(
            f"{root}: no .pts file for {quoted(split)}: pass the folder above merl_rav_organized/ or merl_rav_labels/, "
            f"or for Menpo 2017 the folder above {split}/"
        )
    name = "MERL-RAV" if files else "Menpo 2017"
    return build_face_set(face_readers, name=name, scheme=IBUG_68, box_convention="landmarks", faults=faults)


def _merl_rav_files(root: Path, part: str) -> list[Path]:
    """Return the annotation files of the first layout that exists."""
    for base, last in (("merl_rav_organized", ""), ("merl_rav_labels", "labels"), ("", "")):
        if files := [path for pose in POSES for path in find_files(root / base / pose / part / last, "*.pts")]:
            return files
    return []


def _merl_rav_face(root: Path, path: Path, photos: dict[str, Path], spellings: Spellings) -> Face:
    points, visibility = read_signed_pts(path, points=IBUG_68.points)
    stem = re.sub(r"_[0-9]{1,2}$", "", path.stem)
    published = path.parent.name == "labels"
    if published and stem not in photos:
        raise InputError(f"{path}: no {stem}.jpg in {root / 'aflw' / 'flickr'}/0, 2 or 3: add AFLW's photos")
    pose = path.parents[2 if published else 1].name
    return Face(
        location=str(path),
        picture=photos[stem] if published else find_picture_named(path.with_suffix(".jpg"), spellings),
        points=points,
        visibility=visibility,
        photo=aflw_photo(stem),
        subset=pose,
        pose=POSES[pose],
    )


def _aflw_pictures(root: Path) -> dict[str, Path]:
    return {path.stem: path for path in find_files(root / "aflw" / "flickr", "[0-9]/*") if is_picture(path)}


def _menpo_face(path: Path, split: str, spellings: Spellings) -> Face:
    points = read_pts(path)
    if len(points) == PROFILE_POINTS:
        raise InputError(
            f"{path}: {PROFILE_POINTS} points, a profile face with another scheme: move it to another folder"
        )
    return Face(
        location=str(path),
        picture=find_picture_beside(path, spellings),
        points=points,
        photo=f"menpo/{path.stem}",
        subset=split,
    )

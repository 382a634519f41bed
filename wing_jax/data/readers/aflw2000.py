"""AFLW2000-3D (test) and 300W-LP (training): 68 points of fitted 3-D face models, with head poses.

Zhu et al., "Face alignment across large poses: a 3D solution", CVPR 2016;
http://www.cbsr.ia.ac.cn/users/xiangyuzhu/projects/3DDFA/main.htm.

AFLW2000-3D: 2,000 pairs `image00002.jpg` + `image00002.mat` in one folder. The `.mat` contains `pt3d_68` (3 x 68: x, y,
depth) and `Pose_Para` (pitch, yaw, roll, then translation and scale; radians).

300W-LP: 61,225 pictures synthesized from 300-W by turning heads, in `AFW`, `HELEN`, `IBUG` and `LFPW`, as `NAME.jpg` +
`NAME.mat` (`Pose_Para` as above), with `landmarks/SET/NAME_pts.mat` (68 x 2 each): `pts_3d`, the projected model as in
AFLW2000-3D, and `pts_2d`, with the jaw along the visible outline. The flipped copies in `AFW_Flip` and so on (122,450
pictures in total) are skipped: they have no file in `landmarks`, and training flips anyway.

The models are fitted with Matlab, which counts from 1: 3DDFA_V2 (`utils/tddfa_util` in
https://github.com/cleardusk/3DDFA_V2) subtracts 1 from them "for Python compatibility", and we subtract 1 from
`pt3d_68`. No source documents this for `landmarks/`; we assume that those points count from 1 too. Measured on
published faces: the yaw of `Pose_Para` is positive if the nose points to image left (so we change its sign), pitch if
the nose points up, roll if x turns towards y. Hidden points have a position; no file says which points are hidden.
"""

import functools
import re
from pathlib import Path

import numpy as np
from jaxtyping import Float

from wing_jax.data.face_set import Face, FaceSet, build_face_set
from wing_jax.data.picture_finder import Spellings, find_picture_named
from wing_jax.data.readers.aflw import aflw_photo
from wing_jax.data.readers.listing import LARGEST
from wing_jax.data.readers.mat_file import not_as_published, read_mat, to_float64
from wing_jax.data.registry import register_reader
from wing_jax.errors import InputError, NoFacesError
from wing_jax.runtime.files import find_files
from wing_jax.schemes import IBUG_68
from wing_jax.text import quoted

PARTS = ("AFW", "HELEN", "IBUG", "LFPW")
LANDMARKS = ("3d", "2d")
HINT = "copy the file again"


@register_reader(
    name="aflw2000",
    title="AFLW2000-3D, 68 points",
    splits=("test",),
    folder="AFLW2000",
    patterns=("image[0-9]*.mat", "AFLW2000/image[0-9]*.mat"),
)
def read_aflw2000(root: str | Path, split: str, *, faults: list[str] | None = None) -> FaceSet:
    """Read AFLW2000-3D below `root`; its only split is "test". Its photos are those of AFLW, with the same names.

    The box is the tight box of the 68 points. `faults` as in `face_set.build_face_set`.

    Raises:
      InputError: the split has another name, no face is found, or a file is not as published.
    """
    root = Path(root)
    if split != "test":
        raise InputError(f"{root}: AFLW2000-3D has no split {quoted(split)}: use 'test', and train on 300W-LP or AFLW")
    files = find_files(_find_folder(root, "AFLW2000"), "image*.mat")
    if not files:
        raise NoFacesError(f"{root}: no image*.mat here: pass the folder of AFLW2000-3D")
    spellings = Spellings()
    face_readers = (functools.partial(_aflw2000_face, path, spellings) for path in files)
    return build_face_set(face_readers, name="AFLW2000-3D", scheme=IBUG_68, box_convention="landmarks", faults=faults)


@register_reader(
    name="w300lp",
    title="300W-LP, 68 points, synthesized poses",
    splits=("train",),
    folder="300W_LP",
    patterns=("AFW_Flip/*.mat", "*/AFW_Flip/*.mat", "AFW/*.mat"),
)
def read_300wlp(root: str | Path, split: str, *, landmarks: str = "3d", faults: list[str] | None = None) -> FaceSet:
    """Read 300W-LP below `root`; its only split is "train". Missing parts are skipped.

    `landmarks` is "3d" (the projected model, as in AFLW2000-3D) or "2d" (the jaw along the visible outline). The box is
    the tight box of the 68 points; the subset is the part, "AFW" to "LFPW". `faults` as in `face_set.build_face_set`.

    Raises:
      InputError: the split has another name, no face is found, or a file is not as published.
    """
    root = Path(root)
    if split != "train":
        raise InputError(f"{root}: 300W-LP has no split {quoted(split)}: use 'train', and test on AFLW2000-3D or 300-W")
    if landmarks not in LANDMARKS:
        raise InputError(f"{root}: 300W-LP has no landmarks {quoted(landmarks)}: use one of {', '.join(LANDMARKS)}")
    root = _find_folder(root, "300W_LP")
    files = [path for part in PARTS for path in find_files(root / "landmarks" / part, "*_pts.mat")]
    if not files:
        raise NoFacesError(f"{root}: no landmarks/{PARTS[0]}/*_pts.mat or similar here: pass the folder of 300W-LP")
    spellings = Spellings()
    face_readers = (functools.partial(_300wlp_face, root, path, f"pts_{landmarks}", spellings) for path in files)
    return build_face_set(face_readers, name="300W-LP", scheme=IBUG_68, box_convention="landmarks", faults=faults)


def _find_folder(root: Path, name: str) -> Path:
    """Return the folder `name` of the published archive in `root`, or `root` if it is that folder itself."""
    return root / name if (root / name).is_dir() else root


def _aflw2000_face(path: Path, spellings: Spellings) -> Face:
    content = read_mat(path, ("pt3d_68", "Pose_Para"), hint=HINT)
    return Face(
        location=str(path),
        picture=find_picture_named(path.with_suffix(".jpg"), spellings),
        points=_points(path, content["pt3d_68"], (3, 68))[:2].T - 1,
        photo=aflw_photo(path.stem),
        subset="AFLW2000-3D",
        angles=_angles(path, content["Pose_Para"]),
    )


def _300wlp_face(root: Path, path: Path, field: str, spellings: Spellings) -> Face:
    part, name = path.parent.name, path.stem.removesuffix("_pts")
    pose = root / part / f"{name}.mat"
    return Face(
        location=str(path),
        picture=find_picture_named(pose.with_name(f"{name}.jpg"), spellings),
        points=_points(path, read_mat(path, (field,), hint=HINT)[field], (68, 2)) - 1,
        photo=_photo(part, name),
        subset=part,
        angles=_angles(pose, read_mat(pose, ("Pose_Para",), hint="copy the folders of pictures too")["Pose_Para"]),
    )


def _photo(part: str, name: str) -> str:
    """Return the photo: `AFW_134212_1_0` is view 0 of face 1 of the photo that 300-W calls `afw/134212`."""
    face = re.sub(r"_[0-9]{1,2}$", "", name.removeprefix(f"{part}_"))
    return f"{part.lower()}/{re.sub(r'_[0-9]{1,2}$', '', face)}"


def _points(path: Path, values: object, shape: tuple[int, int]) -> Float[np.ndarray, "rows columns"]:
    try:
        points = to_float64(values)
        if points.shape != shape:
            raise ValueError(f"expected points of shape {shape}, got {points.shape}")
    except ValueError as error:
        raise not_as_published(path, error) from error
    if not (np.abs(points) < LARGEST).all():
        raise InputError(f"{path}: a point is not finite: {HINT}")
    return points.astype(np.float32)


def _angles(path: Path, values: object) -> tuple[float, float, float]:
    try:
        pitch, yaw, roll = np.rad2deg(to_float64(values).ravel()[:3])
    except ValueError as error:
        raise not_as_published(path, error) from error
    if not np.isfinite([pitch, yaw, roll]).all():
        raise InputError(f"{path}: Pose_Para is not finite: {HINT}")
    return -float(yaw), float(pitch), float(roll)

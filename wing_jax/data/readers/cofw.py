"""COFW (29 points with occlusion) and COFW68, its test faces with 68 points.

Burgos-Artizzu et al., "Robust face landmark estimation under occlusion", ICCV 2013;
https://data.caltech.edu/records/bc0bf-nc666. Expected at the root: `COFW_train_color.mat` (1,345 faces, the first 845
from LFPW) and `COFW_test_color.mat` (507), or the older gray files `COFW_train.mat` and `COFW_test.mat`; Matlab 7.3,
which is HDF5, where every array is transposed. The Matlab example of the data set describes `IsTr` (`IsT` in the test
file; a cell of images, uint8, color or gray), `phisTr` (1345 x 87: 29 x, 29 y, 29 flags, 1: occluded) and
`bboxesTr` (1345 x 4: left, top, width, height; "not perfect, as they simulate a real face detector").

COFW68: Ghiasi and Fowlkes, "Occlusion coherence: detecting and localizing occluded faces", arXiv 1506.08347;
https://github.com/golnazghiasi/cofw68-benchmark, described by its README and `VisualizeAnnotations.m`. Expected at the
root or in a folder below it: `test_annotations/N_points.mat` (N from 1; `Points` 68 x 2, `Occ` 68 flags),
`cofw68_test_bboxes.mat` (`bboxes` 507 x 4: left, top, width, height, of a detector like that of 300-W) and, in the
same folder or at the root, the images in `COFW_test_color.mat` or `COFW_test.mat`.

The published Matlab code draws these numbers unchanged, so they count from 1, and we subtract 1 from points and boxes.
MMPose (`parse_cofw_dataset.py`) subtracts 1 from COFW's points, but not from its boxes. Occluded points have a position
and count.
"""

import functools
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from wing_jax.data.face_set import Face, FaceSet, build_face_set
from wing_jax.data.images import LARGEST_PICTURE, Embedded
from wing_jax.data.readers.listing import LARGEST
from wing_jax.data.readers.mat73_file import dereference, get_field, is_reference, open_mat73
from wing_jax.data.readers.mat_file import not_as_published, read_mat, to_float64
from wing_jax.data.registry import register_reader
from wing_jax.errors import InputError, NoFacesError
from wing_jax.runtime.files import find_files
from wing_jax.schemes import COFW_29, IBUG_68
from wing_jax.text import cut, quoted
from wing_jax.types import Image, Visibility

if TYPE_CHECKING:
    import h5py

ENDINGS = {"train": "Tr", "test": "T"}
FROM_LFPW = 845
MOST_FACES = 100_000  # a corrupted file may declare any number
HINT = "copy the file again"


@register_reader(name="cofw", title="COFW, 29 points", folder="COFW", patterns=("COFW_t*.mat",))
def read_cofw(root: str | Path, split: str, *, faults: list[str] | None = None) -> FaceSet:
    """Read the `split` ("train" or "test") of COFW: the color file at `root`, or the gray one if that is missing.

    The subset is "lfpw" for the first 845 training faces, else "cofw". `faults` as in `face_set.build_face_set`.

    Raises:
      InputError: the file or split does not exist, or the file is not as published.
    """
    root = Path(root)
    if split not in ENDINGS:
        raise InputError(f"{root}: COFW has no split {quoted(split)}: use one of {', '.join(ENDINGS)}")
    path = _find_images([root], split)
    with open_mat73(path) as file:
        count = _count_images(path, file, f"Is{ENDINGS[split]}")
        phis = _read_columns(path, file, f"phis{ENDINGS[split]}", (3 * 29, count))
        boxes = _read_columns(path, file, f"bboxes{ENDINGS[split]}", (4, count))
    face_readers = (
        functools.partial(_face, f"{path}: face {i + 1}", path, split, i, phis[i].reshape(3, 29), boxes[i])
        for i in range(count)
    )
    return build_face_set(face_readers, name="COFW", scheme=COFW_29, box_convention="cofw", faults=faults)


@register_reader(
    name="cofw68",
    title="COFW68, 68 points",
    splits=("test",),
    folder="cofw68",
    patterns=("*annotations/*_points.mat", "*/*annotations/*_points.mat"),
)
def read_cofw68(root: str | Path, split: str, *, faults: list[str] | None = None) -> FaceSet:
    """Read COFW68 below `root`; its only split is "test". Its photos have the names of COFW's test photos.

    `faults` as in `face_set.build_face_set`.

    Raises:
      InputError: the split has another name, or a file is missing or not as published.
    """
    root = Path(root)
    if split != "test":
        raise InputError(f"{root}: COFW68 has no split {quoted(split)}: use 'test', and train on 300-W, for example")
    patterns = ("*annotations/1_points.mat", "*/*annotations/1_points.mat")
    first = next((path for pattern in patterns for path in find_files(root, pattern)), None)
    if first is None:
        raise NoFacesError(f"{root}: no test_annotations/1_points.mat here: pass the folder COFW68_Data")
    folder = first.parent.parent
    path = _find_images([folder, root], split)
    with open_mat73(path) as file:
        count = _count_images(path, file, "IsT")
    listing = folder / "cofw68_test_bboxes.mat"
    content = read_mat(listing, ("bboxes",), hint="copy it from the benchmark")
    boxes = _check_shape(listing, content["bboxes"], (count, 4))
    face_readers = (
        functools.partial(_cofw68_face, first.with_name(f"{i + 1}_points.mat"), path, i, boxes[i]) for i in range(count)
    )
    return build_face_set(face_readers, name="COFW68", scheme=IBUG_68, box_convention="cofw68", faults=faults)


def _cofw68_face(annotation: Path, images: Path, index: int, box: Float[np.ndarray, "4"]) -> Face:
    content = read_mat(annotation, ("Points", "Occ"), hint="copy it from the benchmark")
    occluded = _check_shape(annotation, np.ravel(content["Occ"]), (68,))
    phis = np.stack([*_check_shape(annotation, content["Points"], (68, 2)).T, occluded])
    return _face(str(annotation), images, "test", index, phis, box)


def _face(
    location: str,
    images: Path,
    split: str,
    index: int,
    phis: Float[np.ndarray, "3 points"],
    box: Float[np.ndarray, "4"],
) -> Face:
    """Make a face; `phis` is x, y and flags, `box` is left, top, width, height, all as in the file, from 1."""
    if not (np.abs(phis) < LARGEST).all() or not (np.abs(box) < LARGEST).all():
        raise InputError(f"{location}: a number is not finite: {HINT}")
    if not np.isin(phis[2], (0, 1)).all():
        raise InputError(f"{location}: an occlusion flag is neither 0 nor 1: {HINT}")
    cell = f"Is{ENDINGS[split]}"
    return Face(
        location=location,
        picture=Embedded(f"{images}: {cell}, face {index + 1}", functools.partial(_read_picture, images, cell, index)),
        points=(phis[:2].T - 1).astype(np.float32),
        visibility=np.where(phis[2] == 1, Visibility.OCCLUDED, Visibility.VISIBLE).astype(np.int8),
        box=np.concatenate([box[:2] - 1, box[:2] - 1 + box[2:]]).astype(np.float32),
        photo=f"cofw/{split} {index + 1}",
        subset="lfpw" if split == "train" and index < FROM_LFPW else "cofw",
    )


def _read_picture(path: Path, cell: str, index: int) -> Image:
    """Read one image of a cell. The file is opened for each, so that threads and processes do not share it."""
    with open_mat73(path) as file:
        cells = get_field(file, cell)
        pixels = dereference(file, cells[0, index] if cells.shape[0] == 1 else cells[index, 0])
        if pixels.dtype != np.uint8 or len(pixels.shape) not in (2, 3) or pixels.shape[:-2] not in ((), (3,)):
            raise ValueError(f"face {index + 1} is {_describe(pixels)}, not a picture")
        if not 0 < pixels.shape[-1] * pixels.shape[-2] <= LARGEST_PICTURE:
            raise ValueError(f"face {index + 1} has {pixels.shape} pixels")
        image = pixels[()].T
    return np.ascontiguousarray(image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=-1))


def _find_images(folders: list[Path], split: str) -> Path:
    names = (f"COFW_{split}_color.mat", f"COFW_{split}.mat")
    for path in (folder / name for name in names for folder in folders):
        if path.is_file():
            return path
    raise InputError(f"{folders[0]}: neither {names[0]} nor {names[1]} here: copy it from COFW")


def _count_images(path: Path, file: "h5py.File", cell: str) -> int:
    """Return the number of images in the cell, which is stored as 1 x n, the transpose of Matlab's n x 1."""
    cells = get_field(file, cell)
    if len(cells.shape) != 2 or min(cells.shape) != 1 or max(cells.shape) > MOST_FACES or not is_reference(cells):
        raise InputError(f"{path}: {cell} is not a cell of images, but {_describe(cells)}: {HINT}")
    return max(cells.shape)


def _read_columns(
    path: Path, file: "h5py.File", name: str, shape: tuple[int, int]
) -> Float[np.ndarray, "faces numbers"]:
    values = get_field(file, name)
    if values.shape != shape or values.dtype.kind not in "buif":  # check before reading
        raise InputError(
            f"{path}: {name}: expected numbers of shape {shape}, got {cut(str(values.dtype))} of {values.shape}: {HINT}"
        )
    return _check_shape(path, values[()], shape).T


def _describe(values: "h5py.Dataset") -> str:
    return cut(f"{values.dtype} {values.shape}")  # a type may have thousands of fields


def _check_shape(path: Path, values: object, shape: tuple[int, ...]) -> Float[np.ndarray, "..."]:
    try:
        array = to_float64(values)
        if array.shape != shape:
            raise ValueError(f"expected numbers of shape {shape}, got {array.shape}")
    except ValueError as error:
        raise not_as_published(path, error) from error
    return array

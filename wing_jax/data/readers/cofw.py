"""COFW (29 points with occlusion) and COFW68, its test faces with 68 points.

Burgos-Artizzu et al., "Robust face landmark estimation under occlusion", ICCV 2013;
https://data.caltech.edu/records/bc0bf-nc666. Expected at the root: `COFW_train_color.mat` (1,345 faces, the first 845
from LFPW) and `COFW_test_color.mat` (507), or the older gray files `COFW_train.mat` and `COFW_test.mat`; Matlab 7.3,
that is HDF5, where every array lies transposed. The example in Matlab that comes with the set describes `IsTr` (`IsT`
in the test file; a cell of images, uint8, color or gray), `phisTr` (1345 x 87: 29 x, 29 y, 29 flags, 1: occluded) and
`bboxesTr` (1345 x 4: left, top, width, height; "not perfect, as they simulate a real face detector").

COFW68: Ghiasi and Fowlkes, "Occlusion coherence: detecting and localizing occluded faces", arXiv 1506.08347;
https://github.com/golnazghiasi/cofw68-benchmark, described by its README and `VisualizeAnnotations.m`. Expected at the
root or in a folder of it: `test_annotations/N_points.mat` (N from 1; `Points` 68 x 2, `Occ` 68 flags),
`cofw68_test_bboxes.mat` (`bboxes` 507 x 4: left, top, width, height, of a detector like that of 300-W) and, there or at
the root, the images in `COFW_test_color.mat` or `COFW_test.mat`.

All of it is drawn in Matlab as it is, so it counts from 1 and we subtract 1 from points and boxes, as MMPose
(`parse_cofw_dataset.py`) does from COFW's points, but not from its boxes. Occluded points have a position and count.
"""

import functools
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from wing_jax.data.face_set import Face, FaceSet, gather
from wing_jax.data.images import LARGEST_PICTURE, Embedded
from wing_jax.data.readers.listing import LARGEST
from wing_jax.data.readers.mat73_file import field, is_reference, opened, target
from wing_jax.data.readers.mat_file import not_as_published, read_mat, real
from wing_jax.data.registry import register_reader
from wing_jax.errors import InputError
from wing_jax.runtime.files import find_files
from wing_jax.schemes import COFW_29, IBUG_68
from wing_jax.text import cut, quoted
from wing_jax.types import Image, Visibility

if TYPE_CHECKING:
    import h5py

ENDINGS = {"train": "Tr", "test": "T"}
FROM_LFPW = 845
MOST_FACES = 100_000  # a damaged file may announce any number
HINT = "copy the file again"


@register_reader(name="cofw", title="COFW, 29 points", folder="COFW", marks=("COFW_t*.mat",))
def read_cofw(root: str | Path, split: str, *, faults: list[str] | None = None) -> FaceSet:
    """The `split` ("train" or "test") of COFW: the color file at `root`, or the gray one where that is missing.

    The subset is "lfpw" for the first 845 training faces, else "cofw". `faults` as in `records.gather`.

    Raises:
      InputError: there is no such file or split, or the file is not as published.
    """
    root = Path(root)
    if split not in ENDINGS:
        raise InputError(f"{root}: COFW has no split {quoted(split)}: use one of {', '.join(ENDINGS)}")
    path = _images([root], split)
    with opened(path) as file:
        count = _count(path, file, f"Is{ENDINGS[split]}")
        phis = _columns(path, file, f"phis{ENDINGS[split]}", (3 * 29, count))
        boxes = _columns(path, file, f"bboxes{ENDINGS[split]}", (4, count))
    makers = (
        functools.partial(_face, f"{path}: face {i + 1}", path, split, i, phis[i].reshape(3, 29), boxes[i])
        for i in range(count)
    )
    return gather(makers, name="COFW", scheme=COFW_29, box_convention="cofw", faults=faults)


@register_reader(
    name="cofw68",
    title="COFW68, 68 points",
    splits=("test",),
    folder="cofw68",
    marks=("*annotations/*_points.mat", "*/*annotations/*_points.mat"),
)
def read_cofw68(root: str | Path, split: str, *, faults: list[str] | None = None) -> FaceSet:
    """COFW68 below `root`: it has the split "test" alone. Its photos share their names with COFW's test.

    `faults` as in `records.gather`.

    Raises:
      InputError: another split is asked for, or a file is missing or not as published.
    """
    root = Path(root)
    if split != "test":
        raise InputError(f"{root}: COFW68 has no split {quoted(split)}: it is for testing; train on 300-W or such")
    found = next((path for each in ("", "*/") for path in find_files(root, f"{each}*annotations/1_points.mat")), None)
    if found is None:
        raise InputError(f"{root}: no test_annotations/1_points.mat here: give the folder COFW68_Data")
    folder = found.parent.parent
    path = _images([folder, root], split)
    with opened(path) as file:
        count = _count(path, file, "IsT")
    listing = folder / "cofw68_test_bboxes.mat"
    content = read_mat(listing, ("bboxes",), hint="copy it from the benchmark")
    boxes = _shaped(listing, content["bboxes"], (count, 4))
    makers = (
        functools.partial(_face68, found.with_name(f"{i + 1}_points.mat"), path, i, boxes[i]) for i in range(count)
    )
    return gather(makers, name="COFW68", scheme=IBUG_68, box_convention="cofw68", faults=faults)


def _face68(annotation: Path, images: Path, index: int, box: Float[np.ndarray, "4"]) -> Face:
    content = read_mat(annotation, ("Points", "Occ"), hint="copy it from the benchmark")
    occluded = _shaped(annotation, np.ravel(content["Occ"]), (68,))
    phis = np.stack([*_shaped(annotation, content["Points"], (68, 2)).T, occluded])
    return _face(str(annotation), images, "test", index, phis, box)


def _face(
    where: str, images: Path, split: str, index: int, phis: Float[np.ndarray, "3 points"], box: Float[np.ndarray, "4"]
) -> Face:
    """`phis` are x, y and flags, `box` is left, top, width, height; all as in the file, from 1."""
    if not (np.abs(phis) < LARGEST).all() or not (np.abs(box) < LARGEST).all():
        raise InputError(f"{where}: a number is not finite: {HINT}")
    if not np.isin(phis[2], (0, 1)).all():
        raise InputError(f"{where}: an occlusion flag is neither 0 nor 1: {HINT}")
    cell = f"Is{ENDINGS[split]}"
    return Face(
        where=where,
        picture=Embedded(f"{images}: {cell}, face {index + 1}", functools.partial(_picture, images, cell, index)),
        points=(phis[:2].T - 1).astype(np.float32),
        visibility=np.where(phis[2] == 1, Visibility.OCCLUDED, Visibility.VISIBLE).astype(np.int8),
        box=np.concatenate([box[:2] - 1, box[:2] - 1 + box[2:]]).astype(np.float32),
        photo=f"cofw/{split} {index + 1}",
        subset="lfpw" if split == "train" and index < FROM_LFPW else "cofw",
    )


def _picture(path: Path, cell: str, index: int) -> Image:
    """One image of a cell; the file is opened for each, so that threads and processes need not share it."""
    with opened(path) as file:
        cells = field(file, cell)
        pixels = target(file, cells[0, index] if cells.shape[0] == 1 else cells[index, 0])
        if pixels.dtype != np.uint8 or len(pixels.shape) not in (2, 3) or pixels.shape[:-2] not in ((), (3,)):
            raise ValueError(f"face {index + 1} is {_kind(pixels)}, no picture")
        if not 0 < pixels.shape[-1] * pixels.shape[-2] <= LARGEST_PICTURE:
            raise ValueError(f"face {index + 1} has {pixels.shape} pixels")
        image = pixels[()].T
    return np.ascontiguousarray(image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=-1))


def _images(folders: list[Path], split: str) -> Path:
    names = (f"COFW_{split}_color.mat", f"COFW_{split}.mat")
    for path in (folder / name for name in names for folder in folders):
        if path.is_file():
            return path
    raise InputError(f"{folders[0]}: neither {names[0]} nor {names[1]} is here: copy it from COFW")


def _count(path: Path, file: "h5py.File", cell: str) -> int:
    """The number of images in the cell, which Matlab keeps as 1 x n, the transpose of its own n x 1."""
    cells = field(file, cell)
    if len(cells.shape) != 2 or min(cells.shape) != 1 or max(cells.shape) > MOST_FACES or not is_reference(cells):
        raise InputError(f"{path}: {cell} is no cell of images, but {_kind(cells)}: {HINT}")
    return max(cells.shape)


def _columns(path: Path, file: "h5py.File", name: str, shape: tuple[int, int]) -> Float[np.ndarray, "faces numbers"]:
    values = field(file, name)
    if values.shape != shape or values.dtype.kind not in "buif":  # before they are read
        raise InputError(
            f"{path}: {name} is {cut(str(values.dtype))} of shape {values.shape}, not numbers of {shape}: {HINT}"
        )
    return _shaped(path, values[()], shape).T


def _kind(values: "h5py.Dataset") -> str:
    return cut(f"{values.dtype} {values.shape}")  # a file's type may have thousands of fields


def _shaped(path: Path, values: object, shape: tuple[int, ...]) -> Float[np.ndarray, "..."]:
    try:
        array = real(values)
        if array.shape != shape:
            raise ValueError(f"numbers of shape {array.shape} where {shape} are needed")
    except ValueError as error:
        raise not_as_published(path, error) from error
    return array

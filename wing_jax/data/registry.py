"""Every format by name: its reader, its splits, and the files that tell it."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from wing_jax.data.face_set import FaceSet
from wing_jax.data.packed import read_packed
from wing_jax.data.readers.aflw import read_aflw
from wing_jax.data.readers.aflw2000 import read_300wlp, read_aflw2000
from wing_jax.data.readers.aflw_sqlite import read_aflw_sqlite
from wing_jax.data.readers.coco import read_coco
from wing_jax.data.readers.cofw import read_cofw, read_cofw68
from wing_jax.data.readers.imglab import read_imglab
from wing_jax.data.readers.lapa import read_jd_landmark, read_lapa
from wing_jax.data.readers.menpo import read_menpo
from wing_jax.data.readers.mtfl import read_mtfl
from wing_jax.data.readers.points_folder import read_points_folder
from wing_jax.data.readers.points_table import read_points_csv
from wing_jax.data.readers.w300 import read_w300
from wing_jax.data.readers.w300vw import read_300vw
from wing_jax.data.readers.wflw import read_wflw
from wing_jax.errors import InputError
from wing_jax.runtime.files import is_hidden


@dataclasses.dataclass(frozen=True, kw_only=True)
class Format:
    """A data set as published, or one form of your own data."""

    title: str
    read: Callable[..., FaceSet]  # (root, split, *, faults), or (root, *, scheme, faults) where it has no splits
    splits: tuple[str, ...] = ("train", "test")  # (): each split is a file or folder of its own, and so is its scheme
    folder: str = ""  # its usual name below WING_JAX_DATA
    marks: tuple[str, ...] = ()  # patterns below the root, any of which tells this format
    names_pictures: bool = False  # a list of pictures, whose folder may be given (the option `images`)


FORMATS = {
    "w300": Format(
        title="300-W, 68 points",
        read=read_w300,
        splits=("train", "test", "private"),
        folder="300w",
        marks=(
            "afw/*.pts",
            "helen/*set/*.pts",
            "lfpw/*set/*.pts",
            "ibug/*.pts",
            "300w_cropped/*/*.pts",
            "0?_*door/*.pts",
        ),
    ),
    "w300vw": Format(
        title="300-VW, 68 points, video", read=read_300vw, folder="300vw", marks=("[0-9][0-9][0-9]/annot/*.pts",)
    ),
    "w300lp": Format(
        title="300W-LP, 68 points, drawn poses",
        read=read_300wlp,
        splits=("train",),
        folder="300W_LP",
        marks=("AFW_Flip/*.mat", "*/AFW_Flip/*.mat", "AFW/*.mat"),
    ),
    "aflw2000": Format(
        title="AFLW2000-3D, 68 points",
        read=read_aflw2000,
        splits=("test",),
        folder="AFLW2000",
        marks=("image[0-9]*.mat", "AFLW2000/image[0-9]*.mat"),
    ),
    "aflw": Format(title="AFLW, 19 points", read=read_aflw, folder="aflw", marks=("AFLWinfo_release.mat",)),
    "aflw_sqlite": Format(
        title="AFLW, 21 points",
        read=read_aflw_sqlite,
        splits=("train",),
        folder="aflw",
        marks=("aflw.sqlite", "data/aflw.sqlite"),
    ),
    "wflw": Format(
        title="WFLW, 98 points",
        read=read_wflw,
        folder="WFLW",
        marks=("WFLW_annotations/*/list_98pt_rect_attr_*.txt",),
    ),
    "cofw": Format(title="COFW, 29 points", read=read_cofw, folder="COFW", marks=("COFW_t*.mat",)),
    "cofw68": Format(
        title="COFW68, 68 points",
        read=read_cofw68,
        splits=("test",),
        folder="cofw68",
        marks=("*annotations/*_points.mat", "*/*annotations/*_points.mat"),
    ),
    "menpo": Format(
        title="Menpo and MERL-RAV, 68 points",
        read=read_menpo,
        folder="menpo",
        marks=("merl_rav_labels/*/*/labels/*.pts", "merl_rav_organized/*/*set/*.pts"),
    ),
    "lapa": Format(
        title="LaPa, 106 points",
        read=read_lapa,
        splits=("train", "val", "test"),
        folder="LaPa",
        marks=("*/landmarks/*.txt", "LaPa/*/landmarks/*.txt"),
    ),
    "jd": Format(
        title="JD-landmark, 106 points",
        read=read_jd_landmark,
        folder="JD-landmark",
        marks=("Training_data/*/landmark/*.txt", "Test_data1/landmark/*.txt"),
    ),
    "mtfl": Format(title="MTFL, 5 points", read=read_mtfl, folder="mtfl", marks=("training.txt", "testing.txt")),
    "packed": Format(
        title="packed by wing-jax data pack", read=read_packed, splits=("train", "test"), marks=("manifest.json",)
    ),
    "imglab": Format(title="dlib's imglab XML", read=read_imglab, splits=(), names_pictures=True),
    "coco": Format(title="COCO keypoints, JSON", read=read_coco, splits=(), names_pictures=True),
    "csv": Format(title="a table, CSV", read=read_points_csv, splits=(), names_pictures=True),
    "pts": Format(
        title="a folder of .pts or .ljson", read=read_points_folder, splits=(), marks=("**/*.pts", "**/*.ljson")
    ),
}
ENDINGS = {".xml": "imglab", ".json": "coco", ".csv": "csv", ".tsv": "csv"}


def detect(root: str | Path) -> str:
    """The name of the format of the folder or file `root`.

    Raises:
      InputError: it is not there, or no format is told by its files.
    """
    root = Path(root)
    if root.is_file() and root.suffix.lower() in ENDINGS:
        return ENDINGS[root.suffix.lower()]
    if root.is_file():
        raise InputError(
            f"{root}: a file of another kind than {', '.join(ENDINGS)}: unpack or convert it, or give --data"
        )
    if not root.is_dir():
        raise InputError(f"{root}: no such folder: give a data set's folder, or an .xml, .json or .csv file")
    for name, kind in FORMATS.items():
        if any(not is_hidden(path, below=root) for mark in kind.marks for path in root.glob(mark)):
            return name
    raise InputError(f"{root}: its files tell no format: give --data, one of {', '.join(FORMATS)}")

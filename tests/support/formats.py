"""A writer for each annotation format."""

import functools
from collections.abc import Callable
from pathlib import Path

from tests.support.writers.aflw import write_aflw
from tests.support.writers.aflw2000 import write_aflw2000
from tests.support.writers.aflw_sqlite import write_aflw_sqlite
from tests.support.writers.coco import write_coco
from tests.support.writers.cofw import write_cofw, write_cofw68
from tests.support.writers.fgnet import write_fgnet
from tests.support.writers.imglab import write_imglab
from tests.support.writers.lapa import write_jd_landmark, write_lapa
from tests.support.writers.merl_rav import write_merl_rav
from tests.support.writers.mtfl import write_mtfl
from tests.support.writers.points_folder import write_points_folder
from tests.support.writers.points_table import write_points_table
from tests.support.writers.scut import write_scut
from tests.support.writers.w300 import write_w300
from tests.support.writers.w300lp import write_w300lp
from tests.support.writers.w300vw import write_w300vw
from tests.support.writers.wflw import write_wflw
from wing_jax.data.load import load_faces
from wing_jax.data.packed import pack
from wing_jax.data.registry import READERS
from wing_jax.runtime.files import is_hidden
from wing_jax.schemes import IBUG_68


def write_packed(folder: Path) -> None:
    write_w300(folder / "w300")
    splits = {split: load_faces("w300", split, root=str(folder / "w300")) for split in ("train", "test")}
    pack(splits, folder / "packed", size=64, quality=80, source="w300")


WRITERS: dict[str, Callable] = {
    "w300": write_w300, "w300vw": write_w300vw, "w300lp": write_w300lp, "aflw2000": write_aflw2000,
    "aflw": write_aflw, "aflw_sqlite": write_aflw_sqlite, "wflw": write_wflw, "cofw": write_cofw,
    "cofw68": write_cofw68, "menpo": write_merl_rav, "lapa": write_lapa, "jd": write_jd_landmark,
    "fgnet": write_fgnet, "scut": write_scut,
    "mtfl": write_mtfl, "packed": write_packed, "imglab": write_imglab, "coco": write_coco,
    "csv": functools.partial(write_points_table, scheme=IBUG_68), "pts": write_points_folder,
}  # fmt: skip
ENDINGS = {"imglab": "*.xml", "coco": "*.json", "csv": "*.csv"}


def root_of(name: str, folder: Path) -> Path:
    if name in ENDINGS:
        return next(path for path in sorted(folder.rglob(ENDINGS[name])) if not is_hidden(path, below=folder))
    return folder / "packed" if name == "packed" else folder


def load(name: str, folder: Path, faults: list[str] | None = None):
    """Load the first split of the data set written to `folder`."""
    reader = READERS[name]
    scheme = "" if reader.splits else "ibug68"
    split = reader.splits[0] if reader.splits else "all"
    return load_faces(name, split, root=str(root_of(name, folder)), scheme=scheme, faults=faults)

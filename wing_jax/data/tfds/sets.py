"""Data sets of TFDS (https://www.tensorflow.org/datasets/catalog/overview), and those that our builders add to it.

`the300w_lp` (300W-LP, Zhu et al., CVPR 2016), `aflw2k3d` (AFLW2000-3D, the same) and `celeb_a` (CelebA, Liu et al.,
ICCV 2015, the aligned pictures) are part of TFDS; `BUILT` lists those of `wing_jax.data.tfds.builders`. They are read
from where TFDS or `builders.build` prepared them; nothing is downloaded here. The sources of TFDS define the features,
`tensorflow_datasets/datasets/NAME/NAME_dataset_builder.py`:

- `the300w_lp`: `landmarks_3d` and `landmarks_2d` are `pts_3d` and `pts_2d` of 300W-LP divided by 450, the side of the
  pictures. We read the former, the projected model as in AFLW2000-3D. `pose_params` is `Pose_Para`. TFDS stores no file
  names. Views synthesized from one face should have equal `shape_params`, so these identify the photo. This is not
  verified on the real set.
- `aflw2k3d`: `landmarks_68_3d_xy_normalized` is `pt3d_68` divided by 450; no poses. For both see
  `wing_jax.data.readers.aflw2000`.
- `celeb_a`: integer pixels, taken as 0-based because no source says otherwise. "Left" is the left of the image.
"""

import dataclasses
import functools
import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Float

from wing_jax.data.face_set import Face, FaceSet, build_face_set
from wing_jax.data.images import Embedded, decode_image
from wing_jax.data.readers.listing import LARGEST
from wing_jax.data.readers.mtfl import box_of_five_points
from wing_jax.data.registry import READERS, Reader
from wing_jax.data.tfds.folder import reject_false_lengths, reject_hostile_folder
from wing_jax.errors import InputError
from wing_jax.runtime.extras import require
from wing_jax.runtime.files import plain_path
from wing_jax.runtime.processes import home_folder
from wing_jax.runtime.tensorflow_runtime import tensorflow
from wing_jax.schemes import IBUG_68, MTFL_5, SCHEMES, Scheme
from wing_jax.text import LONGEST_NAME, quoted, reason
from wing_jax.values import Value

SIDE = 450  # pixels of a picture of 300W-LP and AFLW2000-3D
CELEB_A_SPLITS = {"train": "train", "validation": "validation", "test": "test"}
CELEB_A_POINTS = ("lefteye", "righteye", "nose", "leftmouth", "rightmouth")
Example = dict[str, Any]


def read_tfds(name: str, split: str, *, root: str = "", faults: list[str] | None = None) -> FaceSet:
    """Read the `split` of the TFDS data set `name`, one of `NAMES`, prepared below `root`, the data_dir of TFDS.

    An empty `root` is the default of TFDS: the environment variable TFDS_DATA_DIR, or `~/tensorflow_datasets`. The
    encoded pictures are stored in memory (the300w_lp: about 2 GB) and decoded on access. Splits: the300w_lp has
    "train", aflw2k3d "test" (TFDS calls it train), celeb_a "train", "validation" and "test", the others the splits that
    were built. The box is the tight box of 68 points, or follows MTFL's rule for five. `faults` as in
    `face_set.build_face_set`.

    Raises:
      InputError: TFDS is missing, the set is not prepared or has no such split, or a face is not valid.
    """
    tfds = _tensorflow_datasets()
    root = root or os.environ.get("TFDS_DATA_DIR", "") or _default_root()
    layout = _LAYOUTS.get(name)
    if layout is not None and split not in layout.splits:
        raise InputError(f"{root}: {name} has no split {quoted(split)}: it has {', '.join(layout.splits)}")
    root = os.path.expanduser(root)  # like TFDS
    with plain_path(root) as plain:  # TFDS and TensorFlow interpret paths as patterns
        builder = _load_builder(tfds, name, root, plain)
        layout = layout or _read_layout(builder, split, Path(root) / name)
        examples = _read_examples(tfds, builder, layout.splits[split], layout.features, Path(root) / name)
    makers = (functools.partial(layout.face, example, f"{name}/{example['tfds_id'].decode()}") for example in examples)
    return build_face_set(makers, name=layout.title, scheme=layout.scheme, box_convention=layout.boxes, faults=faults)


def _default_root() -> str:
    """Return the default data_dir of TFDS. TFDS also needs the home folder, which not every user has."""
    home = home_folder()
    if home is None:
        raise InputError("root is empty and the user has no home folder: pass root, or set HOME or TFDS_DATA_DIR")
    return str(home / "tensorflow_datasets")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class _Layout(Value):
    """Where a data set of TFDS stores what a `Face` needs."""

    title: str
    scheme: Scheme
    splits: Mapping[str, str]  # our name: TFDS's name
    features: tuple[str, ...]  # the ones that `face` uses
    face: Callable[[Example, str], Face]
    boxes: str = "landmarks"


def _300w_lp_face(example: Example, location: str) -> Face:
    pitch, yaw, roll = _check_finite(np.rad2deg(example["pose_params"][:3].astype(float)), location).tolist()
    shape = hashlib.sha256(example["shape_params"].tobytes()).hexdigest()[:16]
    return Face(
        location=location,
        picture=_lazy_picture(example, location),
        points=_check_finite(example["landmarks_3d"].astype(float) * SIDE - 1, location),
        photo=f"300W-LP/{shape}",
        subset="300W-LP",
        angles=(-yaw, pitch, roll),
    )


def _aflw2000_face(example: Example, location: str) -> Face:
    return Face(
        location=location,
        picture=_lazy_picture(example, location),
        points=_check_finite(example["landmarks_68_3d_xy_normalized"].astype(float) * SIDE - 1, location),
        photo=location,
        subset="AFLW2000-3D",
    )


def _celeb_a_face(example: Example, location: str) -> Face:
    landmarks = example["landmarks"]
    points = np.array([[landmarks[f"{part}_x"], landmarks[f"{part}_y"]] for part in CELEB_A_POINTS], np.float32)
    return Face(
        location=location,
        picture=_lazy_picture(example, location),
        points=points,
        box=box_of_five_points(points[None])[0],
        photo=location,
        subset="CelebA",
        attributes={name: bool(value) for name, value in example["attributes"].items()},
    )


def _built_face(attributes: tuple[str, ...], example: Example, location: str) -> Face:
    points = _check_finite(example["points"], location)
    angles = tuple(example["angles"].tolist())
    return Face(
        location=location,
        picture=_lazy_picture(example, location),
        points=np.where(example["visible"][:, None], points, np.float32(np.nan)),
        visibility=example["visibility"].astype(np.int8),
        box=_check_finite(example["box"], location),
        photo=example["photo"].decode(),
        subset=example["subset"].decode(),
        attributes={name: bool(example["attributes"][name]) for name in attributes},
        pose=example["pose"].decode() or None,
        angles=angles if np.isfinite(angles).any() else None,
    )


_LAYOUTS = {
    "the300w_lp": _Layout(
        "300W-LP", IBUG_68, {"train": "train"}, ("landmarks_3d", "pose_params", "shape_params"), _300w_lp_face
    ),
    "aflw2k3d": _Layout("AFLW2000-3D", IBUG_68, {"test": "train"}, ("landmarks_68_3d_xy_normalized",), _aflw2000_face),
    "celeb_a": _Layout("CelebA", MTFL_5, CELEB_A_SPLITS, ("landmarks", "attributes"), _celeb_a_face, "mtfl"),
}
BUILT = ("wing_w300", "wing_wflw", "wing_aflw", "wing_cofw", "wing_mtfl")
BUILT_FEATURES = ("index", "points", "visible", "visibility", "box", "photo", "subset", "pose", "angles")
NAMES = (*_LAYOUTS, *BUILT)


def _possible_splits(root: str) -> tuple[str, ...]:
    """Return all splits that a set of our builders may have; reading reports the missing ones."""
    return ("train", "test", "private")


for _name in NAMES:
    _layout = _LAYOUTS.get(_name)
    _reader = Reader(
        title=f"{_layout.title}, from TFDS" if _layout else f"{_name.removeprefix('wing_')}, built for TFDS",
        read=functools.partial(read_tfds, _name),
        splits=tuple(_layout.splits) if _layout else ("train", "test"),
        find_splits=None if _layout else _possible_splits,
        root_optional=True,
    )
    READERS.add(_name, _reader, origin=read_tfds)


def _read_layout(builder: Any, split: str, folder: Path) -> _Layout:
    """Read the layout of a data set of our builders from its metadata."""
    try:
        metadata = builder.info.metadata
        scheme, splits = SCHEMES[metadata["scheme"]], {}
        for name, values in metadata["splits"].items():
            splits[name] = (values["name"], values["box_convention"], tuple(values["attributes"]))
            if any(len(text) > LONGEST_NAME for text in splits[name][:2]):
                raise ValueError(f"a name of more than {LONGEST_NAME} characters")
    except Exception as error:  # the file may be missing or contain any JSON
        raise InputError(
            f"{folder}: metadata.json is not that of wing_jax ({reason(error)}): build it again"
        ) from error
    if split not in splits:
        raise InputError(f"{folder}: has no split {quoted(split)}: it has {', '.join(splits)}")
    title, boxes, attributes = splits[split]
    features = (*BUILT_FEATURES, "attributes") if attributes else BUILT_FEATURES
    return _Layout(title, scheme, {split: split}, features, functools.partial(_built_face, attributes), boxes)


def _tensorflow_datasets() -> ModuleType:
    tensorflow()
    return require("tensorflow_datasets", extra="tfdata", purpose="this data set")


def _load_builder(tfds: ModuleType, name: str, root: str, plain: Path) -> Any:
    from tensorflow_datasets.core import read_only_builder  # reads any version; never downloads

    call = f"build({quoted(name)}, data_dir={root!r}" + (", manual_dir='FOLDER')" if name in BUILT else ")")
    hint = f'prepare it: python -c "from wing_jax.data.tfds.builders import build; {call}"'
    reject_hostile_folder(Path(root) / name)
    try:
        return read_only_builder.builder_from_files(name, data_dir=str(plain))
    except tfds.core.DatasetNotFoundError as error:
        raise InputError(f"{root}: no prepared TFDS data set {quoted(name)} here: {hint}") from error
    except Exception as error:  # for a corrupted JSON file TFDS and protobuf raise many kinds of errors
        raise InputError(f"{Path(root) / name}: cannot read this data set ({reason(error)}): {hint}") from error


def _read_examples(
    tfds: ModuleType, builder: Any, split: str, features: tuple[str, ...], folder: Path
) -> list[Example]:
    decoders = tfds.decode.PartialDecoding(
        features=dict.fromkeys(("image", *features), True), decoders={"image": tfds.decode.SkipDecoding()}
    )
    options = tfds.ReadConfig(add_tfds_id=True, try_autocache=False, interleave_cycle_length=1)
    try:
        for path in builder.info.splits[split].filepaths:
            if ".tfrecord" in path.name and path.exists():
                reject_false_lengths(folder / Path(path).relative_to(Path(builder.data_dir).parent))
        examples = list(tfds.as_numpy(builder.as_dataset(split=split, decoders=decoders, read_config=options)))
    except InputError:
        raise
    except Exception as error:  # TensorFlow's errors for missing, truncated and altered records, TFDS's for splits
        raise InputError(
            f"{folder}: cannot read {quoted(split)} ({reason(error)}): prepare the data set again"
        ) from error
    return sorted(examples, key=lambda example: example["index"]) if "index" in features else examples


def _lazy_picture(example: Example, location: str) -> Embedded:
    return Embedded(location, functools.partial(decode_image, example["image"], name=location))


def _check_finite(values: Float[np.ndarray, "*shape"], location: str) -> Float[np.ndarray, "*shape"]:
    if not (np.abs(values) < LARGEST).all():
        raise InputError(f"{location}: a number of this face is not finite: prepare the data set again")
    return values.astype(np.float32)

"""Sets that TensorFlow Datasets has (https://www.tensorflow.org/datasets/catalog/overview), and those it was taught.

`the300w_lp` (300W-LP, Zhu et al., CVPR 2016), `aflw2k3d` (AFLW2000-3D, the same) and `celeb_a` (CelebA, Liu et al.,
ICCV 2015, the aligned pictures) are TFDS's own, `TAUGHT` those of `wing_jax.data.tfds.builders`. They are read where
TFDS or `tfds_builders.build` prepared them; nothing is downloaded here. What the features hold is told by TFDS's
sources, `tensorflow_datasets/datasets/NAME/NAME_dataset_builder.py`:

- `the300w_lp`: `landmarks_3d` and `landmarks_2d` are `pts_3d` and `pts_2d` of 300W-LP over 450, the pictures' side. We
  read the former, the projected model as in AFLW2000-3D. `pose_params` is `Pose_Para`. TFDS keeps no file names; views
  drawn of one face should share their `shape_params`, so these tell the photo. This is not verified on the real set.
- `aflw2k3d`: `landmarks_68_3d_xy_normalized` is `pt3d_68` over 450; no poses. For both see
  `wing_jax.data.readers.aflw2000`.
- `celeb_a`: whole pixels, taken as 0-based as nobody says otherwise. "Left" is the left of the image.
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

from wing_jax.data.face_set import Face, FaceSet, gather
from wing_jax.data.images import Embedded, decode_image
from wing_jax.data.readers.listing import LARGEST
from wing_jax.data.readers.mtfl import box_of_five_points
from wing_jax.data.registry import READERS, Reader
from wing_jax.data.tfds.folder import refuse_false_lengths, refuse_hostile_folder
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
FIVE = ("lefteye", "righteye", "nose", "leftmouth", "rightmouth")
Example = dict[str, Any]


def read_tfds(name: str, split: str, *, root: str = "", faults: list[str] | None = None) -> FaceSet:
    """The `split` of the set that TFDS calls `name`, one of `NAMES`, prepared below `root`, TFDS's data_dir.

    An empty `root` is TFDS's default, `~/tensorflow_datasets` or the environment variable TFDS_DATA_DIR. The encoded
    pictures are held in memory (the300w_lp: about 2 GB) and decoded when asked for. Splits: the300w_lp has "train",
    aflw2k3d "test" (TFDS calls it train), celeb_a "train", "validation" and "test", the others what was built. The box
    is the tight one of 68 points, or by MTFL's rule for five. `faults` as in `records.gather`.

    Raises:
      InputError: TFDS is missing, the set is not prepared, has no such split, or a face is not as it must be.
    """
    tfds = _tensorflow_datasets()
    root = root or os.environ.get("TFDS_DATA_DIR", "") or _usual_root()
    known = _KNOWN.get(name)
    if known is not None and split not in known.splits:
        raise InputError(f"{root}: {name} has no split {quoted(split)}: it has {', '.join(known.splits)}")
    root = os.path.expanduser(root)  # as TFDS itself does
    with plain_path(root) as plain:  # TFDS and TensorFlow read patterns
        builder = _prepared(tfds, name, root, plain)
        known = known or _taught(builder, split, Path(root) / name)
        examples = _examples(tfds, builder, known.splits[split], known.features, Path(root) / name)
    makers = (functools.partial(known.face, example, f"{name}/{example['tfds_id'].decode()}") for example in examples)
    return gather(makers, name=known.title, scheme=known.scheme, box_convention=known.boxes, faults=faults)


def _usual_root() -> str:
    """TFDS's own choice. It asks for the user's folder as well, which not everyone has."""
    home = home_folder()
    if home is None:
        raise InputError("data.root is empty, and there is no home folder: set HOME, TFDS_DATA_DIR or data.root")
    return str(home / "tensorflow_datasets")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class _Known(Value):
    title: str
    scheme: Scheme
    splits: Mapping[str, str]  # what we call them: what TFDS calls them
    features: tuple[str, ...]  # those that `face` uses
    face: Callable[[Example, str], Face]
    boxes: str = "landmarks"


def _300w_lp_face(example: Example, where: str) -> Face:
    pitch, yaw, roll = _finite(np.rad2deg(example["pose_params"][:3].astype(float)), where).tolist()
    shape = hashlib.sha256(example["shape_params"].tobytes()).hexdigest()[:16]
    return Face(
        where=where,
        picture=_picture(example, where),
        points=_finite(example["landmarks_3d"].astype(float) * SIDE - 1, where),
        photo=f"300W-LP/{shape}",
        subset="300W-LP",
        angles=(-yaw, pitch, roll),
    )


def _aflw2000_face(example: Example, where: str) -> Face:
    return Face(
        where=where,
        picture=_picture(example, where),
        points=_finite(example["landmarks_68_3d_xy_normalized"].astype(float) * SIDE - 1, where),
        photo=where,
        subset="AFLW2000-3D",
    )


def _celeb_a_face(example: Example, where: str) -> Face:
    landmarks = example["landmarks"]
    points = np.array([[landmarks[f"{part}_x"], landmarks[f"{part}_y"]] for part in FIVE], np.float32)
    return Face(
        where=where,
        picture=_picture(example, where),
        points=points,
        box=box_of_five_points(points[None])[0],
        photo=where,
        subset="CelebA",
        attributes={name: bool(value) for name, value in example["attributes"].items()},
    )


def _taught_face(attributes: tuple[str, ...], example: Example, where: str) -> Face:
    points = _finite(example["points"], where)
    angles = tuple(example["angles"].tolist())
    return Face(
        where=where,
        picture=_picture(example, where),
        points=np.where(example["visible"][:, None], points, np.float32(np.nan)),
        visibility=example["visibility"].astype(np.int8),
        box=_finite(example["box"], where),
        photo=example["photo"].decode(),
        subset=example["subset"].decode(),
        attributes={name: bool(example["attributes"][name]) for name in attributes},
        pose=example["pose"].decode() or None,
        angles=angles if np.isfinite(angles).any() else None,
    )


_KNOWN = {
    "the300w_lp": _Known(
        "300W-LP", IBUG_68, {"train": "train"}, ("landmarks_3d", "pose_params", "shape_params"), _300w_lp_face
    ),
    "aflw2k3d": _Known("AFLW2000-3D", IBUG_68, {"test": "train"}, ("landmarks_68_3d_xy_normalized",), _aflw2000_face),
    "celeb_a": _Known("CelebA", MTFL_5, CELEB_A_SPLITS, ("landmarks", "attributes"), _celeb_a_face, "mtfl"),
}
TAUGHT = ("wing_w300", "wing_wflw", "wing_aflw", "wing_cofw", "wing_mtfl")
TAUGHT_FEATURES = ("index", "points", "visible", "visibility", "box", "photo", "subset", "pose", "angles")
NAMES = (*_KNOWN, *TAUGHT)


def _splits_that_may_be(root: str) -> tuple[str, ...]:
    """Of a set that TFDS was taught; reading says which there are."""
    return ("train", "test", "private")


for _name in NAMES:
    _known = _KNOWN.get(_name)
    _reader = Reader(
        title=f"{_known.title}, by TFDS" if _known else f"{_name.removeprefix('wing_')}, built for TFDS",
        read=functools.partial(read_tfds, _name),
        splits=tuple(_known.splits) if _known else ("train", "test"),
        splits_of=None if _known else _splits_that_may_be,
        rootless=True,
    )
    READERS.add(_name, _reader, origin=read_tfds)


def _taught(builder: Any, split: str, where: Path) -> _Known:
    try:
        metadata = builder.info.metadata
        scheme, splits = SCHEMES[metadata["scheme"]], {}
        for name, said in metadata["splits"].items():
            splits[name] = (said["name"], said["box_convention"], tuple(said["attributes"]))
            if any(len(text) > LONGEST_NAME for text in splits[name][:2]):
                raise ValueError(f"a name of more than {LONGEST_NAME} characters")
    except Exception as error:  # any JSON, or none, may be there
        raise InputError(f"{where}: metadata.json is not ours ({reason(error)}): build it again") from error
    if split not in splits:
        raise InputError(f"{where}: has no split {quoted(split)}: it has {', '.join(splits)}")
    title, boxes, attributes = splits[split]
    features = (*TAUGHT_FEATURES, "attributes") if attributes else TAUGHT_FEATURES
    return _Known(title, scheme, {split: split}, features, functools.partial(_taught_face, attributes), boxes)


def _tensorflow_datasets() -> ModuleType:
    tensorflow()
    return require("tensorflow_datasets", extra="tfdata", purpose="this data set")


def _prepared(tfds: ModuleType, name: str, root: str, plain: Path) -> Any:
    from tensorflow_datasets.core import read_only_builder  # reads what is there, whichever version; never downloads

    call = f"build({quoted(name)}, data_dir={root!r}" + (", manual_dir='FOLDER')" if name in TAUGHT else ")")
    hint = f'prepare it: python -c "from wing_jax.data.tfds.builders import build; {call}"'
    refuse_hostile_folder(Path(root) / name)
    try:
        return read_only_builder.builder_from_files(name, data_dir=str(plain))
    except tfds.core.DatasetNotFoundError as error:
        raise InputError(f"{root}: TFDS has no prepared data set {quoted(name)} there: {hint}") from error
    except Exception as error:  # a damaged JSON file makes TFDS and protobuf raise their own of many kinds
        raise InputError(f"{Path(root) / name}: cannot read this data set ({reason(error)}): {hint}") from error


def _examples(tfds: ModuleType, builder: Any, split: str, features: tuple[str, ...], where: Path) -> list[Example]:
    decoders = tfds.decode.PartialDecoding(
        features=dict.fromkeys(("image", *features), True), decoders={"image": tfds.decode.SkipDecoding()}
    )
    options = tfds.ReadConfig(add_tfds_id=True, try_autocache=False, interleave_cycle_length=1)
    try:
        for path in builder.info.splits[split].filepaths:
            if ".tfrecord" in path.name and path.exists():
                refuse_false_lengths(where / Path(path).relative_to(Path(builder.data_dir).parent))
        examples = list(tfds.as_numpy(builder.as_dataset(split=split, decoders=decoders, read_config=options)))
    except InputError:
        raise
    except Exception as error:  # TensorFlow's errors for missing, cut and altered records, TFDS's for splits
        raise InputError(f"{where}: cannot read {quoted(split)} ({reason(error)}): prepare it again") from error
    return sorted(examples, key=lambda example: example["index"]) if "index" in features else examples


def _picture(example: Example, where: str) -> Embedded:
    return Embedded(where, functools.partial(decode_image, example["image"], name=where))


def _finite(values: Float[np.ndarray, "*shape"], where: str) -> Float[np.ndarray, "*shape"]:
    if not (np.abs(values) < LARGEST).all():
        raise InputError(f"{where}: a number of this face is not finite: prepare the data set again")
    return values.astype(np.float32)

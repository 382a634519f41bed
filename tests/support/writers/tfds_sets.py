"""Data sets of TFDS with the features of TFDS, written by TFDS without a download."""

from pathlib import Path

import cv2
import numpy as np
import tensorflow_datasets as tfds

from tests.support.writers.faces import SmallFace, small_faces
from wing_jax.schemes import Scheme

ATTRIBUTES = ("Eyeglasses", "Smiling", "Young")  # of CelebA's forty
PARAMETERS = {"illum": 10, "color": 7, "tex": 199, "exp": 29}


def jpeg(image: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", image[:, :, ::-1])[1].tobytes()


def faces_of(scheme: Scheme, count: int, seed: int) -> list[SmallFace]:
    """Make faces on pictures of 450 x 450 pixels, like 300W-LP."""
    return small_faces(scheme, count, seed=seed, width=450, height=450)


def lp_example(face: SmallFace, index: int) -> dict:
    """Make view `index`; the first two are of one head and share its shape."""
    normalized = ((face.points.astype(float) + 1) / 450).astype(np.float32)
    random = np.random.default_rng(max(index, 1))
    return {
        "image": jpeg(face.image),
        "landmarks_origin": np.zeros((68, 2), np.float32),
        "landmarks_2d": np.zeros((68, 2), np.float32),
        "landmarks_3d": normalized,
        "roi": np.float32([1, 2, 3, 4]),
        "pose_params": np.float32([np.pi / 18, -np.pi / 6, np.pi / 36, 7, 8, 9, 1e-4]),
        "shape_params": random.normal(size=199).astype(np.float32),
        **{f"{name}_params": np.zeros(size, np.float32) for name, size in PARAMETERS.items()},
    }


def aflw_example(face: SmallFace, index: int) -> dict:
    normalized = ((face.points.astype(float) + 1) / 450).astype(np.float32)
    depth = np.full((68, 1), index, np.float32)
    return {"image": jpeg(face.image), "landmarks_68_3d_xy_normalized": normalized, "landmarks_68_3d_z": depth}


def celeb_example(face: SmallFace, index: int) -> dict:
    """Make an example with integer pixels and CelebA's names; its left eye is at image left."""
    names = tfds.builder_cls("celeb_a")(data_dir="unused").info.features
    values = np.rint(face.points).astype(int).ravel().tolist()
    parts = ("lefteye", "righteye", "nose", "leftmouth", "rightmouth")
    return {
        "image": jpeg(face.image[:218, :178]),
        "landmarks": dict(zip([f"{part}_{axis}" for part in parts for axis in "xy"], values, strict=True)),
        "attributes": {name: name == ATTRIBUTES[index % 3] for name in names["attributes"]},
        "identity": {"Identity_No": 7},
    }


def prepare(name: str, splits: dict[str, list[dict]], folder: Path) -> None:
    """Write `splits` as TFDS writes the real set `name`."""

    class Small(tfds.builder_cls(name), skip_registration=True):
        url_infos = None

        @classmethod
        def get_metadata(cls):
            return tfds.builder_cls(name).get_metadata()

        def _split_generators(self, dl_manager):
            return {split: enumerate(examples) for split, examples in splits.items()}

    Small.name = name
    Small(data_dir=folder).download_and_prepare()


def example(name: str, face: SmallFace, index: int) -> dict:
    """Make example `index` of the TFDS data set `name`."""
    make = {"the300w_lp": lp_example, "aflw2k3d": aflw_example, "celeb_a": celeb_example}
    return make[name](face, index)

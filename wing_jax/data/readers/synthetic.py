"""The synthetic faces as data sets: with 3-D landmarks, and with the jaw along the visible outline as in 300-W."""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int8

from wing_jax.choices import Landmarks
from wing_jax.data.encoded import encode_jpeg
from wing_jax.data.face_set import FaceSet
from wing_jax.data.images import Embedded, Picture, decode_image
from wing_jax.data.registry import register_reader
from wing_jax.errors import InputError
from wing_jax.geometry import tight_box
from wing_jax.runtime import memory
from wing_jax.schemes import IBUG_68
from wing_jax.types import Visibility

TEST_SEED = 10_000_019  # large, so that test faces are not among the training faces of small seeds
COMPRESSION = 5  # of JPEG, at least


@register_reader(name="synthetic", title="synthetic faces, 68 points", root_optional=True)
def read_synthetic(root: str, split: str, *, count: int, seed: int = 0) -> FaceSet:
    """Render `count` faces that depend on `seed` and `split`; `root` is ignored.

    Raises:
      InputError: as in `synthetic_faces`.
    """
    return synthetic_faces(count, seed=seed_of_split(seed, split))


@register_reader(
    name="synthetic_2d", title="synthetic faces, 68 points, jaw along the visible outline", root_optional=True
)
def read_synthetic_2d(root: str, split: str, *, count: int, seed: int = 0) -> FaceSet:
    """Render the faces of `read_synthetic` with the points of the jaw along the visible outline.

    Raises:
      InputError: as in `synthetic_faces`.
    """
    return synthetic_faces(count, seed=seed_of_split(seed, split), landmarks="2d")


def seed_of_split(seed: int, split: str) -> int:
    """Return the seed from which the faces of `split` are rendered."""
    return seed if split == "train" else TEST_SEED + seed


def synthetic_faces(
    count: int,
    *,
    seed: int,
    size: int = 192,
    landmarks: Landmarks = "3d",
    compress: bool = False,
    workers: int | None = None,
) -> FaceSet:
    """Render `count` faces with `wing_jax.synthetic.render` as a data set; the box is the tight box of the points.

    Args:
      count: the number of faces.
      seed: the seed of the faces.
      size: side of the pictures in pixels.
      landmarks: "3d": fixed points of the jaw; "2d": the jaw along the visible outline.
      compress: keep the pictures as JPEG, for more faces than fit into memory otherwise.
      workers: number of threads; None: one for each core.

    Raises:
      InputError: `count` is less than 1, or the faces do not fit into memory.
    """
    if count < 1:
        raise InputError(
            f"the synthetic data set needs at least one face, got {count}: pass a larger count (in a config, "
            f"data.train_faces or data.test_faces)"
        )
    memory.require_memory(
        3 * size**2 * count // COMPRESSION if compress else 2 * 3 * size**2 * count,
        what=f"{count:,} synthetic faces of {size} x {size} pixels",
        fix="render fewer faces",
    )
    from wing_jax.synthetic.render import iterate_faces  # reading other data sets does not need the renderer

    points = np.empty((count, IBUG_68.points, 2), np.float32)
    visibility = np.empty((count, IBUG_68.points), np.int8)
    angles = np.empty((count, 3), np.float32)
    pictures: list[Any] = []  # pixels, or JPEG
    for index, face in enumerate(iterate_faces(count, seed=seed, size=size, landmarks=landmarks, workers=workers)):
        points[index], visibility[index] = face.points, _visibility(face)
        angles[index] = face.yaw, face.pitch, face.roll
        pictures.append(encode_jpeg(face.image) if compress else face.image)
    return FaceSet(
        name="synthetic faces",
        scheme=IBUG_68,
        pictures=_embedded(pictures, name=f"synthetic face {seed}") if compress else np.stack(pictures),
        points=points,
        visible=np.ones(points.shape[:2], bool),  # a 3-D annotation: hidden points are exact too
        boxes=np.asarray(tight_box(points)),
        box_convention="landmarks",
        photos=tuple(f"{seed}-{i}" for i in range(count)),
        subsets=("synthetic",) * count,
        visibility=visibility,
        poses=tuple(map(_pose_label, angles[:, 0].tolist())),
        angles=angles,
    )


def _embedded(encoded: Sequence[bytes], *, name: str) -> tuple[Picture, ...]:
    names = [f"{name}-{index}" for index in range(len(encoded))]
    return tuple(
        Embedded(each, functools.partial(decode_image, content, name=each))
        for each, content in zip(names, encoded, strict=True)
    )


def _visibility(face: Any) -> Int8[np.ndarray, "68"]:
    hidden = np.where(face.visible, Visibility.VISIBLE, Visibility.SELF_OCCLUDED)
    return np.where(face.covered, Visibility.OCCLUDED, hidden).astype(np.int8)


def _pose_label(yaw: float) -> str:
    """Return a pose label; labels sort by yaw."""
    names = ("1 left profile", "2 left", "3 frontal", "4 right", "5 right profile")
    return names[int(np.searchsorted((-60, -20, 20, 60), yaw))]

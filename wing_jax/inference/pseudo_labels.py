"""More faces to train on: a model marks all its points where only a few are annotated, and those few check it.

300-W has 68 points of 3,148 faces, MTFL five of 10,000 in other poses and light. A student that is trained on both, on
its teacher's points perturbed far more strongly than the teacher saw them, does better than its teacher (Xie et al.,
"Self-training with noisy student", CVPR 2020, arXiv:1911.04252).
"""

import dataclasses

import numpy as np
from jaxtyping import Float

from wing_jax import geometry
from wing_jax.data.boxes import boxes_about
from wing_jax.data.face_crops import crop_faces, to_image
from wing_jax.data.face_set import FaceSet
from wing_jax.errors import InputError
from wing_jax.inference.localizer import Localizer
from wing_jax.schemes import Conversion, get_conversion
from wing_jax.values import Value

AT_ONCE = 1024  # faces held as face crops


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class PseudoLabels(Value):
    """`n` faces with a model's points, and how far those lie from the annotated ones."""

    faces: FaceSet
    distances: Float[np.ndarray, "n"]  # mean distance over the annotated points, in larger sides of the model's boxes
    # How far to the right of the model's the annotated points lie, in pixels, on the mean of a face. A model trained
    # with flips is biased to neither side: one pixel at every size of face is a set that counts from 1.
    offsets: Float[np.ndarray, "n"]


def label_faces(localizer: Localizer, faces: FaceSet, *, workers: int = 2) -> PseudoLabels:
    """`faces` with all points of `localizer` instead of their own, in pixels of their pictures, and boxes of its kind.

    The model looks where the annotated points say: its mean shape is laid on them, and the box put about that.

    Raises:
      InputError: fewer than three of the annotated points can be told from the model's, some are hidden, the model does
        not tell its boxes, or a picture cannot be read.
    """
    try:
        conversion = get_conversion(localizer.scheme, faces.scheme)
    except ValueError as error:
        raise InputError(f"{faces.name} cannot be labeled by a model of {localizer.scheme.name}: {error}") from error
    told = np.flatnonzero(conversion.told)
    if len(told) < 3:
        raise InputError(
            f"{faces.name}: {len(told)} of its points can be told from {localizer.scheme.name}: 3 are needed"
        )
    if not (shown := faces.visible[:, told].all(1)).all():
        raise InputError(f"{faces.picture_name(int(shown.argmin()))}: some of its points are hidden: leave it out")
    boxes = _boxes(localizer, conversion, faces.points[:, told], told)
    found = np.concatenate(
        [
            _located(localizer, faces, boxes, np.arange(start, min(start + AT_ONCE, len(faces))), workers=workers)
            for start in range(0, len(faces), AT_ONCE)
        ]
    )
    off = (faces.points - conversion.points(found))[:, told]
    labeled = dataclasses.replace(
        faces,
        name=f"{faces.name} labeled by {localizer.metadata.name or 'a model'}",
        scheme=localizer.scheme,
        points=found,
        visible=np.ones(found.shape[:2], bool),
        visibility=None,
        boxes=_about(localizer, found),
        box_convention=localizer.box_convention,
    )
    distances = np.linalg.norm(off, axis=-1).mean(1) / (boxes[:, 2:] - boxes[:, :2]).max(1)
    return PseudoLabels(faces=labeled, distances=distances, offsets=off[..., 0].mean(1))


def _boxes(
    localizer: Localizer, conversion: Conversion, points: Float[np.ndarray, "n told 2"], told: np.ndarray
) -> Float[np.ndarray, "n 4"]:
    few = conversion.points(localizer.template)[told]
    transforms = np.asarray(geometry.crop_of_shape(points, few, size=1))
    placed = geometry.crop_pixels(localizer.template, size=1)
    mean = np.broadcast_to(placed, (len(points), *placed.shape)).astype(np.float32)
    return _about(localizer, np.asarray(geometry.transform(transforms, mean)))


def _about(localizer: Localizer, shapes: Float[np.ndarray, "n points 2"]) -> Float[np.ndarray, "n 4"]:
    if localizer.metadata.shape_in_box is None:
        raise InputError("this model does not record how its boxes lay about the faces: train it again")
    return boxes_about(shapes, localizer.metadata.shape_in_box)


def _located(
    localizer: Localizer, faces: FaceSet, boxes: Float[np.ndarray, "n 4"], indices: np.ndarray, *, workers: int
) -> Float[np.ndarray, "m points 2"]:
    part = dataclasses.replace(faces.take(indices), boxes=boxes[indices])
    face_crops = crop_faces(part, size=localizer.stages[-1].face_crop_size, workers=workers)
    return to_image(face_crops.crop_to_image, localizer.locate(face_crops.images, face_crops.boxes)[-1])

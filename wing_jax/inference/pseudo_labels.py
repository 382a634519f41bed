"""Pseudo-labels: models label faces that have a few annotated points; these points are used to check the predictions.

300-W has 68 points for 3,148 faces, MTFL five for 10,000 in other poses and light. A student trained on both, with
stronger augmentation of the pseudo-labeled faces than the teacher's, is better than its teacher (Xie et al.,
"Self-training with noisy student", CVPR 2020, arXiv:1911.04252).
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from wing_jax import geometry
from wing_jax.data.boxes import boxes_of_shapes
from wing_jax.data.face_crops import crop_faces, to_image
from wing_jax.data.face_set import FaceSet
from wing_jax.errors import InputError
from wing_jax.inference.localizer import Localizer
from wing_jax.schemes import Conversion, get_conversion
from wing_jax.values import Value

CHUNK = 1024  # faces with face crops in memory at once


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class PseudoLabels(Value):
    """`n` faces with the points of a model or of several, and their distances from the annotated points."""

    faces: FaceSet
    distances: Float[np.ndarray, "n"]  # mean distance over the annotated points, in larger sides of the model's boxes
    # Annotated x minus model x in pixels, the mean over the points of a face. A model trained with flips has no
    # left-right bias: an offset of one pixel for faces of any size means that the annotations count from 1.
    offsets: Float[np.ndarray, "n"]


def label_faces(
    localizer: Localizer, faces: FaceSet, *, others: Sequence[Localizer] = (), workers: int = 2
) -> PseudoLabels:
    """Return `faces` with the points of `localizer`, in pixels of their pictures, and boxes in its convention.

    The annotated points determine the boxes for the model: its mean shape is aligned with them, and the box placed
    around it. `others` are models of the same scheme and boxes; with them the points are the mean of all models'.

    Raises:
      InputError: fewer than three of the annotated points can be computed from the model's, some are hidden, the model
        does not record the position of faces in its boxes, the models differ in scheme or boxes, or a picture cannot
        be read.
    """
    for other in others:
        if (other.scheme, other.box_convention) != (localizer.scheme, localizer.box_convention):
            raise InputError(
                f"{other.metadata.name or 'a model'} has {other.scheme.name} and boxes {other.box_convention!r}, "
                f"{localizer.metadata.name or 'the first model'} {localizer.scheme.name} and "
                f"{localizer.box_convention!r}: their points cannot be averaged"
            )
    try:
        conversion = get_conversion(localizer.scheme, faces.scheme)
    except ValueError as error:
        raise InputError(f"{faces.name} cannot be labeled by a model of {localizer.scheme.name}: {error}") from error
    common = np.flatnonzero(conversion.available)
    if len(common) < 3:
        raise InputError(
            f"{faces.name}: {len(common)} points can be computed from {localizer.scheme.name}, but 3 or more are "
            f"needed: pass a model whose scheme has more of these points"
        )
    if not (complete := faces.visible[:, common].all(1)).all():
        raise InputError(
            f"{faces.picture_name(int(complete.argmin()))}: some of its points are hidden: remove this face"
        )
    boxes = _boxes_from_points(localizer, conversion, faces.points[:, common], common)
    chunks = [np.arange(start, min(start + CHUNK, len(faces))) for start in range(0, len(faces), CHUNK)]
    points = np.mean(
        [
            np.concatenate([_locate(model, faces, boxes, chunk, workers=workers) for chunk in chunks])
            for model in (localizer, *others)
        ],
        axis=0,
    )
    differences = (faces.points - conversion.points(points))[:, common]
    labeled = dataclasses.replace(
        faces,
        name=f"{faces.name} labeled by {localizer.metadata.name or 'a model'}",
        scheme=localizer.scheme,
        points=points,
        visible=np.ones(points.shape[:2], bool),
        visibility=None,
        boxes=_boxes_around(localizer, points),
        box_convention=localizer.box_convention,
    )
    distances = np.linalg.norm(differences, axis=-1).mean(1) / (boxes[:, 2:] - boxes[:, :2]).max(1)
    return PseudoLabels(faces=labeled, distances=distances, offsets=differences[..., 0].mean(1))


def _boxes_from_points(
    localizer: Localizer, conversion: Conversion, points: Float[np.ndarray, "n common 2"], common: np.ndarray
) -> Float[np.ndarray, "n 4"]:
    """Align the mean shape of the model with the annotated points, and return the boxes around it."""
    template = conversion.points(localizer.template)[common]
    transforms = np.asarray(geometry.crop_of_shape(points, template, size=1))
    shape = geometry.crop_pixels(localizer.template, size=1)
    mean = np.broadcast_to(shape, (len(points), *shape.shape)).astype(np.float32)
    return _boxes_around(localizer, np.asarray(geometry.transform(transforms, mean)))


def _boxes_around(localizer: Localizer, shapes: Float[np.ndarray, "n points 2"]) -> Float[np.ndarray, "n 4"]:
    if localizer.metadata.shape_in_box is None:
        raise InputError(
            "this model does not record the position of faces in its boxes: train it again with this version"
        )
    return boxes_of_shapes(shapes, localizer.metadata.shape_in_box)


def _locate(
    localizer: Localizer, faces: FaceSet, boxes: Float[np.ndarray, "n 4"], indices: np.ndarray, *, workers: int
) -> Float[np.ndarray, "m points 2"]:
    chunk = dataclasses.replace(faces.take(indices), boxes=boxes[indices])
    face_crops = crop_faces(chunk, size=localizer.stages[-1].face_crop_size, workers=workers)
    return to_image(face_crops.crop_to_image, localizer.locate(face_crops.images, face_crops.boxes)[-1])

"""Whole photos in, landmarks of all faces out: a detector's boxes, brought to the model's convention, and a localizer.

    faces = FaceLandmarker.load("w300")("photo.jpg")
    faces.points  # float32 [faces, 68, 2]

The detectors themselves are in `wing_jax.inference.detectors`.
"""

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from wing_jax.data.arguments import ImageLike, as_image, as_images
from wing_jax.data.boxes import ShapeInBox, boxes_about, fitted, shape_in_boxes, usable
from wing_jax.errors import InputError
from wing_jax.inference.detectors import Detector, get_detector
from wing_jax.inference.faces import Faces, source_of
from wing_jax.inference.localizer import Localizer
from wing_jax.schemes import MTFL_5, get_conversion
from wing_jax.text import quoted
from wing_jax.values import Value


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class FaceLandmarker(Value):
    """Finds faces and their landmarks: a detector before a localizer; an immutable value.

    Args:
      localizer: a trained one.
      detector: finds the faces.

    Raises:
      InputError: the detector's boxes cannot be brought to the model's, which does not record how its boxes lay, or
        which of its points are eyes, nose and corners of the mouth.

    >>> landmarker = FaceLandmarker.load("mtfl")
    >>> faces = landmarker(np.zeros((64, 80, 3), np.uint8))  # or a path, a PIL image, a JAX array
    >>> faces.points.shape, faces.boxes.shape, faces.scores.shape
    ((0, 5, 2), (0, 4), (0,))
    """

    localizer: Localizer
    detector: Detector

    @classmethod
    def load(
        cls, model: str | Path | Localizer, *, detector: Any = "auto", flip_average: bool = False
    ) -> "FaceLandmarker":
        """Load a model and a detector.

        Args:
          model: a folder or the name of a pretrained model, as for `Localizer.load`; or a Localizer.
          detector: its name ("auto": the first that is installed), or a `Detector`.
          flip_average: average each face's landmarks with those of its mirror image: a little better, twice the work.

        Raises:
          InputError: either is not there, or they do not go together.
        """
        localizer = model if isinstance(model, Localizer) else Localizer.load(model)
        return cls(
            localizer=dataclasses.replace(localizer, flip_average=flip_average or localizer.flip_average),
            detector=detector if isinstance(detector, Detector) else get_detector(detector),
        )

    def __post_init__(self) -> None:
        if not isinstance(self.localizer, Localizer) or not isinstance(self.detector, Detector):
            raise InputError(
                "a FaceLandmarker joins a Localizer and a Detector: FaceLandmarker.load(MODEL), or get_detector(NAME)"
            )
        _ = self._conventions  # so that a photo is not needed to find out

    def __call__(self, image: ImageLike) -> Faces:
        """The faces of one image.

        Args:
          image: RGB uint8 `[height, width, 3]` (NumPy or JAX), a path, a PIL image, or what else serves as one
            (`wing_jax.data.arguments`).

        Raises:
          InputError: it is no image.
        """
        return self.batch([image])[0]

    def batch(self, images: Any) -> list[Faces]:
        """The faces of several images (a list, an iterator), located in batches that run across them.

        Raises:
          InputError: one is no image; the message says which.
        """
        given = list(images) if isinstance(images, Iterator) else images
        images = as_images(given)
        found = [self.boxes(image) for image in images]
        points = self.localizer.predict_batch(images, [boxes for boxes, _ in found])
        return [
            Faces(
                boxes=boxes,
                scores=scores,
                points=own,
                scheme=self.localizer.scheme,
                image=image,
                source=source_of(origin),
            )
            for (boxes, scores), own, image, origin in zip(found, points, images, given, strict=True)
        ]

    def boxes(self, image: ImageLike) -> tuple[Float[np.ndarray, "faces 4"], Float[np.ndarray, "faces"]]:
        """The detector's faces: boxes by the model's convention, in pixels of `image`, and scores.

        Raises:
          InputError: it is no image.
        """
        image = as_image(image)
        boxes, scores = self.detector(image)
        given, wanted = self._conventions
        boxes = fitted(boxes, given=given, wanted=wanted)
        height, width = image.shape[:2]  # the map may push a face that hangs over the edge out altogether
        kept = usable(boxes, width=width, height=height)
        return boxes[kept], scores[kept]

    def boxes_around(self, points: Float[np.ndarray, "faces points 2"]) -> Float[np.ndarray, "faces 4"]:
        """Boxes by the model's convention around known landmarks: those of a video's last frame, say."""
        return boxes_about(points, self._own)

    @functools.cached_property
    def _conventions(self) -> tuple[ShapeInBox, ShapeInBox]:
        """Where something of the face lies in the detector's boxes and in the model's: the whole shape, where the model
        was told (`wing-jax data detect --model`), else the five points."""
        known = self.localizer.metadata.detectors.get(self.detector.name)
        return (self.detector.five_point_box, self._five) if known is None else (known, self._own)

    @property
    def _five(self) -> ShapeInBox:
        """Where eyes, nose and corners of the mouth lie in the model's boxes, by its mean shape."""
        try:
            conversion = get_conversion(self.localizer.scheme, MTFL_5)
        except ValueError as error:
            raise InputError(
                f"a detector's boxes cannot be brought to those of a model of the scheme "
                f"{quoted(self.localizer.scheme.name)} ({error}): measure them by `wing-jax data detect DIR --model "
                "MODEL`, or give the faces' boxes"
            ) from error
        own, mean = self._own, self.localizer.template[None].astype(np.float64)
        # The mean shape as it lies in a box of side 1 about (0, 0): its own box is told by `own`.
        low, high = mean.min(1), mean.max(1)
        placed = (mean - (low + high) / 2) * own.side / (high - low).max() + np.array(own.center)
        unit = np.array([[-0.5, -0.5, 0.5, 0.5]], np.float32)
        points = conversion.points(placed.astype(np.float32))
        return shape_in_boxes(points, np.ones(points.shape[:2], bool), unit)

    @property
    def _own(self) -> ShapeInBox:
        if (shape := self.localizer.metadata.shape_in_box) is None:
            raise InputError("this model does not record how its boxes lay about the faces: give the faces' boxes")
        return shape

"""Find the landmarks of all faces of a photo: a detector, its boxes converted to the model's convention, a localizer.

    faces = FaceLandmarker.load("w300")("photo.jpg")
    faces.points  # float32 [faces, 68, 2]

The detectors are in `wing_jax.inference.detectors`.
"""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from wing_jax.data.arguments import ImageLike, as_image, as_images
from wing_jax.data.boxes import ShapeInBox, boxes_of_shapes, convert_boxes, overlap, shape_in_boxes, valid_boxes
from wing_jax.errors import InputError
from wing_jax.inference.detectors import Detector, get_detector
from wing_jax.inference.faces import Faces, source_of
from wing_jax.inference.localizer import Localizer
from wing_jax.inference.turning import QUARTERS, back_transform, quarters_upright, turn_back, turn_boxes, turn_image
from wing_jax.schemes import MTFL_5, get_conversion
from wing_jax.text import quoted
from wing_jax.types import Image
from wing_jax.values import Value

SAME_PLACE = 0.5  # smallest overlap of a box with that of the landmarks in it, and of two boxes of one face


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class FaceLandmarker(Value):
    """A face detector followed by a landmark localizer; an immutable value.

    Args:
      localizer: a trained localizer.
      detector: finds the faces.
      any_angle: search an image again, turned by 90, 270 and 180 degrees, if no face is found, or no valid one
        (`Faces.valid`), and turned upright if its valid faces are turned. The detector then runs two to five times.

    Raises:
      InputError: the detector's boxes cannot be converted to the model's convention: the model does not record the
        position of the faces in its boxes, or which of its points are eyes, nose and corners of the mouth.

    >>> landmarker = FaceLandmarker.load("mtfl")
    >>> faces = landmarker(np.zeros((64, 80, 3), np.uint8))  # or a path, a PIL image, a JAX array
    >>> faces.points.shape, faces.boxes.shape, faces.scores.shape
    ((0, 5, 2), (0, 4), (0,))
    """

    localizer: Localizer
    detector: Detector
    any_angle: bool = True

    @classmethod
    def load(
        cls,
        model: str | Path | Localizer,
        *,
        detector: Any = "auto",
        flip_average: bool = False,
        any_angle: bool = True,
    ) -> "FaceLandmarker":
        """Load a model and a detector.

        Args:
          model: a folder or the name of a pretrained model, as for `Localizer.load`; or a Localizer.
          detector: its name ("auto": the first one that is installed), or a `Detector`.
          flip_average: average each face's landmarks with those of its mirror image: slightly more accurate, but twice
            as slow.
          any_angle: also find the faces of images that are turned on their side or upside down.

        Raises:
          InputError: the model or the detector is not available, or they cannot be combined.
        """
        localizer = model if isinstance(model, Localizer) else Localizer.load(model)
        return cls(
            localizer=dataclasses.replace(localizer, flip_average=flip_average or localizer.flip_average),
            detector=detector if isinstance(detector, Detector) else get_detector(detector),
            any_angle=any_angle,
        )

    def __post_init__(self) -> None:
        if not isinstance(self.localizer, Localizer) or not isinstance(self.detector, Detector):
            raise InputError(
                "a FaceLandmarker needs a Localizer and a Detector: FaceLandmarker.load(MODEL) or get_detector(NAME)"
            )
        _ = self._conventions  # fail now, not at the first photo

    def __call__(self, image: ImageLike) -> Faces:
        """Find the faces of one image.

        Args:
          image: RGB uint8 `[height, width, 3]` (NumPy or JAX), a path, a PIL image, or another type of
            `wing_jax.data.arguments`.

        Raises:
          InputError: it is not an image.
        """
        return self.batch([image])[0]

    def batch(self, images: Any) -> list[Faces]:
        """Find the faces of several images (a list or an iterator); landmarks are computed in batches across images.

        Raises:
          InputError: one of them is not an image; the message says which.
        """
        inputs = list(images) if isinstance(images, Iterator) else images
        sources = [source_of(origin) for origin in inputs]
        images = as_images(inputs)
        results = self._find(images)
        for quarters in QUARTERS if self.any_angle else ():
            self._search_turned(
                results, images, {i: quarters for i, faces in enumerate(results) if not _trusted(faces)}
            )
        if self.any_angle:
            self._search_turned(results, images, {i: self._quarters(faces) for i, faces in enumerate(results)})
        return [dataclasses.replace(faces, source=source) for faces, source in zip(results, sources, strict=True)]

    def _search_turned(self, results: list[Faces], images: Sequence[np.ndarray], quarters: dict[int, int]) -> None:
        """Search the images of these indices again, turned; keep the results with more faces that can be trusted."""
        again = [(index, turns) for index, turns in quarters.items() if turns]
        for (index, turns), faces in zip(again, self._find([turn_image(images[i], q) for i, q in again]), strict=True):
            if _trusted(faces) > _trusted(results[index]):
                results[index] = turn_back(faces, turns, image=images[index])

    def _quarters(self, faces: Faces) -> int:
        """Return the quarter turns that make the valid faces upright: there, the detector finds more."""
        if faces.valid is None or not faces.valid.any():
            return 0
        return quarters_upright(faces.points[faces.valid], self.localizer.template)

    def _find(self, images: Sequence[np.ndarray]) -> list[Faces]:
        """Find the faces of images, without turning them."""
        detections = [self._detect(image) for image in images]
        predictions = self.localizer.predict_details(images, [boxes for boxes, _ in detections]) if images else []
        results = [
            Faces(
                boxes=boxes,
                scores=scores,
                points=prediction.points,
                scheme=self.localizer.scheme,
                image=image,
                covariance=prediction.covariance,
                spread=prediction.spread,
                confidence=prediction.confidence,
                valid=prediction.valid,
            )
            for (boxes, scores), prediction, image in zip(detections, predictions, images, strict=True)
        ]
        return [self._with_own_boxes(faces) for faces in results]

    def _with_own_boxes(self, faces: Faces) -> Faces:
        """Give valid faces that are not in their boxes (`wing_jax.inference.retry`) their own, and drop duplicates."""
        if faces.valid is None or not faces.valid.any():
            return faces
        located = self.boxes_around(faces.points)
        inside = [overlap(faces.boxes[i : i + 1], box)[0] >= SAME_PLACE for i, box in enumerate(located)]
        moved = faces.valid & ~np.array(inside)
        boxes, kept = np.where(moved[:, None], located, faces.boxes), np.flatnonzero(~moved).tolist()
        for face in np.flatnonzero(moved).tolist():
            others = [other for other in kept if faces.valid[other]]
            if not (overlap(located[others], located[face]) >= SAME_PLACE).any():
                kept.append(face)
        return dataclasses.replace(faces, boxes=boxes).take(sorted(kept))

    def boxes(
        self, image: ImageLike, *, quarters: int = 0
    ) -> tuple[Float[np.ndarray, "faces 4"], Float[np.ndarray, "faces"]]:
        """Detect the faces: return their boxes in the model's convention, in pixels of `image`, and their scores.

        `quarters`: search the image turned counterclockwise by this many times 90 degrees.

        Raises:
          InputError: it is not an image.
        """
        image = as_image(image)
        boxes, scores = self._detect(turn_image(image, quarters))
        return turn_boxes(boxes, back_transform(image, quarters)), scores

    def _detect(self, image: Image) -> tuple[Float[np.ndarray, "faces 4"], Float[np.ndarray, "faces"]]:
        boxes, scores = self.detector(image)
        source, target = self._conventions
        boxes = convert_boxes(boxes, source=source, target=target)
        height, width = image.shape[:2]  # the conversion can move the box of a face at the edge outside the image
        valid = valid_boxes(boxes, width=width, height=height)
        return boxes[valid], scores[valid]

    def boxes_around(self, points: Float[np.ndarray, "faces points 2"]) -> Float[np.ndarray, "faces 4"]:
        """Return boxes in the model's convention around known landmarks, for example those of the previous frame."""
        return boxes_of_shapes(points, self._shape_in_box)

    @functools.cached_property
    def _conventions(self) -> tuple[ShapeInBox, ShapeInBox]:
        """The position of the same points in the detector's boxes and in the model's.

        These are all points if the model was calibrated for the detector (`wing-jax data detect --model`), else the
        five points.
        """
        calibration = self.localizer.metadata.detectors.get(self.detector.name)
        if calibration is None:
            return self.detector.five_point_box, self._five_points_in_box
        return calibration, self._shape_in_box

    @property
    def _five_points_in_box(self) -> ShapeInBox:
        """The position of eyes, nose and corners of the mouth in the model's boxes, computed from its mean shape."""
        try:
            conversion = get_conversion(self.localizer.scheme, MTFL_5)
        except ValueError as error:
            raise InputError(
                f"a detector's boxes cannot be converted to those of a model of the scheme "
                f"{quoted(self.localizer.scheme.name)} ({error}): pass the boxes (predict: --box or --detector none), "
                "or calibrate the model on training faces: `wing-jax data detect DIR --scheme SCHEME --model MODEL`, "
                "with --images FOLDER for an annotation file"
            ) from error
        position, mean = self._shape_in_box, self.localizer.template[None].astype(np.float64)
        # Place the mean shape in a box of side 1 centered on (0, 0).
        low, high = mean.min(1), mean.max(1)
        shape = (mean - (low + high) / 2) * position.side / (high - low).max() + np.array(position.center)
        unit = np.array([[-0.5, -0.5, 0.5, 0.5]], np.float32)
        points = conversion.points(shape.astype(np.float32))
        return shape_in_boxes(points, np.ones(points.shape[:2], bool), unit)

    @property
    def _shape_in_box(self) -> ShapeInBox:
        if (shape := self.localizer.metadata.shape_in_box) is None:
            raise InputError(
                "this model does not record the position of faces in its boxes: pass the boxes to "
                "Localizer.predict, or train the model again"
            )
        return shape


def _trusted(faces: Faces) -> int:
    """Return the number of faces, of the valid ones if the model can tell."""
    return len(faces) if faces.valid is None else int(faces.valid.sum())

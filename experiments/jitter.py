"""How much landmarks tremble in a video, with and without the One-Euro filter, and how far the filter lags behind.

    python experiments/jitter.py MODEL [--photo NAME] [--photos FOLDER]

The video is a window that pans over one photo at 30 frames a second: it rests, moves to the right by half a face size
a second, rests, and comes back, by fractions of pixels. Each frame gets sensor noise of its own (standard deviation 4
gray levels) and goes through JPEG at quality 90, as frames of real videos do. In the photo the face is still: whatever
its landmarks do there is jitter, or lag. The tracker (`wing_jax.inference.tracking`) follows the face as in `wing-jax
predict`.

- jitter: standard deviation over the frames at rest of each landmark's position in the photo, root mean square over the
  landmarks, x and y;
- lag: how far the landmarks stay behind in the direction of movement, in the mean over the frames of movement, against
  the same landmarks at rest, and the time that the movement takes for it. Frames within a third of a second after a
  change between rest and movement count to neither.
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
    """The frames `[n, height, width, 3]`, and how the window moved over the photo."""

    frames: list[np.ndarray]
    offsets: np.ndarray  # [n, 2], pixels of the photo: where the frame's first pixel lies
    directions: np.ndarray  # [n]: 0 at rest, else 1 or -1
    settled: np.ndarray  # [n] bool


def main() -> None:
    """Make the video, follow the face by each filter, and publish the table."""
    parser = arguments(__doc__)
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("--photos", default=str(Path(os.environ.get("WING_JAX_DATA", "../shared/data")) / "photos"))
    parser.add_argument("--photo", default="", help="its file's name; empty: the first")
    given = parser.parse_args()
    faces = load_faces("pts", "test", root=given.photos, scheme="ibug68")
    names = [Path(faces.picture_name(face)).name for face in range(len(faces))]
    index = names.index(given.photo) if given.photo else 0
    points = faces.points[index]
    size = float(np.ptp(points, axis=0).max())
    eyes = float(np.linalg.norm(points[faces.scheme.left_outer] - points[faces.scheme.right_outer]))
    clip = panned(faces.picture(index), points, size=size)
    landmarker = FaceLandmarker.load(given.model)
    rows = [
        (name, *measured(clip, follow(clip, landmarker, smooth), eyes=eyes, size=size))
        for name, smooth in FILTERS.items()
    ]
    body = [
        f"{given.model}, {len(clip.frames)} frames of {names[index]}; the face is {size:.0f} pixels large, its eyes' "
        f"outer corners {eyes:.0f} apart, and moves by {SPEED * size:.0f} pixels a second.",
        "",
        *table(("filter", "jitter at rest, pixels", "of the eyes' distance", "lag, pixels", "lag, ms"), rows),
    ]
    publish(
        "jitter",
        "Jitter in videos",
        body,
        versions={name: version(name) for name in ("jax", "opencv-python")},
        given=given,
    )


def panned(photo: np.ndarray, points: np.ndarray, *, size: float) -> Clip:
    """A window of 2 x 2 face sizes that moves over `photo`, which is continued at its edges."""
    directions = np.concatenate([np.full(round(seconds * RATE), way) for seconds, way in PHASES])
    moved = np.cumsum(np.concatenate([[0.0], directions[:-1] * SPEED * size / RATE]))
    span, side = float(np.ptp(moved)), round(2 * size)
    start = (points.min(0) + points.max(0)) / 2 - side / 2 - np.array([span / 2, 0.0])
    offsets = start + np.stack([moved, np.zeros_like(moved)], axis=1)
    noise = np.random.default_rng(0)
    frames = []
    for x, y in offsets:
        shift = np.array([[1.0, 0.0, -x], [0.0, 1.0, -y]])
        frame = cv2.warpAffine(photo, shift, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
        seen = np.clip(np.rint(frame + noise.normal(0, NOISE, frame.shape)), 0, 255).astype(np.uint8)
        _, jpeg = cv2.imencode(".jpg", seen[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        frames.append(cv2.imdecode(jpeg, cv2.IMREAD_COLOR)[..., ::-1].copy())
    changes = np.flatnonzero(np.diff(directions, prepend=directions[0]))
    settled = np.ones(len(directions), bool)
    for change in (0, *changes):
        settled[change : change + SETTLED] = False
    return Clip(frames=frames, offsets=offsets, directions=directions, settled=settled)


def follow(clip: Clip, landmarker: FaceLandmarker, smooth: OneEuro | None) -> np.ndarray:
    """The landmarks of the first face in every frame, in pixels of the photo, `[n, points, 2]`."""
    tracker, tracks, seen = Tracker(landmarker=landmarker, smooth=smooth), Tracks(), []
    for number, (frame, offset) in enumerate(zip(clip.frames, clip.offsets, strict=True)):
        tracks = tracker(tracks, frame, seconds=number / RATE)
        if not tracks.faces:
            raise SystemExit(f"no face found in frame {number}: choose another --photo")
        seen.append(tracks.faces[0].points + offset)
    return np.stack(seen)


def measured(clip: Clip, seen: np.ndarray, *, eyes: float, size: float) -> tuple[str, ...]:
    """Jitter and lag, as the module's text says."""
    at_rest = clip.settled & (clip.directions == 0)
    phases = np.cumsum(np.diff(clip.directions, prepend=clip.directions[0]) != 0)
    spread = [seen[at_rest & (phases == phase)].var(0) for phase in np.unique(phases[at_rest])]
    jitter = float(np.sqrt(np.mean(spread)))
    home = seen[at_rest].mean(0)
    moving = clip.settled & (clip.directions != 0)
    # The window moves to the right: the face moves to the left in the frame, and what lags stays at the right.
    behind = float(((seen[moving] - home)[..., 0] * clip.directions[moving][:, None]).mean())
    lag = 1000 * behind / (SPEED * size)
    return f"{jitter:.2f}", f"{100 * jitter / eyes:.2f} %", f"{behind:.2f}", f"{lag:.0f}"


if __name__ == "__main__":
    main()

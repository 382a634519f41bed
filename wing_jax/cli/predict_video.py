"""The command `wing-jax predict MODEL VIDEO` and `--camera`: track faces from frame to frame."""

import itertools
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from wing_jax.cli.predict_options import PredictOptions, landmarker_of
from wing_jax.errors import InputError
from wing_jax.inference.face_files import FaceTable, draw_overlay
from wing_jax.inference.localizer import Localizer
from wing_jax.inference.tracking import OneEuro, Tracker, Tracks
from wing_jax.inference.video import Video, VideoWriter, Window
from wing_jax.runtime.console import say
from wing_jax.text import counted, printable


def check_options(options: PredictOptions) -> None:
    """Raise InputError if an option cannot be used with videos and cameras."""
    if options.box or options.detector == "none":
        raise InputError("--box and --detector none are only for pictures: remove them for videos and cameras")
    if options.detect_every < 1:
        raise InputError(f"detect_every={options.detect_every} must be 1 or more")


def follow(source: Path | int, localizer: Localizer, options: PredictOptions, console: Console, *, stem: Path) -> None:
    """Track the faces of a video, or of a camera until it is stopped; write STEM.mp4 and STEM.csv.

    Raises:
      InputError: the video cannot be read, or an option is invalid.
    """
    check_options(options)
    show_window = isinstance(source, int) and options.window
    window = Window(f"wing-jax: {printable(stem.name)} (press q to stop)") if show_window else None
    with Video(source) as video:
        follow_frames(video, localizer, options, console, stem=stem, window=window)


def follow_frames(
    video: Video,
    localizer: Localizer,
    options: PredictOptions,
    console: Console,
    *,
    stem: Path,
    window: Window | None = None,
) -> None:
    """Track the faces of an open video or camera, and write STEM.mp4 and STEM.csv.

    It ends with the video, or when its `window` is closed.

    Raises:
      InputError: the video cannot be read, or an option is invalid.
    """
    smooth = OneEuro(min_cutoff=options.min_cutoff, beta=options.beta) if options.smooth else None
    tracker = Tracker(landmarker=landmarker_of(localizer, options), every=options.detect_every, smooth=smooth)
    tracks = Tracks()
    overlay, csv = (stem.with_name(f"{stem.name}{ending}") for ending in (".mp4", ".csv"))
    started, empty, stopped = time.perf_counter(), 0, False
    frames = iter(video)
    first = next(frames)  # raises without a frame, before the table of an earlier run is replaced
    with (
        VideoWriter(overlay, rate=video.rate) as writer,
        FaceTable(csv, localizer.scheme, of=("frame", "timestamp")) as table,
        _bar(console) as bar,
    ):
        task = bar.add_task(printable(stem.name), total=options.max_frames or video.length)
        for number, frame in enumerate(itertools.chain([first], frames)):
            tracks = tracker(tracks, frame.image, seconds=frame.seconds)
            faces = [track.record() for track in tracks.faces]
            picture = draw_overlay(frame.image, faces, localizer.scheme)
            writer.write(picture, seconds=frame.seconds)
            table.write((number, f"{frame.seconds:.3f}"), faces)
            bar.update(task, completed=tracks.frame if options.max_frames else frame.seconds)
            empty += not faces
            stopped = bool(window and not window.show(picture)) or tracks.frame == options.max_frames
            if stopped:
                break
        note = f" ({writer.note})" if writer.note else ""
    seconds = time.perf_counter() - started
    missing = f", no face in {empty} of them" if empty else ""
    say(
        console,
        f"{video.name}: {tracks.frame} frames{_describe_losses(video, stopped)}, {counted(tracks.last_number, 'face')}"
        f"{missing}, {tracks.frame / seconds:.0f} frames per second -> {overlay}{note}, {csv}",
    )


def _describe_losses(video: Video, stopped: bool) -> str:
    """Describe the parts of the video that could not be read."""
    end = f", {video.end:.1f} of {video.length:.1f} s: the rest cannot be read" if not stopped and video.is_cut else ""
    faults = f", {len(video.faults)} corrupted piece(s) skipped" if video.faults else ""
    return end + faults


def _bar(console: Console) -> Progress:
    """Return a progress bar that does not read file names as markup."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)

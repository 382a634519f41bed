"""`wing-jax predict MODEL VIDEO` and `--camera`: faces followed from frame to frame."""

import time
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from wing_jax.cli.predict_options import PredictOptions, finder_of
from wing_jax.data.video import Video, VideoWriter, Window
from wing_jax.errors import InputError
from wing_jax.localizer import Localizer
from wing_jax.report.predictions import FaceTable, FoundFace, overlaid
from wing_jax.tracking import OneEuro, Tracker, Tracks


def check_options(options: PredictOptions) -> None:
    """Raise InputError where an option does not fit videos and cameras."""
    if options.box or options.detector == "none":
        raise InputError("--box and --detector none are of pictures: in a video the faces are found")
    if options.every < 1:
        raise InputError(f"every={options.every}: the detector must look at one frame in 1 or more")


def follow(source: Path | int, localizer: Localizer, options: PredictOptions, console: Console, *, stem: Path) -> None:
    """Follow the faces of a video, or of what a camera sees until it is stopped; write STEM.mp4 and STEM.csv.

    Raises:
      InputError: the video cannot be read, or an option does not fit.
    """
    check_options(options)
    smooth = OneEuro(still=options.still, beta=options.beta) if options.smooth else None
    tracker, tracks = Tracker(finder=finder_of(localizer, options), every=options.every, smooth=smooth), Tracks()
    name = stem.name
    live, started, empty = isinstance(source, int), time.perf_counter(), 0
    window = Window(f"wing-jax: {name} (q ends)") if live and options.window else None
    with (
        Video(source) as video,
        VideoWriter(stem.with_name(f"{name}.mp4"), rate=video.rate) as writer,
        FaceTable(stem.with_name(f"{name}.csv"), localizer.scheme, of=("frame", "timestamp")) as table,
        Progress(console=console, transient=True, disable=not console.is_terminal) as bar,
    ):
        task = bar.add_task(name, total=options.frames or video.frames)
        for number, frame in enumerate(video):
            seconds = time.perf_counter() - started if live else frame.seconds
            tracks = tracker(tracks, frame.image, seconds=seconds)
            faces = [FoundFace(number=t.number, box=t.box, points=t.points, score=t.score) for t in tracks.faces]
            picture = overlaid(frame.image, faces, localizer.scheme)
            writer.write(picture)
            table.write((number, f"{seconds:.3f}"), faces)
            bar.advance(task)
            empty += not faces
            if (window and not window.show(picture)) or tracks.frame == options.frames:
                break
    took = time.perf_counter() - started
    missing = f", no face in {empty} of them" if empty else ""
    cut_short = not options.frames and tracks.frame < (video.frames or 0)
    told = f"{tracks.frame} frames" + (f" of the {video.frames} it tells of" if cut_short else "")
    console.print(
        f"{video.name}: {told}, {tracks.numbers} face(s){missing}, {tracks.frame / took:.0f} frames a "
        f"second -> {stem}.mp4, {stem}.csv"
    )

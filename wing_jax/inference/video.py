"""Read frames with their times from videos and cameras, and show them in a window."""

import contextlib
import dataclasses
import os
import sys
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np

from wing_jax.data.images import LARGEST_PICTURE
from wing_jax.data.video_frames import BROKEN, VIDEO_ENDINGS, Clock, Converter, decode_frames, length, open_video
from wing_jax.errors import InputError
from wing_jax.inference.video_writer import DEFAULT_RATE, VideoWriter
from wing_jax.text import quoted
from wing_jax.types import Image
from wing_jax.values import Value

__all__ = ["DEFAULT_RATE", "VIDEO_ENDINGS", "Frame", "Video", "VideoWriter", "Window"]

VideoSource: TypeAlias = Any  # a path, or the number of a camera; checked at run time


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Frame(Value):
    """One frame of a video, RGB uint8, shown `seconds` after its start."""

    image: Image
    seconds: float


class Video:
    """An iterator over the frames of a video file, or of a camera by its number; use it in a `with` block.

    Frames have the times stored in the file, so that variable rates (phones, browsers, time-lapse videos) are handled;
    frames of a camera have the time of their capture. `rate` (frames per second), `frames` and `length` (seconds) are
    read from the header of the file, which may be wrong; None: not in the header.

    Raises:
      InputError: `source` is neither a path nor a number, it cannot be opened, or its frames are larger than
        `largest` pixels.
    """

    def __init__(self, source: VideoSource, *, largest: int = LARGEST_PICTURE):
        source = int(source) if isinstance(source, np.integer) else source
        if isinstance(source, bool) or not isinstance(source, str | Path | int):
            raise InputError(f"source={quoted(source)}: pass the path of a video, or the number of a camera")
        self.name = f"camera {source}" if isinstance(source, int) else str(source)
        self.frames: int | None = None
        self.length: float | None = None
        self.read = 0  # number of frames read
        self._largest = largest
        self.end = 0.0  # seconds: the end of the last frame read
        self.faults: list[str] = []  # messages about packets that could not be decoded
        self._length_is_exact = False
        self._clock: Clock | None = None
        self._resources = contextlib.ExitStack()
        self._close = weakref.finalize(self, self._resources.close)
        try:
            self._frames = self._camera(source) if isinstance(source, int) else self._file(Path(source))
        except InputError:
            self._close()
            raise

    def _camera(self, number: int) -> Iterator[Frame]:
        capture = cv2.VideoCapture(number)
        self._resources.callback(capture.release)
        if not capture.isOpened():
            raise InputError(f"{self.name}: cannot read this video: check that the camera is connected and not in use")
        width, height = (int(capture.get(p)) for p in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        if width * height > self._largest:
            raise InputError(f"{self.name}: frames of more than {self._largest:,} pixels: choose a smaller size")
        self.rate = _valid_rate(capture.get(cv2.CAP_PROP_FPS))
        return self._capture_frames(capture)

    def _capture_frames(self, capture: Any) -> Iterator[Frame]:
        started = None
        while True:
            try:
                success, bgr = capture.read()
            except cv2.error:
                return
            if not success or bgr is None:
                return
            now = time.perf_counter()
            started = now if started is None else started
            yield Frame(image=np.ascontiguousarray(bgr[:, :, ::-1]), seconds=now - started)

    def _file(self, path: Path) -> Iterator[Frame]:
        try:
            exists = path.is_file()
        except (OSError, ValueError):  # not a valid file name
            exists = False
        if not exists:
            raise InputError(f"{path}: no such video: check the path")
        container, stream = self._resources.enter_context(
            open_video(path, largest=self._largest, hint="check the path, or convert it", threads=True)
        )
        self.rate = _valid_rate(float(stream.average_rate or stream.guessed_rate or 0))
        self.frames = stream.frames or None
        self.length, self._length_is_exact = length(container, stream)
        self._clock = clock = Clock(stream, rate=self.rate)
        return self._decoded_frames(container, stream, clock)

    def _decoded_frames(self, container, stream, clock: Clock) -> Iterator[Frame]:
        import av

        convert = Converter()
        for frame in decode_frames(container, stream, self.faults):
            try:
                image = convert(frame)
            except (av.FFmpegError, *BROKEN) as error:
                self.faults.append(str(error))
                continue
            seconds = clock(frame)
            self.end = clock.after(frame)
            yield Frame(image=image, seconds=seconds)

    def __enter__(self) -> "Video":
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def __iter__(self) -> Iterator[Frame]:
        """Iterate over the remaining frames.

        Raises:
          InputError: no frame of the video can be read.
        """
        for frame in self._frames:
            self.read += 1
            yield frame
        if not self.read:
            raise InputError(f"{self.name}: no frame of this video can be read: copy or convert it again")

    @property
    def is_cut(self) -> bool:
        """Whether all frames were read and the video ended before the duration in its header."""
        if self.length is None or self._clock is None or not self._length_is_exact:
            return False
        return self.length - self.end > max(0.5 * self._clock.gap, min(0.02 * self.length, 1.0))


def _valid_rate(rate: float) -> float:
    return float(rate) if 0.001 <= rate <= 1000 else DEFAULT_RATE  # time-lapse videos have very low rates


class Window:
    """A window that shows frames; `show` returns False after the key q or escape was pressed.

    Raises:
      InputError: there is no screen.
    """

    def __init__(self, title: str):
        # Without a screen OpenCV's windows end the process instead of raising.
        if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise InputError("no screen for the camera window: pass --no_window")
        self._title = title

    def show(self, image: Image) -> bool:
        """Show a frame, RGB uint8."""
        cv2.imshow(self._title, np.ascontiguousarray(image[:, :, ::-1]))
        return cv2.waitKey(1) & 0xFF not in (ord("q"), 27)

"""Videos and cameras by OpenCV: frames in, frames out."""

import dataclasses
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from wing_jax.data.images import LARGEST_PICTURE
from wing_jax.errors import InputError
from wing_jax.types import Image
from wing_jax.values import Value

VIDEO_ENDINGS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg")
USUAL_RATE = 25.0  # frames a second, where a source tells none


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Frame(Value):
    """One frame of a video, RGB uint8, shown `seconds` after its start."""

    image: Image
    seconds: float


class Video:
    """The frames of a video file, or of a camera by its number, one after the other; close it by `with`.

    Raises:
      InputError: it cannot be opened, or its frames are larger than `LARGEST_PICTURE`.
    """

    def __init__(self, source: str | Path | int):
        self.name = f"camera {source}" if isinstance(source, int) else str(source)
        mend = "see that it is plugged in and free" if isinstance(source, int) else "check the path, or convert it"
        if not isinstance(source, int) and not Path(source).is_file():
            raise InputError(f"{self.name}: no such video: check the path")
        self._capture = cv2.VideoCapture(source if isinstance(source, int) else str(source))
        if not self._capture.isOpened():
            raise InputError(f"{self.name}: cannot read this video: {mend}")
        width, height = (int(self._capture.get(p)) for p in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        if width * height > LARGEST_PICTURE:
            self._capture.release()
            raise InputError(f"{self.name}: frames of more than {LARGEST_PICTURE:,} pixels: shrink the video")
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = float(rate) if 1 <= rate <= 1000 else USUAL_RATE  # frames a second
        frames = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.frames = int(frames) if not isinstance(source, int) and 0 < frames < 1e9 else None  # as the file says

    def __enter__(self) -> "Video":
        return self

    def __exit__(self, *_: object) -> None:
        self._capture.release()

    def __iter__(self) -> Iterator[Frame]:
        """The frames that are left.

        Raises:
          InputError: there is none at all.
        """
        number = 0
        while True:
            try:
                done, bgr = self._capture.read()
            except cv2.error:  # damage inside the video
                done, bgr = False, None
            if not done or bgr is None:
                break
            yield Frame(image=np.ascontiguousarray(bgr[:, :, ::-1]), seconds=number / self.rate)
            number += 1
        if not number:
            raise InputError(f"{self.name}: not one frame of this video can be read: copy or convert it again")


class VideoWriter:
    """Writes RGB uint8 frames of one size to an .mp4 file; close it by `with`.

    Raises:
      InputError: the file cannot be written.
    """

    def __init__(self, path: str | Path, *, rate: float | int):
        self._path, self._rate = Path(path), rate
        self._writer: cv2.VideoWriter | None = None
        self._frames = 0
        self._log_level = cv2.utils.logging.getLogLevel()

    def __enter__(self) -> "VideoWriter":
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # a warning for each frame of a full disk
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        cv2.utils.logging.setLogLevel(self._log_level)
        if self._writer is None:
            return
        self._writer.release()
        if kind is None and (found := self._frames_on_disk()) != self._frames:  # OpenCV says nothing of a full disk
            raise InputError(
                f"{self._path}: {found} of {self._frames} frames could be written: make room, or choose another folder"
            )

    def _frames_on_disk(self) -> int:
        written = cv2.VideoCapture(str(self._path))
        try:
            return int(written.get(cv2.CAP_PROP_FRAME_COUNT)) if written.isOpened() else 0
        finally:
            written.release()

    def write(self, image: Image) -> None:
        """Append a frame; the first says how large they are."""
        if self._writer is None:
            refusal = InputError(f"{self._path}: cannot write this video: choose another folder")
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise refusal from error
            code = cv2.VideoWriter.fourcc(*"mp4v")
            self._writer = cv2.VideoWriter(str(self._path), code, self._rate, image.shape[1::-1])
            if not self._writer.isOpened():
                raise refusal
        self._writer.write(np.ascontiguousarray(image[:, :, ::-1]))
        self._frames += 1


class Window:
    """A window on the screen that shows frames; `show` answers False once its key q, or escape, was pressed.

    Raises:
      InputError: there is no screen.
    """

    def __init__(self, title: str):
        # Without a screen OpenCV's windows end the process instead of raising.
        if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise InputError("no screen to show the camera's picture on: give --no_window")
        self._title = title

    def show(self, image: Image) -> bool:
        """Show a frame, RGB uint8."""
        cv2.imshow(self._title, np.ascontiguousarray(image[:, :, ::-1]))
        return cv2.waitKey(1) & 0xFF not in (ord("q"), 27)

"""Videos out: .mp4 files that keep each frame's time and play in a browser, where the build of PyAV allows."""

import contextlib
import os
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from wing_jax.data.video_frames import Unnamed
from wing_jax.errors import InputError
from wing_jax.runtime.extras import require
from wing_jax.types import Image

if TYPE_CHECKING:
    import av
    import av.container

USUAL_RATE = 25.0  # frames a second, where a source tells none
TICKS = 60_000  # a second: times are whole numbers of them; MPEG-4 has at most 65,535
LONGEST_HOURS = 9  # that a frame is shown: MP4 counts them in ticks, of which FFmpeg takes fewer than 2**31
# Encoders by preference: H.264, by x264 first, and VP9 play in browsers. PyAV's own packages have x264; it is under the
# GPL, so that other builds (of Linux distributions, conda) may lack it. No B-frames: pictures lie in the file as they
# are shown, so that the last one's duration can be written.
ENCODERS: dict[str, dict[str, str]] = {
    "libx264": {"preset": "superfast", "crf": "20", "bf": "0"},
    "libopenh264": {"b": "8M"},
    "h264_videotoolbox": {"b": "8M", "bf": "0"},
    "h264_mf": {"b": "8M", "bf": "0"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "crf": "30", "b": "0", "row-mt": "1", "lag-in-frames": "0"},
    "mpeg4": {"b": "8M", "bf": "0"},
}
NOT_IN_BROWSERS = ("mpeg4",)
# The colors as FFmpeg counts them: limited range; the matrix of BT.601 (COLORSPACE: as its scaler calls it), which is
# taken by readers that do not look; primaries and transfer of BT.709.
RANGE, MATRIX, COLORSPACE, PRIMARIES = 1, 6, 5, 1


class VideoWriter:
    """Writes RGB uint8 frames to an .mp4 file, each with its time; close it by `with`.

    Frames are as large as the first, others are scaled; none is shown for more than `LONGEST_HOURS` hours. The file
    gets its name when it is whole: where the block ends, also by an exception (Ctrl-C), with the frames so far.

    Raises:
      InputError: the file cannot be written.
    """

    def __init__(
        self, path: str | Path, *, rate: float | int = USUAL_RATE, encoders: Mapping[str, dict[str, str]] | None = None
    ):
        self._path, self._rate = Path(path), float(rate)  # rate: frames a second, of frames without a time
        self._encoders = ENCODERS if encoders is None else encoders  # by preference, with FFmpeg's options of each
        self._unfinished = self._path.with_name(f".{self._path.name[:60]}.part")
        self._output: _Output | None = None
        self._first, self._frames = 0.0, 0

    @property
    def note(self) -> str:
        """What a user should know of the file; empty if nothing."""
        if self._output is None:
            return ""
        notes = []
        if self._output.encoder in NOT_IN_BROWSERS:
            notes.append("browsers do not play it: this build of PyAV encodes neither H.264 nor VP9")
        if self._output.shortened:
            notes.append(f"pauses of more than {LONGEST_HOURS} hours are shortened to that")
        return "; ".join(notes)

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(self, *_: object) -> None:
        if self._output is None:
            return
        with self._refusing():
            self._output.close()
            os.replace(self._unfinished, self._path)
        self._output = None

    def write(self, image: Image, *, seconds: float | int | None = None) -> None:
        """Append a frame, shown `seconds` after the start of the video (None: a step of the rate after the last).

        Raises:
          InputError: the file cannot be written.
        """
        with self._refusing():
            if self._output is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._output = _open(self._unfinished, image.shape[:2], self._rate, self._encoders)
                self._first = seconds or 0.0
            tick = None if seconds is None else round((seconds - self._first) * TICKS)
            self._output.write(image, tick)

    @contextlib.contextmanager
    def _refusing(self):
        """Within, what goes wrong is an InputError, and the unfinished file is removed."""
        av = require("av", extra="video", purpose="writing a video")
        try:
            yield
        except (av.FFmpegError, OSError) as error:
            if self._output is not None:
                self._output.abandon()
                self._output = None
            with contextlib.suppress(OSError):
                self._unfinished.unlink(missing_ok=True)
            reason = getattr(error, "strerror", None) or str(error)
            raise InputError(
                f"{self._path}: cannot write this video ({reason}): make room, or choose another folder"
            ) from error


class _Output:
    """A file that is being written by one encoder."""

    def __init__(self, path: Path, size: tuple[int, int], rate: float, encoder: str, options: dict[str, str]):
        import av
        from av.video.reformatter import VideoReformatter

        self.encoder, self._rate = encoder, rate
        self._height, self._width = (side + side % 2 for side in size)  # of half the colors in both directions
        self._gap = max(1, round(TICKS / rate))
        self._tick = -self._gap
        self.shortened = 0  # ticks by which pauses are shorter than they were
        self._ahead: av.Packet | None = None
        self._reformatter = VideoReformatter()
        self._file = open(path, "wb")  # noqa: SIM115 (closed by `close` or `abandon`)
        try:
            self._container = av.open(
                Unnamed(self._file), "w", format="mp4", container_options={"movflags": "+faststart"},
                io_open=self._again,
            )  # fmt: skip
            stream: Any = self._container.add_stream(encoder, rate=Fraction(rate).limit_denominator(TICKS))
            stream.width, stream.height, stream.pix_fmt = self._width, self._height, "yuv420p"
            context = stream.codec_context
            context.time_base, context.options = Fraction(1, TICKS), options
            context.color_range, context.colorspace = RANGE, MATRIX
            context.color_primaries = context.color_trc = PRIMARIES
            self._stream = stream
            self._container.start_encoding()
        except BaseException:
            self._file.close()
            raise

    def _again(self, url: str, flags: int, options: dict[str, Any]) -> BinaryIO:
        """The file to be read: "faststart" puts its table before the pictures, so that it plays while it loads."""
        self._file.flush()
        return open(self._file.name, "rb")

    def write(self, image: Image, tick: int | None) -> None:
        """Encode a frame at a tick, or a step after the last one; not before that in any case, nor more than
        `LONGEST_HOURS` after it."""
        import av

        gap = max(1, self._gap if tick is None else tick - self.shortened - self._tick)
        if self._tick >= 0:
            longest = LONGEST_HOURS * 3600 * TICKS
            self.shortened += max(0, gap - longest)
            self._gap = gap = min(gap, longest)
        self._tick += gap
        height, width = image.shape[:2]
        if height % 2 or width % 2:
            image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = self._reformatter.reformat(
            av.VideoFrame.from_ndarray(image, format="rgb24"),
            width=self._width, height=self._height, format="yuv420p", dst_colorspace=COLORSPACE, dst_color_range=RANGE,
        )  # fmt: skip
        frame.pts, frame.time_base = self._tick, Fraction(1, TICKS)
        self._mux(self._stream.encode(frame))

    def _mux(self, packets: list["av.Packet"]) -> None:
        for packet in packets:  # the last is held back, whose duration is not known yet
            if self._ahead is not None:
                self._container.mux(self._ahead)
            self._ahead = packet

    def close(self) -> None:
        """Write what is left. The last frame is shown as long as the one before."""
        self._mux(self._stream.encode(None))
        if self._ahead is not None:
            self._ahead.duration = round(self._gap / TICKS / self._ahead.time_base)
            self._container.mux(self._ahead)
        self._container.close()
        self._file.flush()
        self._file.close()

    def abandon(self) -> None:
        """Close the file as it is."""
        with contextlib.suppress(Exception):
            self._container.close()
        with contextlib.suppress(OSError):
            self._file.close()


def _open(path: Path, size: tuple[int, int], rate: float, encoders: Mapping[str, dict[str, str]]) -> _Output:
    """The file, to be written by the first encoder that is there and can be opened."""
    import av

    problem: Exception = OSError("this build of PyAV has no encoder")
    for encoder, options in encoders.items():
        if encoder not in av.codecs_available:
            continue
        path.unlink(missing_ok=True)
        try:
            return _Output(path, size, rate, encoder, options)
        except av.FFmpegError as error:
            problem = error
    raise problem

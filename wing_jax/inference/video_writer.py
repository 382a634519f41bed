"""Write .mp4 files with the time of each frame. They play in browsers if the build of PyAV has the encoders."""

import contextlib
import os
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from wing_jax.data.video_frames import NamelessFile
from wing_jax.errors import InputError
from wing_jax.runtime.extras import require
from wing_jax.types import Image

if TYPE_CHECKING:
    import av
    import av.container

DEFAULT_RATE = 25.0  # frames per second, for sources without a rate
TICKS = 60_000  # per second, the unit of times; MPEG-4 allows at most 65,535
MAX_HOURS = 9  # per frame: MP4 stores durations in ticks, and FFmpeg accepts fewer than 2**31
# Encoders by preference: H.264 (x264 first) and VP9 play in browsers. The packages of PyAV have x264; other builds (of
# Linux distributions, conda) may lack it because of the GPL. No B-frames: frames are stored in the order of display, so
# that the duration of the last one can be written.
ENCODERS: dict[str, dict[str, str]] = {
    "libx264": {"preset": "superfast", "crf": "20", "bf": "0"},
    "libopenh264": {"b": "8M"},
    "h264_videotoolbox": {"b": "8M", "bf": "0"},
    "h264_mf": {"b": "8M", "bf": "0"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "crf": "30", "b": "0", "row-mt": "1", "lag-in-frames": "0"},
    "mpeg4": {"b": "8M", "bf": "0"},
}
NOT_IN_BROWSERS = ("mpeg4",)
# FFmpeg's color constants: limited range; the matrix of BT.601 (COLORSPACE: the constant of its scaler), which readers
# that ignore the metadata assume; primaries and transfer of BT.709.
RANGE, MATRIX, COLORSPACE, PRIMARIES = 1, 6, 5, 1


class VideoWriter:
    """Writes RGB uint8 frames to an .mp4 file, each with its time; use it in a `with` block.

    Frames are scaled to the size of the first one; none is shown for more than `MAX_HOURS` hours. The file has a
    temporary name until it is complete: at the end of the block, also after an exception (Ctrl-C), with the frames so
    far.

    Raises:
      InputError: the file cannot be written.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        rate: float | int = DEFAULT_RATE,
        encoders: Mapping[str, dict[str, str]] | None = None,
    ):
        self._path, self._rate = Path(path), float(rate)  # frames per second, for frames without a time
        self._encoders = ENCODERS if encoders is None else encoders  # by preference, with FFmpeg's options for each
        self._unfinished = self._path.with_name(f".{self._path.name[:60]}.part")
        self._output: _Output | None = None
        self._first, self._frames = 0.0, 0

    @property
    def note(self) -> str:
        """A remark on the file for the user; empty: no remark."""
        if self._output is None:
            return ""
        notes = []
        if self._output.encoder in NOT_IN_BROWSERS:
            notes.append("browsers do not play it: this build of PyAV encodes neither H.264 nor VP9")
        if self._output.shortened:
            notes.append(f"pauses of more than {MAX_HOURS} hours are shortened to {MAX_HOURS} hours")
        return "; ".join(notes)

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(self, *_: object) -> None:
        if self._output is None:
            return
        with self._handle_errors():
            self._output.close()
            os.replace(self._unfinished, self._path)
        self._output = None

    def write(self, image: Image, *, seconds: float | int | None = None) -> None:
        """Append a frame, shown `seconds` after the start of the video (None: one step after the last frame).

        Raises:
          InputError: the file cannot be written.
        """
        with self._handle_errors():
            if self._output is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._output = _open_output(self._unfinished, image.shape[:2], self._rate, self._encoders)
                self._first = seconds or 0.0
            tick = None if seconds is None else round((seconds - self._first) * TICKS)
            self._output.write(image, tick)

    @contextlib.contextmanager
    def _handle_errors(self):
        """Convert errors of the block to InputError, and remove the unfinished file."""
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
                f"{self._path}: cannot write this video ({reason}): free disk space, or choose another folder"
            ) from error


class _Output:
    """An unfinished file and its encoder."""

    def __init__(self, path: Path, size: tuple[int, int], rate: float, encoder: str, options: dict[str, str]):
        import av
        from av.video.reformatter import VideoReformatter

        self.encoder, self._rate = encoder, rate
        self._height, self._width = (side + side % 2 for side in size)  # even: colors have half the resolution
        self._gap = max(1, round(TICKS / rate))
        self._tick = -self._gap
        self.shortened = 0  # ticks by which pauses were shortened
        self._pending: av.Packet | None = None
        self._reformatter = VideoReformatter()
        self._file = open(path, "wb")  # noqa: SIM115 (closed by `close` or `abandon`)
        try:
            self._container = av.open(
                NamelessFile(self._file), "w", format="mp4", container_options={"movflags": "+faststart"},
                io_open=self._open_for_reading,
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

    def _open_for_reading(self, url: str, flags: int, options: dict[str, Any]) -> BinaryIO:
        """Open the file for "faststart", which moves the index before the frames so that it plays while it loads."""
        self._file.flush()
        return open(self._file.name, "rb")

    def write(self, image: Image, tick: int | None) -> None:
        """Encode a frame at `tick`; None: one step after the last frame.

        The time is moved if needed: it is always after the last frame, by at most `MAX_HOURS`.
        """
        import av

        gap = max(1, self._gap if tick is None else tick - self.shortened - self._tick)
        if self._tick >= 0:
            longest = MAX_HOURS * 3600 * TICKS
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
        for packet in packets:  # the last one stays pending: its duration is not known yet
            if self._pending is not None:
                self._container.mux(self._pending)
            self._pending = packet

    def close(self) -> None:
        """Write the remaining packets. The last frame is shown as long as the previous one."""
        self._mux(self._stream.encode(None))
        if self._pending is not None:
            self._pending.duration = round(self._gap / TICKS / self._pending.time_base)
            self._container.mux(self._pending)
        self._container.close()
        self._file.flush()
        self._file.close()

    def abandon(self) -> None:
        """Close the unfinished file."""
        with contextlib.suppress(Exception):
            self._container.close()
        with contextlib.suppress(OSError):
            self._file.close()


def _open_output(path: Path, size: tuple[int, int], rate: float, encoders: Mapping[str, dict[str, str]]) -> _Output:
    """Open the file with the first encoder that is available and works."""
    import av

    last_error: Exception = OSError("this build of PyAV has no encoder")
    for encoder, options in encoders.items():
        if encoder not in av.codecs_available:
            continue
        path.unlink(missing_ok=True)
        try:
            return _Output(path, size, rate, encoder, options)
        except av.FFmpegError as error:
            last_error = error
    raise last_error

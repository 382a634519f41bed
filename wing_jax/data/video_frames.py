"""Open video files of any name and content safely with PyAV, and decode them frame by frame.

FFmpeg gets the open file and never its name, so a name is never read as an address (`a:b.mp4`) or as a pattern of
pictures (`clip_%03d.mp4`). Only the formats in `CONTAINERS` are decoded, and these open no other file, so a playlist
with the ending of a video cannot open its entries.
"""

import collections
import contextlib
import functools
import itertools
import os
import re
from collections.abc import Generator, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from wing_jax.errors import InputError
from wing_jax.runtime.extras import require
from wing_jax.runtime.files import open_bytes
from wing_jax.types import Image

if TYPE_CHECKING:  # PyAV takes 50 ms to import, so it is imported when a video is opened
    import av
    import av.container
    import av.video.reformatter

CONTAINERS = "mov,mp4,matroska,webm,avi,mpeg,mpegts,mpegvideo,flv,asf,ogg"  # FFmpeg's names
VIDEO_ENDINGS = (
    ".mp4", ".m4v", ".mov", ".3gp", ".3g2", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".vob", ".ts", ".mts", ".m2ts",
    ".flv", ".asf", ".wmv", ".ogv",
)  # fmt: skip
RESTART = 1.0  # seconds: times that go back by more show a new recording, by less a wrong time
BROKEN = (ValueError, OSError, EOFError, RuntimeError, MemoryError, NotImplementedError, LookupError)


def reject_other_files(url: str, flags: int, options: dict[str, Any]) -> NoReturn:
    """Reject FFmpeg's request to open another file for a video."""
    raise PermissionError("a video must be one file: other files that it names are not opened")


class NamelessFile:
    """An open file without its name, which PyAV would pass to FFmpeg."""

    def __init__(self, file: Any):
        self.seek, self.tell = file.seek, file.tell
        self.read, self.write = getattr(file, "read", None), getattr(file, "write", None)


@contextlib.contextmanager
def open_video(
    path: str | Path, *, largest: int, hint: str, threads: bool
) -> Generator[tuple["av.container.InputContainer", "av.VideoStream"]]:
    """Open the file `path` and return its container and video stream; with `threads` frames are decoded ahead.

    Raises:
      InputError: it has no video (the message ends with `hint`), or its frames have more than `largest` pixels.
    """
    av = require("av", extra="video", purpose="reading a video")
    limit = {"max_pixels": str(largest)}
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(open_bytes(path))
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "no such file"
            raise InputError(f"{path}: cannot read this video ({reason}): {hint}") from error
        try:
            container = av.open(
                NamelessFile(file),
                "r",
                options={"format_whitelist": CONTAINERS, "protocol_whitelist": "", **limit},
                metadata_errors="replace",
                io_open=reject_other_files,
            )
        except (av.FFmpegError, *BROKEN) as error:
            raise InputError(f"{path}: cannot read this video: {hint}") from error
        stack.callback(container.close)
        streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
        if not streams:
            raise InputError(f"{path}: no video in this file, only audio or a cover picture: pass a video")
        stream = streams[0]
        context = stream.codec_context
        if context is None:
            raise InputError(f"{path}: cannot read this video, its codec is unknown: convert it to H.264 or VP9")
        if context.width * context.height > largest:
            raise InputError(f"{path}: frames of more than {largest:,} pixels: shrink the video")
        context.options = limit  # the size may change within the stream
        stream.thread_type = "AUTO" if threads else "NONE"
        yield container, stream


def decode_frames(
    container: "av.container.InputContainer", stream: "av.VideoStream", faults: list[str], *, mark_only: bool = False
) -> Iterator["av.VideoFrame"]:
    """Yield the remaining frames in display order.

    Corrupt parts are skipped, with a line in `faults` for each. With `mark_only` the `pts` of a stream without times
    only distinguishes frames, and is no time.
    """
    import av

    packets, untimed = _read_packets(container, stream), _is_untimed(container, stream)
    pending: collections.deque[int | None] = collections.deque()  # times of frames that are being decoded
    while True:
        try:
            packet = next(packets, None)
        except (av.FFmpegError, *BROKEN) as error:
            faults.append(str(error))
            packet = None
        if packet is not None:
            pending.append(packet.dts)
        try:
            for frame in stream.codec_context.decode(packet):
                if untimed and not mark_only:
                    frame.pts = pending.popleft() if pending else None
                yield frame
        except (av.FFmpegError, *BROKEN) as error:
            faults.append(str(error))
            if pending:
                pending.pop()
        if packet is None:
            return
        if not untimed:
            pending.clear()


def _read_packets(container: "av.container.InputContainer", stream: "av.VideoStream") -> Iterator["av.Packet"]:
    """Yield the packets with content: an empty one, which repeats a frame in .avi files, would stop the decoder."""
    untimed = _is_untimed(container, stream)
    for packet in container.demux(stream):
        if packet.size:
            if untimed:
                packet.pts = packet.dts
            yield packet


def _is_untimed(container: "av.container.InputContainer", stream: "av.VideoStream") -> bool:
    """Return whether frames have no times, only the order of their packets.

    This is so in .avi, for codecs whose display order FFmpeg does not know without decoding.
    """
    return container.format.name == "avi" and stream.codec_context.name in ("h264", "hevc")


class Clock:
    """Computes the time of each frame, in seconds from the start of the video. Times always increase."""

    def __init__(self, stream: "av.VideoStream", *, rate: float):
        # In .avi the video starts at the first frame: the time before it is the delay of the decoder.
        self._start = None if stream.container.format.name == "avi" else stream.start_time
        self._base, self._step = stream.time_base or Fraction(0), 1 / rate
        self._shift, self._last = 0.0, -1 / rate
        # MPEG streams are cut and joined anywhere, and some of their frames have no times.
        self._restart = 0.0 if stream.container.format.name in ("mpeg", "mpegts") else RESTART
        self.gap = 0.0  # seconds: the longest time between two frames

    def __call__(self, frame: "av.VideoFrame") -> float:
        """Return the time of the next frame."""
        if frame.pts is None:
            seconds = self._last + self._step
        else:
            if self._start is None or (self._last < 0 and self._start > frame.pts):
                self._start = frame.pts
            seconds = float((frame.pts - self._start) * self._base) + self._shift
            if seconds < self._last - self._restart:
                self._shift += self._last + self._step - seconds
                seconds = self._last + self._step
            seconds = max(seconds, self._last + min(0.0005, self._step / 10), 0.0)
        if self._last >= 0:
            self.gap = max(self.gap, seconds - self._last)
        self._last = seconds
        return seconds

    def after(self, frame: "av.VideoFrame") -> float:
        """Return the time at which `frame`, the last one, ends."""
        duration = float((frame.duration or 0) * self._base)
        return self._last + (duration or self._step)


def length(container: "av.container.InputContainer", stream: "av.VideoStream") -> tuple[float | None, bool]:
    """Return (the video's duration in seconds by its file, whether this is the duration of the frames alone).

    If it is, a truncated file can be detected by it.
    """
    exact = container.format.name.split(",")[0] in ("mov", "avi", "matroska")
    if container.format.name == "avi" and stream.frames and stream.average_rate:
        return float(stream.frames / stream.average_rate), exact  # FFmpeg's duration is that of the existing data
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base), exact
    start = float((stream.start_time or 0) * (stream.time_base or 0))
    if match := re.fullmatch(r"(\d+):(\d+):(\d+(\.\d+)?)", stream.metadata.get("DURATION", "")):
        return 3600 * int(match[1]) + 60 * int(match[2]) + float(match[3]) - start, exact
    seconds = (container.duration or 0) / 1e6 - start
    return (seconds, exact and len(container.streams) == 1) if seconds > 0 else (None, False)


class Converter:
    """Converts decoded frames to contiguous RGB uint8, rotated as the file says."""

    def __init__(self) -> None:
        from av.video.reformatter import VideoReformatter

        self._reformatter = VideoReformatter()

    def __call__(self, frame: "av.VideoFrame") -> Image:
        """Return the picture of a decoded frame.

        Raises:
          av.FFmpegError, ValueError: its pixel format cannot be converted.
        """
        image = self._reformatter.reformat(frame, format="rgb24").to_ndarray()
        matrix: Any = frame.side_data.get("DISPLAYMATRIX")
        return np.ascontiguousarray(image if matrix is None else upright(image, np.frombuffer(matrix, np.int32)))


def upright(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Rotate `image` by right angles and mirror it by the display `matrix` of its file.

    The matrix has nine numbers: x becomes m[0] x + m[3] y, and y becomes m[1] x + m[4] y.
    """
    (xx, xy), (yx, yy) = (int(n) for n in matrix[:2]), (int(n) for n in matrix[3:5])
    if abs(xy) > abs(xx):  # rotated by 90 degrees
        image, xx, yy = image.swapaxes(0, 1), yx, xy
    return image[:: -1 if yy < 0 else 1, :: -1 if xx < 0 else 1]


def read_numbered(path: str | Path, number: int, *, largest: int, hint: str) -> Image | None:
    """Read frame `number` of a video file, counted from 1 in display order, as RGB uint8.

    None if the video has no such frame, or it is corrupt. The file is opened each time, so that threads and processes
    can share it; the positions of its frames are determined only once.

    Raises:
      InputError: see `open_video`.
    """
    av = require("av", extra="video", purpose="reading a video")
    with open_video(path, largest=largest, hint=hint, threads=False) as (container, stream):
        status = os.stat(path)
        index = _build_index(os.fspath(path), status.st_mtime_ns, status.st_size, largest, hint)
        if index is None:
            frame = next(itertools.islice(decode_frames(container, stream, []), max(number - 1, 0), None), None)
            return Converter()(frame) if frame is not None and number > 0 else None
        if not 1 <= number <= len(index):
            return None
        pts, place = index[number - 1]
        with contextlib.suppress(av.FFmpegError, *BROKEN):
            for start in (place, index[0][1]):  # the second start is for a container that seeks to a later position
                container.seek(start, stream=stream)
                for count, frame in enumerate(decode_frames(container, stream, [], mark_only=True)):
                    if frame.pts == pts:
                        return Converter()(frame)
                    if count > number:
                        break
    return None


@functools.lru_cache(maxsize=256)
def _build_index(path: str, changed: int, size: int, largest: int, hint: str) -> list[tuple[int, int]] | None:
    """Return for each frame, in display order, its `pts` and where decoding may start for it.

    Both are in the stream's time base. None if two frames have the same `pts`, as in some .mpg files. `changed` and
    `size` distinguish a file from another that replaced it.
    """
    import av

    places: dict[int, int] = {}  # where to start decoding for each `pts`
    keys: list[tuple[int, int]] = []  # `pts` and place of the key frames, in the order of the file
    with (
        open_video(path, largest=largest, hint=hint, threads=False) as (container, stream),
        contextlib.suppress(av.FFmpegError, *BROKEN),
    ):
        for packet in _read_packets(container, stream):
            time = packet.dts if packet.pts is None else packet.pts
            if time is None or packet.is_discard:
                continue
            if time in places:
                return None
            if packet.is_keyframe or not keys:
                keys.append((time, time if packet.dts is None else packet.dts))
            # A frame that follows a key frame in the file, but is shown before it, needs the key frame before.
            places[time] = next((place for key, place in reversed(keys[-9:]) if key <= time), keys[0][1])
        if _is_untimed(container, stream) and stream.codec_context.has_b_frames:
            container.seek(keys[0][1], stream=stream)
            frames = decode_frames(container, stream, [], mark_only=True)
            return [(frame.pts, places[frame.pts]) for frame in frames if frame.pts in places]
    return sorted(places.items())

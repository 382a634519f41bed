"""Video files by PyAV: opened safely whatever they hold and are called, and decoded picture by picture.

FFmpeg gets the open file and never its name, so no name is read as an address (`a:b.mp4`) or as a pattern of pictures
(`clip_%03d.mp4`). Only containers of `CONTAINERS` are decoded, and these open no other file: a list of files that calls
itself a video leads nowhere.
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

if TYPE_CHECKING:  # PyAV takes 50 ms to import: it is, where a video is opened
    import av
    import av.container
    import av.video.reformatter

CONTAINERS = "mov,mp4,matroska,webm,avi,mpeg,mpegts,mpegvideo,flv,asf,ogg"  # as FFmpeg calls them
VIDEO_ENDINGS = (
    ".mp4", ".m4v", ".mov", ".3gp", ".3g2", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".vob", ".ts", ".mts", ".m2ts",
    ".flv", ".asf", ".wmv", ".ogv",
)  # fmt: skip
BACK = 1.0  # seconds by which times go back where a video starts anew; less is a wrong time
BROKEN = (ValueError, OSError, EOFError, RuntimeError, MemoryError, NotImplementedError, LookupError)


def refuse_other_files(url: str, flags: int, options: dict[str, Any]) -> NoReturn:
    """What FFmpeg is answered when a video wants another file opened."""
    raise PermissionError("a video is one file: others that it names are not opened")


class Unnamed:
    """An open file without its name, which PyAV would hand to FFmpeg."""

    def __init__(self, file: Any):
        self.seek, self.tell = file.seek, file.tell
        self.read, self.write = getattr(file, "read", None), getattr(file, "write", None)


@contextlib.contextmanager
def open_video(
    path: str | Path, *, largest: int, hint: str, threads: bool
) -> Generator[tuple["av.container.InputContainer", "av.VideoStream"]]:
    """The container in the file `path` and its stream of pictures; `threads`: pictures are decoded ahead.

    Raises:
      InputError: there is no video in it (the message ends with `hint`), or its pictures have more than `largest`
        pixels.
    """
    av = require("av", extra="video", purpose="reading a video")
    limit = {"max_pixels": str(largest)}
    with contextlib.ExitStack() as held:
        try:
            file = held.enter_context(open_bytes(path))
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "no such file"
            raise InputError(f"{path}: cannot read this video ({reason}): {hint}") from error
        try:
            container = av.open(
                Unnamed(file),
                "r",
                options={"format_whitelist": CONTAINERS, "protocol_whitelist": "", **limit},
                metadata_errors="replace",
                io_open=refuse_other_files,
            )
        except (av.FFmpegError, *BROKEN) as error:
            raise InputError(f"{path}: cannot read this video: {hint}") from error
        held.callback(container.close)
        streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
        if not streams:
            raise InputError(f"{path}: no video in this file, only sound or a cover picture: give a video")
        stream = streams[0]
        context = stream.codec_context
        if context is None:
            raise InputError(f"{path}: cannot read this video, its codec is not known: convert it to H.264 or VP9")
        if context.width * context.height > largest:
            raise InputError(f"{path}: frames of more than {largest:,} pixels: shrink the video")
        context.options = limit  # the size may change in mid-stream
        stream.thread_type = "AUTO" if threads else "NONE"
        yield container, stream


def decoded(
    container: "av.container.InputContainer", stream: "av.VideoStream", faults: list[str], *, mark_only: bool = False
) -> Iterator["av.VideoFrame"]:
    """The pictures that are left, in the order in which they are shown. Damaged pieces are left out; each gets a line
    in `faults`. `mark_only`: of a stream without times, `pts` tells pictures from one another, and no time."""
    import av

    packets, untimed = _packets(container, stream), _is_untimed(container, stream)
    waiting: collections.deque[int | None] = collections.deque()  # times of pictures that are being decoded
    while True:
        try:
            packet = next(packets, None)
        except (av.FFmpegError, *BROKEN) as error:
            faults.append(str(error))
            packet = None
        if packet is not None:
            waiting.append(packet.dts)
        try:
            for frame in stream.codec_context.decode(packet):
                if untimed and not mark_only:
                    frame.pts = waiting.popleft() if waiting else None
                yield frame
        except (av.FFmpegError, *BROKEN) as error:
            faults.append(str(error))
            if waiting:
                waiting.pop()
        if packet is None:
            return
        if not untimed:
            waiting.clear()


def _packets(container: "av.container.InputContainer", stream: "av.VideoStream") -> Iterator["av.Packet"]:
    """Those with content: an empty one, which repeats a picture in .avi files, would end the decoding."""
    untimed = _is_untimed(container, stream)
    for packet in container.demux(stream):
        if packet.size:
            if untimed:
                packet.pts = packet.dts
            yield packet


def _is_untimed(container: "av.container.InputContainer", stream: "av.VideoStream") -> bool:
    """Whether the pictures have no times but the order of their packets: in .avi, for codecs whose order FFmpeg does
    not know without decoding."""
    return container.format.name == "avi" and stream.codec_context.name in ("h264", "hevc")


class Clock:
    """When each picture is shown, in seconds after the start of the video. Times always grow."""

    def __init__(self, stream: "av.VideoStream", *, rate: float):
        # In .avi the first picture is the start: what is before it is the delay of the decoder.
        self._start = None if stream.container.format.name == "avi" else stream.start_time
        self._base, self._step = stream.time_base or Fraction(0), 1 / rate
        self._moved, self._last = 0.0, -1 / rate
        # MPEG streams are cut and joined anywhere, and not all of their pictures have times.
        self._back = 0.0 if stream.container.format.name in ("mpeg", "mpegts") else BACK
        self.gap = 0.0  # seconds: the longest from a picture to the next

    def __call__(self, frame: "av.VideoFrame") -> float:
        """The time of the next picture."""
        if frame.pts is None:
            seconds = self._last + self._step
        else:
            if self._start is None or (self._last < 0 and self._start > frame.pts):
                self._start = frame.pts
            seconds = float((frame.pts - self._start) * self._base) + self._moved
            if seconds < self._last - self._back:
                self._moved += self._last + self._step - seconds
                seconds = self._last + self._step
            seconds = max(seconds, self._last + min(0.0005, self._step / 10), 0.0)
        if self._last >= 0:
            self.gap = max(self.gap, seconds - self._last)
        self._last = seconds
        return seconds

    def after(self, frame: "av.VideoFrame") -> float:
        """Until when the picture is shown that had the last time."""
        shown = float((frame.duration or 0) * self._base)
        return self._last + (shown or self._step)


def length(container: "av.container.InputContainer", stream: "av.VideoStream") -> tuple[float | None, bool]:
    """(seconds that the video should last as its file says, whether this is the word for the pictures alone: a cut
    file can be told by it)."""
    word = container.format.name.split(",")[0] in ("mov", "avi", "matroska")
    if container.format.name == "avi" and stream.frames and stream.average_rate:
        return float(stream.frames / stream.average_rate), word  # FFmpeg's duration is of what is there
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base), word
    start = float((stream.start_time or 0) * (stream.time_base or 0))
    if written := re.fullmatch(r"(\d+):(\d+):(\d+(\.\d+)?)", stream.metadata.get("DURATION", "")):
        return 3600 * int(written[1]) + 60 * int(written[2]) + float(written[3]) - start, word
    lasts = (container.duration or 0) / 1e6 - start
    return (lasts, word and len(container.streams) == 1) if lasts > 0 else (None, False)


class Converter:
    """Makes RGB uint8 of decoded pictures: a call's answer stands upright, as the file says, and is contiguous."""

    def __init__(self) -> None:
        from av.video.reformatter import VideoReformatter

        self._reformatter = VideoReformatter()

    def __call__(self, frame: "av.VideoFrame") -> Image:
        """The picture of a decoded frame.

        Raises:
          av.FFmpegError, ValueError: its format of pixels cannot be converted.
        """
        image = self._reformatter.reformat(frame, format="rgb24").to_ndarray()
        matrix: Any = frame.side_data.get("DISPLAYMATRIX")
        return np.ascontiguousarray(image if matrix is None else upright(image, np.frombuffer(matrix, np.int32)))


def upright(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """`image` as the display `matrix` of its file says (nine numbers: x becomes m[0] x + m[3] y, y m[1] x + m[4] y):
    turned by right angles and mirrored."""
    (xx, xy), (yx, yy) = (int(n) for n in matrix[:2]), (int(n) for n in matrix[3:5])
    if abs(xy) > abs(xx):  # lying on its side
        image, xx, yy = image.swapaxes(0, 1), yx, xy
    return image[:: -1 if yy < 0 else 1, :: -1 if xx < 0 else 1]


def read_numbered(path: str | Path, number: int, *, largest: int, hint: str) -> Image | None:
    """Picture `number` of a video file, counted from 1 in the order in which they are shown, RGB uint8; None where it
    has no such picture, or it is damaged.

    The file is opened each time, so that threads and processes can share it; where its pictures lie is found out once.

    Raises:
      InputError: as for `open_video`.
    """
    av = require("av", extra="video", purpose="reading a video")
    with open_video(path, largest=largest, hint=hint, threads=False) as (container, stream):
        status = os.stat(path)
        index = _index(os.fspath(path), status.st_mtime_ns, status.st_size, largest, hint)
        if index is None:
            frame = next(itertools.islice(decoded(container, stream, []), max(number - 1, 0), None), None)
            return Converter()(frame) if frame is not None and number > 0 else None
        if not 1 <= number <= len(index):
            return None
        wanted, place = index[number - 1]
        with contextlib.suppress(av.FFmpegError, *BROKEN):
            for start in (place, index[0][1]):  # the second where the container leads to a later place
                container.seek(start, stream=stream)
                for passed, frame in enumerate(decoded(container, stream, [], mark_only=True)):
                    if frame.pts == wanted:
                        return Converter()(frame)
                    if passed > number:
                        break
    return None


@functools.lru_cache(maxsize=256)
def _index(path: str, changed: int, size: int, largest: int, hint: str) -> list[tuple[int, int]] | None:
    """For each picture, in the order in which they are shown: its `pts`, and where decoding may start for it, both in
    the stream's time base; None where two pictures have one `pts`, as in some .mpg files. `changed` and `size` tell a
    file from another that took its place."""
    import av

    places: dict[int, int] = {}  # where to start for the picture of a `pts`
    keys: list[tuple[int, int]] = []  # `pts` and place of the key pictures, in the order of the file
    with (
        open_video(path, largest=largest, hint=hint, threads=False) as (container, stream),
        contextlib.suppress(av.FFmpegError, *BROKEN),
    ):
        for packet in _packets(container, stream):
            time = packet.dts if packet.pts is None else packet.pts
            if time is None or packet.is_discard:
                continue
            if time in places:
                return None
            if packet.is_keyframe or not keys:
                keys.append((time, time if packet.dts is None else packet.dts))
            # A picture that comes after a key picture in the file, and is shown before it, needs the one before.
            places[time] = next((place for key, place in reversed(keys[-9:]) if key <= time), keys[0][1])
        if _is_untimed(container, stream) and stream.codec_context.has_b_frames:
            container.seek(keys[0][1], stream=stream)
            frames = decoded(container, stream, [], mark_only=True)
            return [(frame.pts, places[frame.pts]) for frame in frames if frame.pts in places]
    return sorted(places.items())

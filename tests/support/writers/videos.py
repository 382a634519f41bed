"""Small videos written with PyAV, of any codec and container, with given times."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def numbered(count: int, *, height: int = 48, width: int = 64, step: int = 12) -> np.ndarray:
    """Make smooth RGB pictures of different brightness, reddest at the left, which survive lossy codecs."""
    pictures = np.zeros((count, height, width, 3))
    pictures[..., 0] = 120 - np.linspace(0, 60, width)
    pictures += step * np.arange(count)[:, None, None, None]
    return pictures.astype(np.uint8)


def write_video(
    path: Path,
    images: np.ndarray,
    *,
    codec: str = "libx264",
    container: str | None = None,
    pixels: str = "yuv420p",
    milliseconds: list[int] | None = None,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    rate: int = 25,
    sound: float = 0,
) -> Path:
    """Write `images` at the times `milliseconds` (None: at the rate), with `sound` seconds of silent audio."""
    with (
        open(path, "wb") as file,
        av.open(file, "w", format=container or path.suffix[1:], container_options=container_options or {}) as output,
    ):
        stream = output.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = images.shape[2], images.shape[1], pixels
        stream.codec_context.options = options or {}
        if milliseconds is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if sound:
            spoken = output.add_stream("aac" if path.suffix in (".mp4", ".mkv") else "libopus", rate=48000)
            for start in range(0, int(48000 * sound), 960):
                silence = av.AudioFrame.from_ndarray(np.zeros((1, 960), np.float32), format="fltp", layout="mono")
                silence.sample_rate, silence.pts = 48000, start
                output.mux(spoken.encode(silence))
            output.mux(spoken.encode(None))
        for number, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = number if milliseconds is None else milliseconds[number]
            frame.time_base = Fraction(1, rate if milliseconds is None else 1000)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path

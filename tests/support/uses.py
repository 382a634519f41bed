"""Uses of the library in unusual situations; see `situations.py`."""

import contextlib
import csv
import fractions
import functools
import io
import os
import random
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import jax.numpy as jnp
import numpy as np
import PIL.Image

from tests.support.hostile import TARGETS, Files, write_files
from wing_jax.cli.main import main
from wing_jax.errors import InputError
from wing_jax.inference.localizer import Localizer
from wing_jax.inference.video import Video

Judge = Callable[[], None]

# Names of a file or folder. Those of macOS and of other languages are ordinary; some libraries read the others as a
# pattern, an address, a separator, an option or markup.
NAMES = (
    "Bild\u202f1", "a\u00a0b", "a\u3000b", "a\u200db", "a\u00adb", "\u00e9t\u00e9", "e\u0301te\u0301", "\u65e5\u672c",
    "\U0001f600", "[id]", "[b]", "a[b", "a]b", "a*b", "a?b", ":dog:", "a:b", "http:", "file:", "100%", "%d", "%03d",
    "a#b", "-a", "--help", "a.b", "a..", "~a", "$HOME", "a b ", " a", "a'b", 'a"b', "a;b", "a,b", "a&b", "<a>", "a|b",
    "{0}", "a=b", "a@1", "a+b", "(a)", "nul", "0", "x" * 240, "\u00e9" * 120,
)  # fmt: skip
ON_DISK_ONLY = ("a\\b", "a\nb", "a\tb", "a\x1b[31mb", os.fsdecode(b"\xff\xfe"), os.fsdecode(b"caf\xe9"))
TRAILERS = (
    b"\0" * 4096, b"\n", b"\xff" * 512, b"\xff\xd8\xff\xda" * 9, b"\0\0\0\x18ftypmp42" + bytes(range(256)) * 64,
    b"PK\x03\x04" + bytes(60), b"<!-- -->\r\n", b"\xff\xd8\xff\xe0\0\x10JFIF",
)  # fmt: skip


def times(folder: Path, draw: random.Random) -> Judge:
    """Make a video of any constant or variable rate: each frame must have its own time."""
    import av  # slow to import

    kind, scale = draw.choice((("mp4", 1000), ("mp4", 15_360), ("mp4", 60_000), ("mkv", 1000)))
    if draw.random() < 0.5:
        gaps = [draw.choice((0.001, 0.002, 0.017, 0.033, 0.034, 0.1, 1.0, 9.0)) for _ in range(7)]  # seconds
    else:
        gaps = [1 / draw.choice((0.5, 1, 7, 24, 29.97, 30, 60, 240, 1000))] * 7
    times = np.cumsum([0, *(max(1, round(gap * scale)) for gap in gaps)])
    path = folder / f"{draw.choice(NAMES)[:60]}.{kind}"
    with av.open(
        f"file:{path}",
        "w",
        options={"video_track_timescale": str(scale)},
        format={"mp4": "mp4", "mkv": "matroska"}[kind],
    ) as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        stream.time_base = stream.codec_context.time_base = fractions.Fraction(1, scale)
        for number, time in enumerate(times.tolist()):
            frame = av.VideoFrame.from_ndarray(np.full((32, 48, 3), 20 * number, np.uint8), format="rgb24")
            frame.pts, frame.time_base = time, fractions.Fraction(1, scale)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())

    def judge() -> None:
        try:
            with Video(path) as video:
                seconds = [frame.seconds for frame in video]
        except InputError as error:
            raise AssertionError(f"a valid video is rejected: {error}") from error
        np.testing.assert_allclose(seconds, times / scale, atol=1.5 / scale + 1e-9)

    return judge


@functools.cache
def model() -> Files:
    """Return the files of a small model of five points."""
    with tempfile.TemporaryDirectory() as folder:
        return TARGETS["model"].sound(Path(folder))


class Unreadable:
    """An object whose array and representation raise errors."""

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("no values here")

    def __repr__(self):
        raise RuntimeError("no representation either")


def _draw_object(draw: random.Random) -> object:
    """Return something that Python code may pass as an image or as boxes."""
    image = np.random.default_rng(draw.randrange(99)).integers(0, 256, (30, 40, 3), np.uint8)
    box = [2.0, 3.0, 25.0, 28.0]
    return draw.choice((
        None, image, image.tolist(), jnp.asarray(image), PIL.Image.fromarray(image), image / 255,
        image.astype(np.float32), image[..., 0], image[..., None], np.dstack([image, image]), image[:0], image[None],
        image.astype(np.int16) - 99, image.astype(object), image > 99, image.astype("U"), np.ma.array(image),
        memoryview(image), bytes(image), "none.jpg", Path("none.png"), "", b"", 7, 1e30, float("nan"), 10**5000, True,
        {}, {"boxes": [box]}, set(), object(), Unreadable(), iter([box]), [], [[]], [None], box, [box], [box, box[:3]],
        [box, None], np.array([box]), np.array([box], object), jnp.array([box]), np.array(box),
        [[str(v) for v in box]], [[1e30, 1e30, 2e30, 2e30]], [[-1e30, -1e30, 1e30, 1e30]], [[0, 0, 1e-30, 1e-30]],
        [[np.nan] * 4], [[np.inf, 0, 9, 9]], [[9, 9, 2, 2]], [[1 + 2j] * 4], np.zeros((0, 4)), np.zeros((4, 0)),
        np.zeros((2, 2, 4)), np.zeros(3, [("x", "f4")]), np.datetime64("2026-01-01"), [box] * 70, "[2, 3, 25, 28]",
        image.__array_interface__, lambda: box, np.array([[2, 3, 25, 10**18]]),
        np.array([[2, 3, 25, 28]], np.float16), [[10**400, 0, 1, 1]],
    ))  # fmt: skip


def arguments(folder: Path, draw: random.Random) -> Judge:
    """Pass anything as image and boxes: the result is finite points or an InputError."""
    write_files(folder, model(), {})
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    pairs = (
        (_draw_object(draw), [[2.0, 3.0, 25.0, 28.0]]),
        (image, _draw_object(draw)),
        (_draw_object(draw), _draw_object(draw)),
    )
    localizer = _load_localizer()
    (first, boxes), as_batch = draw.choice(pairs), draw.random() < 0.2

    def judge() -> None:
        if as_batch:
            results = localizer.predict_batch([first, image], [boxes, [[2.0, 3.0, 25.0, 28.0]]])
        else:
            results = [localizer.predict(first, boxes)]
        for points in results:
            assert points.shape[1:] == (5, 2)
            assert np.isfinite(points).all()

    return judge


@functools.cache
def _load_localizer() -> Localizer:
    with tempfile.TemporaryDirectory() as folder:
        write_files(Path(folder), model(), {})
        return Localizer.load(Path(folder) / "model")


def predictions(folder: Path, draw: random.Random) -> Judge:
    """Predict a folder of valid and invalid pictures.

    Each valid one has a result, each invalid one a line of errors, and only the folder of results is written to.
    """
    write_files(folder, model(), {})
    source, out = folder / draw.choice((*NAMES, *ON_DISK_ONLY)), folder / "results"
    source.mkdir()
    good = draw.sample((*NAMES, *ON_DISK_ONLY), draw.randint(1, 4))
    for number, stem in enumerate(good):
        content = _encode_picture(number, draw.choice((".png", ".jpg", ".bmp")))
        (source / f"{stem}{draw.choice(('.png', '.jpg', '.JPG', '.Png'))}").write_bytes(
            content + draw.choice((b"", *TRAILERS))
        )
    bad = draw.sample(("empty", "cut", "text", "dangling", "out", "loop", "folder", "pipe", "huge"), draw.randint(0, 4))
    for kind in bad:
        _write_invalid(source / f"bad-{kind}.jpg", kind)
    for kind in draw.sample(("._a.jpg", ".ipynb_checkpoints/a.jpg", ".hidden.png", "notes.txt", "list.csv"), 2):
        (source / kind).parent.mkdir(exist_ok=True)
        (source / kind).write_bytes(b"\0\5\x16\7")
    before = _list_tree(folder)

    def judge() -> None:
        options = ("--output", out, "--detector", "none")
        status, output, errors = _run_command("predict", folder / "model", source, *options)
        assert "Traceback" not in errors
        assert status == (1 if bad else 0), f"status {status}: {errors.strip()[-300:] or output[-300:]}"
        for kind in bad:
            assert errors.count(f"bad-{kind}.jpg") == 1, f"bad-{kind}.jpg: {errors[-300:]}"
        with open(out / "predictions.csv", encoding="utf-8", errors="surrogateescape", newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == len(good), f"{len(rows)} rows of {len(good)}"
        overlays = [path for path in out.iterdir() if path.suffix == ".png"]
        assert len(overlays) == len(good), f"{len(overlays)} overlays of {len(good)}"
        after = {path: state for path, state in _list_tree(folder).items() if not Path(path).is_relative_to(out)}
        assert after == before

    return judge


def _run_command(*words: object) -> tuple[int, str, str]:
    output, errors, status = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        try:
            main([str(word) for word in words])
        except SystemExit as stopped:
            status = stopped.code if isinstance(stopped.code, int) else 1
    return status, output.getvalue(), errors.getvalue()


def _encode_picture(number: int, ending: str) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (24, 31, 3), np.uint8)
    return cv2.imencode(ending, pixels)[1].tobytes()


def _write_invalid(path: Path, kind: str) -> None:
    valid = _encode_picture(9, ".jpg")
    match kind:
        case "dangling":
            path.symlink_to("nowhere.jpg")
        case "out":
            path.symlink_to("/etc/hostname")
        case "loop":
            path.symlink_to(path.name)
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "huge":
            header = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (60_000).to_bytes(4, "big") * 2 + b"\x08\0\0\0\0" + bytes(4)
            path.write_bytes(header + b"\0\0\0\0IEND\xaeB`\x82")
        case _:
            path.write_bytes({"empty": b"", "cut": valid[:-40], "text": b"<html>404</html>"}[kind])


def _list_tree(folder: Path) -> dict[str, tuple[int, int]]:
    states = {}
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = os.path.join(parent, name)
            state = os.lstat(path)
            states[path] = (state.st_mode, 0 if name in folders else state.st_size)
    return states

"""Write valid files of every supported kind, corrupt them, and record which files are opened while reading them.

Used by `test_hostile.py` for a few cases and by `reliability/fuzz.py` for a hundred thousand.
"""

import dataclasses
import functools
import itertools
import json
import os
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image

from tests.support.formats import ENDINGS, WRITERS, load
from tests.support.paths import CONFIGS, ROOT
from tests.support.schemes import TABLE
from tests.support.writers.videos import write_video
from wing_jax.config_files import load_config
from wing_jax.data.images import read_image
from wing_jax.data.tfds.sets import read_tfds
from wing_jax.errors import InputError
from wing_jax.inference.localizer import Localizer, Stage
from wing_jax.inference.video import Video
from wing_jax.models import make_model
from wing_jax.schemes import IBUG_68, MTFL_5, Scheme

TOKENS = (
    b"nan", b"inf", b"-1", b"0", b"1e999", b"99999999999999999999", b"-0.0", b"\0", b"\xff\xfe", b"\r\n", b",,,", b"{}",
    b"[]", b"../../../../etc/passwd", b"/etc/passwd", b"C:\\\\x.png", b"{" * 3000, b"[" * 3000,
    b"<!DOCTYPE x [<!ENTITY a 'aaaa'>]>",
    b"\xf0\x9f\x98\x80", b"true", b"null", b"'", b'"', b"<a>", b"&lt;", b"1" * 400, b" " * 400,
)  # fmt: skip
Files = dict[str, bytes]
# Files that Python and its libraries open: modules, fonts, time zones, facts about the machine.
SYSTEM_FILES = tuple(
    Path(os.path.realpath(path))
    for path in (
        *(sys.prefix, sys.base_prefix, ROOT, "/sys", "/usr/lib", "/usr/share"),
        *("/proc/meminfo", "/proc/self/statm"),  # the available memory
    )
)
TEMPORARY = Path(os.path.realpath(tempfile.gettempdir()))
LINKS = ("/etc/passwd", "/dev/zero", "/proc/self/mem", "../../../../../../etc/passwd", "itself")
TOML = """
name = "small"
[data]
name = "synthetic"
train_faces = 20
[stage1]
input_size = 32
margin = 1.2
batch_size = 8
steps = 20
evaluate_every = 10
model = {params = {channels = [8, 16], hidden = 32, norm = "batch"}}
loss = {name = "wing", params = {width = 10.0, epsilon = 2.0}, reduction = "mean"}
augment = {rotation = 5.0, translation = 0.02, scale = 0.02}
optimizer = {name = "adamw", learning_rate = 1e-3, final_learning_rate = 1e-4, decay = "cosine", weight_decay = 0.01}
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
    """A kind of files, with functions that write valid ones into a folder and read them as a user would."""

    write: Callable[[Path], object]
    read: Callable[[Path], object]
    share: int = 1  # how often it is drawn, relative to the others
    named: tuple[str, ...] = ()  # ends of the `Watch` entries of files that the user names: their links are followed

    def sound(self, folder: Path) -> Files:
        """Write the valid files and return them by their paths below the folder."""
        self.write(folder)
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def _read_set(name: str, folder: Path) -> None:
    if name in ENDINGS and not any(folder.rglob(ENDINGS[name])):
        raise InputError("the file that the user would name is missing")
    faces = load(name, folder)
    for index in range(min(len(faces), 3)):
        faces.picture(index)


def _write_picture(ending: str, mode: str, folder: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 31, 3), np.uint8)
    PIL.Image.fromarray(pixels).convert(mode).save(folder / f"picture.{ending}")


def _read_picture(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        read_image(path)


def _write_video(ending: str, folder: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (4, 32, 48, 3), np.uint8)
    container, codec, pixels = VIDEOS[ending]
    write_video(folder / f"video.{ending}", frames, codec=codec, container=container, pixels=pixels)


def _read_video(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        with Video(path) as video:
            for _ in itertools.islice(video, 100):
                pass


def _write_tfds(folder: Path) -> None:
    from tests.support.writers.tfds_sets import example, faces_of, prepare  # imports TensorFlow

    examples = [example("aflw2k3d", face, index) for index, face in enumerate(faces_of(IBUG_68, 2, 5))]
    prepare("aflw2k3d", {"train": examples}, folder)


def _read_tfds(folder: Path) -> None:
    faces = read_tfds("aflw2k3d", "test", root=str(folder))
    for index in range(len(faces)):
        faces.picture(index)


def _write_model(folder: Path) -> None:
    network = {"name": "plain", "points": 5, "channels": (4,), "hidden": 4, "norm": "batch"}
    start = functools.partial(make_model(**network).init, train=False)
    variables = jax.tree.map(np.asarray, start(jax.random.key(0), jnp.zeros((1, 8, 8, 3))))
    stage = Stage(model=make_model(**network), variables=variables, input_size=8, face_crop_size=16, margin=1.2)
    template = np.linspace(0.2, 0.8, 10, dtype=np.float32).reshape(5, 2)
    Localizer(scheme=MTFL_5, box_convention="landmarks", stages=(stage,), template=template).save(folder / "model")


def _write_config(folder: Path) -> None:
    config = load_config(CONFIGS / "w300.py")
    (folder / "config.json").write_text(json.dumps(dataclasses.asdict(config), indent=1))


PICTURES = (
    ("png", "RGB"),
    ("png", "P"),
    ("jpg", "RGB"),
    ("jpg", "CMYK"),
    ("bmp", "RGB"),
    ("webp", "RGB"),
    ("tif", "RGB"),
)
VIDEOS = {  # ending: container, codec, pixels
    "avi": ("avi", "mjpeg", "yuvj420p"),
    "mp4": ("mp4", "mpeg4", "yuv420p"),
    "mov": ("mov", "libx264", "yuv420p"),
    "webm": ("webm", "libvpx", "yuv420p"),
    "mkv": ("matroska", "libx264", "yuv420p"),
    "m2ts": ("mpegts", "libx264", "yuv420p"),
}
_LISTS = {name: (f"{ending[1:]} to read",) for name, ending in ENDINGS.items()}
TARGETS = {
    **{
        name: Target(write=WRITERS[name], read=functools.partial(_read_set, name), named=_LISTS.get(name, ()))
        for name in WRITERS
    },
    **{
        f"{ending} {mode}": Target(
            write=functools.partial(_write_picture, ending, mode), read=_read_picture, share=3, named=(" to read",)
        )
        for ending, mode in PICTURES
    },
    **{
        ending: Target(write=functools.partial(_write_video, ending), read=_read_video, share=2, named=(" to read",))
        for ending in VIDEOS
    },
    "TFDS": Target(write=_write_tfds, read=_read_tfds),
    "model": Target(write=_write_model, read=lambda folder: Localizer.load(folder / "model")),
    "config.json": Target(
        write=_write_config, read=lambda folder: load_config(folder / "config.json"), named=(" to read",)
    ),
    "config.toml": Target(
        write=lambda folder: (folder / "config.toml").write_text(TOML),
        read=lambda folder: load_config(folder / "config.toml"),
        named=(" to read",),
    ),
    "scheme.toml": Target(
        write=lambda folder: (folder / "scheme.toml").write_text(TABLE),
        read=lambda folder: Scheme.read(folder / "scheme.toml"),
        named=(" to read",),
    ),
}


def corrupt(files: Files, draw: random.Random) -> tuple[Files, dict[str, str]]:
    """Corrupt some files and replace some by links; return (contents, targets of links)."""
    files, links = dict(files), {}
    for _ in range(draw.randint(1, 3)):
        name = draw.choice(sorted(files))
        content = bytearray(files[name])
        match draw.randrange(9):
            case 0 if content:  # bits
                for _ in range(draw.choice((1, 1, 3, 30))):
                    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
            case 1:  # cut
                content = content[: draw.randrange(len(content) + 1)]
            case 2 if content:  # a piece removed
                start = draw.randrange(len(content))
                del content[start : start + draw.choice((1, 4, 64, 4096))]
            case 3 if content:  # a piece repeated
                start = draw.randrange(len(content))
                content[start:start] = content[start : start + draw.choice((1, 4, 64, 4096))]
            case 4:  # a token inserted, or replacing other bytes
                start, token = draw.randrange(len(content) + 1), draw.choice(TOKENS)
                content[start : start + draw.choice((0, len(token)))] = token
            case 5 if content:  # a number of four bytes: lengths and counts
                start = draw.randrange(len(content))
                number = draw.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000, 0x10000, draw.getrandbits(32)))
                content[start : start + 4] = number.to_bytes(4, draw.choice(("big", "little")))
            case 6:  # a digit changed
                digits = [index for index, byte in enumerate(content[:20_000]) if 48 <= byte < 58]
                for index in draw.sample(digits, min(len(digits), draw.choice((1, 2, 8)))):
                    content[index] = draw.choice(b"0123456789-.e")
            case 7:  # another file's content
                content = bytearray(files[draw.choice(sorted(files))])
            case _:  # removed, or a link
                if draw.random() < 0.5:
                    links[name] = draw.choice(LINKS)
                del files[name]
                if not files:
                    return {}, links
                continue
        files[name] = bytes(content)
    return files, {name: target for name, target in links.items() if name not in files}


def write_files(folder: Path, files: Files, links: dict[str, str]) -> None:
    """Write files and links into an empty folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    for name, target in links.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(path.name if target == "itself" else target)


class Watch:
    """Records opened files by Python's audit events; `within` collects those that a reader must not open.

    An audit hook cannot be removed, so there is one watch for all cases.
    """

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._opened: list[str] = []
        sys.addaudithook(self._record)

    @contextmanager
    def within(self, folder: Path) -> Iterator[list[str]]:
        """Collect the files opened for reading outside `folder` (directly or by a link), or for writing."""
        self._folder, self._opened = folder.resolve(), []
        try:
            yield self._opened
        finally:
            self._folder = None

    def _record(self, event: str, details: tuple) -> None:
        if self._folder is None or event != "open" or not isinstance(details[0], str | bytes | Path):
            return
        folder, self._folder = self._folder, None  # resolving a path must not be recorded itself
        try:
            path = Path(os.path.abspath(os.fsdecode(details[0])))
            mode = details[1] if isinstance(details[1], str) else ""
            writing = any(letter in mode for letter in "wax+") or details[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            real = Path(os.path.realpath(path))
            is_link = real.parent == TEMPORARY and real.name.startswith("wing_jax-")  # of `files.plain_path`
            cache = jax.config.values["jax_compilation_cache_dir"]
            if cache and real.is_relative_to(os.path.realpath(cache)):
                return
            allowed = is_link or any(real.is_relative_to(parent) for parent in (folder, *SYSTEM_FILES))
            if writing or not allowed:
                self._opened.append(f"{path} to {'write' if writing else 'read'}")
        finally:
            self._folder = folder

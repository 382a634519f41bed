"""Files from anywhere: only regular ones are read, only so large, and none that a link leads to out of a folder."""

import codecs
import contextlib
import errno
import io
import os
import re
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Generator
from pathlib import Path
from typing import BinaryIO

from wing_jax.errors import InputError

LARGEST = 1 << 30  # bytes of a file that is read at once
SYSTEM_FOLDERS = frozenset(("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information"))
FOLLOW = "WING_JAX_FOLLOW_LINKS"


def read_bytes(path: str | Path, *, largest: int = LARGEST) -> bytes:
    """The content of the file `path`.

    Raises:
      OSError: it cannot be read, is a device or a pipe, or is larger than `largest` bytes.
    """
    with open_bytes(path) as file:
        if os.fstat(file.fileno()).st_size > largest:
            raise OSError(errno.EFBIG, f"larger than {largest:,} bytes")
        return file.read()


@contextlib.contextmanager
def open_bytes(path: str | Path) -> Generator[BinaryIO]:
    """The file `path`, open to be read.

    Raises:
      OSError: it cannot be read, or is a device or a pipe.
    """
    with open(path, "rb", opener=_without_waiting) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "a device or a pipe, not a file")
        yield file


def read_text(path: str | Path, *, encoding: str = "utf-8", largest: int = LARGEST) -> str:
    """The content of the text file `path`, its line ends as "\\n". A file that begins with the mark of UTF-16, as
    Excel's "Unicode text" and PowerShell's `>` write it, is read as that, whatever the `encoding`.

    Raises:
      OSError: as for `read_bytes`.
      UnicodeDecodeError: it is no text in this encoding.
    """
    content = read_bytes(path, largest=largest)
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # no UTF-8 begins so
        encoding = "utf-16"
    return content.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")


def write_whole(path: Path, content: str | bytes) -> None:
    """Write `path` whole or not at all, text as UTF-8: beside it first, so that what was there stays until then.

    Raises:
      OSError: it cannot be written.
    """
    unfinished = path.with_name(f"{path.name}.new")
    try:
        unfinished.write_bytes(content.encode() if isinstance(content, str) else content)
        unfinished.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        raise


def is_hidden(path: Path, *, below: Path) -> bool:
    """Whether `path`, or a folder between it and `below`, is hidden: its name begins with a dot, or is one of
    `SYSTEM_FOLDERS`. Such are not data: macOS puts a `._x.jpg` beside each `x.jpg` on drives of other systems and a
    folder `__MACOSX` into archives, Jupyter makes `.ipynb_checkpoints`, Synology keeps thumbnails in `@eaDir`, and
    Windows what was deleted in `$RECYCLE.BIN`."""
    return any(part.startswith(".") or part in SYSTEM_FOLDERS for part in path.relative_to(below).parts)


def find_files(folder: str | Path, pattern: str) -> list[Path]:
    """What lies at the glob `pattern` below `folder` and is not hidden, sorted by path."""
    folder = Path(folder)
    return sorted(path for path in folder.glob(pattern) if not is_hidden(path, below=folder))


# Paths that every library takes as they are. Others are read as patterns ([...] and * by glob in Orbax, % by OpenCV),
# as separators (a backslash by TensorStore) or as addresses (a colon by FFmpeg), or are not UTF-8, which C++ refuses.
PLAIN = re.compile(r"[\w./ +,=@~()-]*", re.ASCII)


@contextlib.contextmanager
def plain_path(folder: str | Path) -> Generator[Path]:
    """The existing `folder` by a path that every library takes as it is: its own, or that of a link to it in a
    temporary folder, which is there within the block.

    Raises:
      InputError: no link can be made.
    """
    folder = Path(folder).absolute()
    if PLAIN.fullmatch(str(folder)):
        yield folder
        return
    with contextlib.ExitStack() as held:
        try:
            place = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="wing_jax-")))
            (place / "folder").symlink_to(folder, target_is_directory=True)
        except OSError as error:
            raise InputError(f"{folder}: no link to it can be made ({error.strerror}): rename it plainly") from error
        if not PLAIN.fullmatch(str(place)):
            raise InputError(f"{place}: the folder of temporary files has odd characters: set TMPDIR to another")
        yield place / "folder"


def refuse_ways_out(folder: str | Path) -> None:
    """Look through `folder` for links that lead out of it, and for what is neither file nor folder.

    Whoever trusts the links of a folder sets the environment variable WING_JAX_FOLLOW_LINKS to 1.

    Raises:
      InputError: there is one; it is named.
    """
    root = Path(folder)
    inside = Path(os.path.realpath(root))
    ahead = [root] if root.is_dir() else []  # where it is missing, whoever reads it says so
    while ahead:
        place = ahead.pop()
        try:
            with os.scandir(place) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    if entry.name.startswith("."):  # hidden, and so never read
                        continue
                    if entry.is_symlink():
                        refuse_way_out(Path(entry.path), inside)
                    elif entry.is_dir():
                        ahead.append(Path(entry.path))
                    elif not entry.is_file():
                        raise InputError(f"{entry.path}: a device or a pipe: take it out of the data folder")
        except OSError as error:
            raise InputError(f"{place}: cannot be looked through ({error.strerror}): mend its permissions") from error


def refuse_way_out(path: Path, *inside: Path) -> None:
    """Raise InputError where `path` leads, by a link, out of all the folders `inside`, which are real paths."""
    real = Path(os.path.realpath(path))
    if not any(real.is_relative_to(folder) for folder in inside) and os.environ.get(FOLLOW) != "1":
        raise InputError(
            f"{path}: a link that leads out of its folder: put the file itself there, or set {FOLLOW}=1 if you "
            "trust this folder"
        )


# What NumPy and zipfile raise at a broken .npz, one that is encrypted or of a later format of zip included.
BROKEN_ARCHIVE = (
    OSError, ValueError, TypeError, EOFError, KeyError, MemoryError, RuntimeError, zlib.error, zipfile.BadZipFile,
)  # fmt: skip


def refuse_bomb(archive: io.BytesIO, *, largest: int = LARGEST) -> None:
    """Raise ValueError where the files of a zip archive (an .npz) would take more than `largest` bytes unpacked."""
    with zipfile.ZipFile(archive) as entries:
        total = sum(entry.file_size for entry in entries.infolist())
    if total > largest:
        raise ValueError(f"it unpacks to {total:,} bytes")
    archive.seek(0)


def _without_waiting(path: str, flags: int) -> int:
    """Opening a pipe that nobody writes to would wait for ever."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))

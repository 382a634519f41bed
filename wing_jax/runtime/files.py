"""Files from untrusted sources: only regular files of limited size are read, and no links out of a data folder."""

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

LARGEST = 1 << 30  # bytes of a file that is read into memory
SYSTEM_FOLDERS = frozenset(("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information"))
FOLLOW = "WING_JAX_FOLLOW_LINKS"


def read_bytes(path: str | Path, *, largest: int = LARGEST) -> bytes:
    """Read the file `path`.

    Raises:
      OSError: the file cannot be read, is a device or a pipe, or is larger than `largest` bytes.
    """
    with open_bytes(path) as file:
        if os.fstat(file.fileno()).st_size > largest:
            raise OSError(errno.EFBIG, f"larger than {largest:,} bytes")
        return file.read()


@contextlib.contextmanager
def open_bytes(path: str | Path) -> Generator[BinaryIO]:
    """Open the file `path` for reading.

    Raises:
      OSError: the file cannot be read, or is a device or a pipe.
    """
    with open(path, "rb", opener=_open_nonblocking) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "a device or a pipe, not a file")
        yield file


def read_text(path: str | Path, *, encoding: str = "utf-8", largest: int = LARGEST) -> str:
    """Read the text file `path`, with newline characters as line ends.

    A file that starts with the byte order mark of UTF-16, as Excel's "Unicode text" and PowerShell's `>` write it, is
    read as UTF-16, whatever the `encoding`.

    Raises:
      OSError: as for `read_bytes`.
      UnicodeDecodeError: the content is not text in this encoding.
    """
    content = read_bytes(path, largest=largest)
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # never the start of UTF-8
        encoding = "utf-16"
    return content.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write `path` atomically, text as UTF-8: to a temporary file beside it, which then replaces the old file.

    Raises:
      OSError: the file cannot be written.
    """
    temporary = path.with_name(f"{path.name}.new")
    try:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def is_hidden(path: Path, *, below: Path) -> bool:
    """Return whether `path`, or a folder between it and `below`, is hidden.

    The name of a hidden one starts with a dot or is one of `SYSTEM_FOLDERS`.

    Hidden files are not data: macOS writes a `._x.jpg` beside each `x.jpg` on drives of other systems and a folder
    `__MACOSX` into archives, Jupyter makes `.ipynb_checkpoints`, Synology stores thumbnails in `@eaDir`, and Windows
    deleted files in `$RECYCLE.BIN`.
    """
    return any(part.startswith(".") or part in SYSTEM_FOLDERS for part in path.relative_to(below).parts)


def find_files(folder: str | Path, pattern: str) -> list[Path]:
    """Find the paths that match the glob `pattern` in `folder` and are not hidden, sorted."""
    folder = Path(folder)
    return sorted(path for path in folder.glob(pattern) if not is_hidden(path, below=folder))


# Paths that every library accepts literally. In other paths, some characters are patterns ([...] and * for glob in
# Orbax, % for OpenCV), separators (a backslash for TensorStore) or addresses (a colon for FFmpeg), or the path is not
# UTF-8, which C++ libraries reject.
PLAIN = re.compile(r"[\w./ +,=@~()-]*", re.ASCII)


@contextlib.contextmanager
def plain_path(folder: str | Path) -> Generator[Path]:
    """Yield a path to the existing `folder` that every library accepts literally.

    It is its own path, or a link to it in a temporary folder, which exists inside the block.

    Raises:
      InputError: the link cannot be created.
    """
    folder = Path(folder).absolute()
    if PLAIN.fullmatch(str(folder)):
        yield folder
        return
    with contextlib.ExitStack() as stack:
        try:
            parent = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wing_jax-")))
            (parent / "folder").symlink_to(folder, target_is_directory=True)
        except OSError as error:
            raise InputError(
                f"{folder}: cannot create a link to it ({error.strerror}): rename it, without special characters"
            ) from error
        if not PLAIN.fullmatch(str(parent)):
            raise InputError(f"{parent}: the temporary folder has special characters: set TMPDIR to another folder")
        yield parent / "folder"


def reject_outside_links(folder: str | Path) -> None:
    """Reject a folder with links that lead out of it, or with entries that are neither files nor folders.

    To trust the links of a folder, set the environment variable WING_JAX_FOLLOW_LINKS to 1.

    Raises:
      InputError: there is such an entry; the message names it.
    """
    root = Path(folder)
    real_root = Path(os.path.realpath(root))
    pending = [root] if root.is_dir() else []  # a missing folder is reported when it is read
    while pending:
        current = pending.pop()
        try:
            with os.scandir(current) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    if entry.name.startswith("."):  # hidden files are never read
                        continue
                    if entry.is_symlink():
                        reject_outside_link(Path(entry.path), real_root)
                    elif entry.is_dir():
                        pending.append(Path(entry.path))
                    elif not entry.is_file():
                        raise InputError(f"{entry.path}: a device or a pipe: remove it from the data folder")
        except OSError as error:
            raise InputError(f"{current}: cannot be listed ({error.strerror}): fix its permissions") from error


def reject_outside_link(path: Path, *inside: Path) -> None:
    """Raise InputError if a link in `path` leads out of all of the folders `inside`, which are real paths."""
    real = Path(os.path.realpath(path))
    if not any(real.is_relative_to(folder) for folder in inside) and os.environ.get(FOLLOW) != "1":
        raise InputError(
            f"{path}: a link to outside its folder: replace it with a copy of the file, or set {FOLLOW}=1 if you "
            "trust this folder"
        )


# What NumPy and zipfile raise for a broken .npz, including encrypted ones and those of later zip versions.
BROKEN_ARCHIVE = (
    OSError, ValueError, TypeError, EOFError, KeyError, MemoryError, RuntimeError, zlib.error, zipfile.BadZipFile,
)  # fmt: skip


def check_archive_size(archive: io.BytesIO, *, largest: int = LARGEST) -> None:
    """Raise ValueError if the files of a zip archive (an .npz) take more than `largest` bytes unpacked."""
    with zipfile.ZipFile(archive) as entries:
        total = sum(entry.file_size for entry in entries.infolist())
    if total > largest:
        raise ValueError(f"it unpacks to {total:,} bytes")
    archive.seek(0)


def _open_nonblocking(path: str, flags: int) -> int:
    """Open without blocking: opening a pipe without a writer would hang."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))

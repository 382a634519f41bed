"""The inputs of `wing-jax predict`: photos, videos, and the pictures in folders."""

import dataclasses
import itertools
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from wing_jax.data.images import PICTURE_ENDINGS, is_picture
from wing_jax.errors import InputError
from wing_jax.inference.video import VIDEO_ENDINGS
from wing_jax.runtime.files import is_hidden, reject_outside_link
from wing_jax.text import cut, printable

MAX_NAMES = 4  # files, folders or endings that a message lists; it counts the others
MAX_SUBFOLDERS = 1000  # how many are searched for pictures, if a folder has none


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inputs:
    """The files to process, each once and in the order given, with errors and remarks on the others."""

    photos: tuple[Path, ...]
    videos: tuple[Path, ...]
    faults: tuple[InputError, ...]  # one for each input that cannot be processed
    notes: tuple[str, ...]  # what was skipped


def gather_inputs(names: Sequence[str]) -> Inputs:
    """Sort `names` into photos and videos; a folder is replaced by the pictures in it, sorted by name.

    Hidden files, other files and sub-folders in a folder are skipped. A file that is given twice, or also by a link, is
    processed once.
    """
    photos: list[Path] = []
    videos: list[Path] = []
    faults: list[InputError] = []
    notes: list[str] = []
    for name in names:
        path = Path(name)
        if not name:
            faults.append(InputError("an empty name: pass the name of a picture, a folder or a video"))
        elif os.path.isdir(path):
            pictures, errors, skipped = _read_folder(path)
            photos += pictures
            faults += errors
            notes += skipped
        elif path.suffix.lower() in VIDEO_ENDINGS:
            videos.append(path)
        else:
            photos.append(path)
    (photos, repeated_photos), (videos, repeated_videos) = _remove_duplicates(photos), _remove_duplicates(videos)
    if duplicates := repeated_photos + repeated_videos:
        notes.append(f"processed only once, although named twice or by a link: {_list_names(duplicates)}")
    return Inputs(photos=tuple(photos), videos=tuple(videos), faults=tuple(faults), notes=tuple(notes))


def _read_folder(folder: Path) -> tuple[list[Path], list[InputError], list[str]]:
    """Return (pictures, errors, remarks on what was skipped) of `folder`."""
    try:
        entries = sorted(entry for entry in folder.iterdir() if not is_hidden(entry, below=folder))
    except OSError as error:
        reason = f"{folder}: cannot read this folder ({error.strerror}): fix its permissions"
        return [], [InputError(reason)], []
    pictures = [entry for entry in entries if is_picture(entry)]
    others = [entry for entry in entries if not is_picture(entry)]
    folders = [entry for entry in others if os.path.isdir(entry)]
    files = [entry for entry in others if entry not in set(folders)]
    if not pictures:
        return [], [_no_picture_error(folder, files)], []
    photos, faults = [], []
    real_folder = Path(os.path.realpath(folder))
    for entry in pictures:
        try:
            reject_outside_link(entry, real_folder)
            photos.append(entry)
        except InputError as error:
            faults.append(error)
    skipped = [_count_files(files)] if files else []
    skipped += [f"{len(folders)} subfolder{'s' * (len(folders) > 1)} (pass subfolders by name)"] if folders else []
    return photos, faults, [f"{folder}: skipped {' and '.join(skipped)}"] if skipped else []


def _no_picture_error(folder: Path, files: Sequence[Path]) -> InputError:
    subfolders = list(itertools.islice(_picture_folders(folder), MAX_NAMES))
    if subfolders:
        return InputError(f"{folder}: no picture in this folder itself: pass its subfolders: {_list_names(subfolders)}")
    content = f" (only {_count_files(files)})" if files else ""
    return InputError(f"{folder}: no picture in this folder{content}: pictures must end in {' '.join(PICTURE_ENDINGS)}")


def _picture_folders(folder: Path) -> Iterator[Path]:
    """Yield the folders below `folder` that contain a picture, without hidden ones."""
    for path, folders, names in itertools.islice(os.walk(folder), MAX_SUBFOLDERS):
        folders[:] = sorted(name for name in folders if not is_hidden(Path(name), below=Path()))
        visible = (file for file in map(Path, names) if not is_hidden(file, below=Path()))
        if Path(path) != folder and any(map(is_picture, visible)):
            yield Path(path)


def _count_files(paths: Sequence[Path]) -> str:
    """Count the files by their endings: "3 other files (2 .mov, 1 .heic; pass videos by name)"."""
    endings = Counter(cut(printable(path.suffix.lower()), length=12) or "without ending" for path in paths)
    counts = [f"{count} {ending}" for ending, count in endings.most_common(MAX_NAMES)]
    counts += ["others"] if len(endings) > MAX_NAMES else []
    hint = "; pass videos by name" if endings.keys() & set(VIDEO_ENDINGS) else ""
    return f"{len(paths)} other file{'s' * (len(paths) > 1)} ({', '.join(counts)}{hint})"


def _remove_duplicates(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Return (each file once, the duplicates)."""
    first: dict[str, Path] = {}
    duplicates = []
    for path in paths:
        if first.setdefault(os.path.realpath(path), path) is not path:
            duplicates.append(path)
    return list(first.values()), duplicates


def _list_names(paths: Sequence[Path]) -> str:
    more = f" and {len(paths) - MAX_NAMES} more" if len(paths) > MAX_NAMES else ""
    return ", ".join(map(str, paths[:MAX_NAMES])) + more

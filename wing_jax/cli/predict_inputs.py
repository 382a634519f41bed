"""What `wing-jax predict` was given: photos and videos, and of a folder the pictures that lie in it."""

import dataclasses
import itertools
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from wing_jax.data.images import PICTURE_ENDINGS, is_picture
from wing_jax.errors import InputError
from wing_jax.inference.video import VIDEO_ENDINGS
from wing_jax.runtime.files import is_hidden, refuse_way_out
from wing_jax.text import cut, printable

NAMED = 4  # files, folders or endings that a line names; of more it gives the number
LOOKED_THROUGH = 1000  # sub-folders at most, for a folder without pictures


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inputs:
    """What is to be done, each file once, in the order given; and what is to be said of the rest."""

    photos: tuple[Path, ...]
    videos: tuple[Path, ...]
    faults: tuple[InputError, ...]  # one for each input that cannot be done
    notes: tuple[str, ...]  # what was passed over


def gather_inputs(names: Sequence[str]) -> Inputs:
    """Sort `names` into photos and videos; a folder stands for the pictures that lie in it, by name.

    Hidden files, other files and sub-folders of a folder are passed over. A file that is given twice, or through a
    link too, is done once.
    """
    photos: list[Path] = []
    videos: list[Path] = []
    faults: list[InputError] = []
    notes: list[str] = []
    for name in names:
        path = Path(name)
        if not name:
            faults.append(InputError("a name without a character: give the name of a picture, a folder or a video"))
        elif os.path.isdir(path):
            found, wrong, note = _in_folder(path)
            photos += found
            faults += wrong
            notes += note
        elif path.suffix.lower() in VIDEO_ENDINGS:
            videos.append(path)
        else:
            photos.append(path)
    (photos, again), (videos, too) = _once(photos), _once(videos)
    if again + too:
        notes.append(f"done once, though given twice or by a link: {_some(again + too)}")
    return Inputs(photos=tuple(photos), videos=tuple(videos), faults=tuple(faults), notes=tuple(notes))


def _in_folder(folder: Path) -> tuple[list[Path], list[InputError], list[str]]:
    """(pictures, what is wrong, what was passed over) of `folder`."""
    try:
        entries = sorted(entry for entry in folder.iterdir() if not is_hidden(entry, below=folder))
    except OSError as error:
        reason = f"{folder}: cannot be looked through ({error.strerror}): correct its permissions"
        return [], [InputError(reason)], []
    inside = [entry for entry in entries if is_picture(entry)]
    others = [entry for entry in entries if not is_picture(entry)]
    folders = [entry for entry in others if os.path.isdir(entry)]
    rest = [entry for entry in others if entry not in set(folders)]
    if not inside:
        return [], [_nothing_in(folder, rest)], []
    photos, faults = [], []
    real = Path(os.path.realpath(folder))
    for entry in inside:
        try:
            refuse_way_out(entry, real)
            photos.append(entry)
        except InputError as error:
            faults.append(error)
    told = [_counted(rest)] if rest else []
    told += [f"{len(folders)} sub-folder{'s' * (len(folders) > 1)}, which must be given by name"] if folders else []
    return photos, faults, [f"{folder}: passed over {' and '.join(told)}"] if told else []


def _nothing_in(folder: Path, rest: Sequence[Path]) -> InputError:
    below = list(itertools.islice(_folders_of_pictures(folder), NAMED))
    if below:
        return InputError(f"{folder}: no picture in this folder itself: give its sub-folders: {_some(below)}")
    held = f" (it holds {_counted(rest)})" if rest else ""
    return InputError(
        f"{folder}: no picture in this folder{held}: its pictures must end in {' '.join(PICTURE_ENDINGS)}"
    )


def _folders_of_pictures(folder: Path) -> Iterator[Path]:
    """The folders below `folder` that hold a picture, hidden ones left out."""
    for place, folders, names in itertools.islice(os.walk(folder), LOOKED_THROUGH):
        folders[:] = sorted(name for name in folders if not is_hidden(Path(name), below=Path()))
        shown = (path for path in map(Path, names) if not is_hidden(path, below=Path()))
        if Path(place) != folder and any(map(is_picture, shown)):
            yield Path(place)


def _counted(paths: Sequence[Path]) -> str:
    """How many files, by their endings: "3 other files (2 .mov, 1 .heic; videos are given by name)"."""
    endings = Counter(cut(printable(path.suffix.lower()), length=12) or "without ending" for path in paths)
    told = [f"{count} {ending}" for ending, count in endings.most_common(NAMED)]
    told += ["others"] if len(endings) > NAMED else []
    hint = "; videos are given by name" if endings.keys() & set(VIDEO_ENDINGS) else ""
    return f"{len(paths)} other file{'s' * (len(paths) > 1)} ({', '.join(told)}{hint})"


def _once(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """(each file once, what was given besides)."""
    kept: dict[str, Path] = {}
    again = []
    for path in paths:
        if kept.setdefault(os.path.realpath(path), path) is not path:
            again.append(path)
    return list(kept.values()), again


def _some(paths: Sequence[Path]) -> str:
    more = f" and {len(paths) - NAMED} more" if len(paths) > NAMED else ""
    return ", ".join(map(str, paths[:NAMED])) + more

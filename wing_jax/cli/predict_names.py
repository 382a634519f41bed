"""Choose the names of the files that `wing-jax predict` writes, before it starts: no two results have the same name.

The results of a photo STEM.jpg are STEM.png, STEM.json and STEM.pts, or STEM_1.pts, STEM_2.pts ... for several faces;
those of a video are STEM.mp4 and STEM.csv. All photos share predictions.csv.
"""

import dataclasses
import hashlib
import itertools
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

CSV = "predictions.csv"  # the table of all photos
MAX_NAME_BYTES = 255  # on most file systems
ENDING_BYTES = len("_99999.pts.new")  # the longest ending; a file is called .new while it is written
NUMBERED = re.compile(r"(.+)_[1-9][0-9]*", re.DOTALL)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Photo:
    """A photo and the names of its results."""

    path: Path
    name: str  # in the tables: the file name, or the path as given if several photos have this file name
    stem: Path  # path of the results, without ending


def plan_photos(paths: Sequence[Path], folder: Path) -> list[Photo]:
    """Choose names in `folder` for the results of the photos `paths`, for any number of faces in them.

    The first photo with a stem keeps it. If two results would have the same name (also on a file system that ignores
    case, or the difference between composed and decomposed accents), the later one is named by its full file name, or
    by that and a number. A name that is too long for the file system is cut, and a checksum is added.
    """
    names, stems = Counter(path.name for path in paths), _Stems(folder, numbered=True)
    return [
        Photo(path=path, name=path.name if names[path.name] == 1 else str(path), stem=folder / stems.take(path))
        for path in paths
    ]


def plan_videos(sources: Sequence[Path | int], folder: Path, *, photos: bool) -> list[Path]:
    """Choose the paths without extension for the results of videos and camera numbers.

    They follow the rules of `plan_photos`; if `photos`, they differ from the table of all photos.
    """
    stems = _Stems(folder, numbered=False, used=(Path(CSV).stem,) if photos else ())
    return [folder / stems.take(Path(f"camera{s}") if isinstance(s, int) else s) for s in sources]


class _Stems:
    """The used stems. If `numbered`, STEM also reserves STEM_1, STEM_2, ..., whether they are written or not."""

    def __init__(self, folder: Path, *, numbered: bool, used: Sequence[str] = ()):
        self._numbered, self._max_bytes = numbered, _max_name_bytes(folder) - ENDING_BYTES
        self._used = set(map(_normalize, used))
        self._without_number: set[str] = set()  # used stems that end in a number, without it
        self._next: dict[str, Iterator[int]] = {}  # by file name: hundreds of folders may have a 1.jpg

    def take(self, path: Path) -> str:
        """Return an unused stem for the file `path`, and mark it as used."""
        stem = next(stem for stem in map(self._shorten, self._candidates(path)) if self._is_free(_normalize(stem)))
        key = _normalize(stem)
        self._used.add(key)
        if match := NUMBERED.fullmatch(key):
            self._without_number.add(match[1])
        return stem

    def _candidates(self, path: Path) -> Iterator[str]:
        if path.stem.strip("."):  # "..jpg" has the stem ".", which is a folder
            yield path.stem
        yield path.name
        for number in self._next.setdefault(path.name, itertools.count(2)):
            yield f"{path.name}-{number}"

    def _is_free(self, key: str) -> bool:
        if not self._numbered or key in self._used:
            return key not in self._used
        match = NUMBERED.fullmatch(key)
        return key not in self._without_number and not (match and match[1] in self._used)

    def _shorten(self, stem: str) -> str:
        if len(os.fsencode(stem)) <= self._max_bytes:
            return stem
        checksum = hashlib.sha256(os.fsencode(stem)).hexdigest()[:8]
        while len(os.fsencode(stem)) > self._max_bytes - len(checksum) - 1:
            stem = stem[:-1]
        return f"{stem}-{checksum}"


def _normalize(name: str) -> str:
    """Map names to the same key that are the same for some file system."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _max_name_bytes(folder: Path) -> int:
    """Return the largest length of a name in `folder`, or in its nearest existing parent."""
    existing = next((path for path in (folder, *folder.absolute().parents) if os.path.isdir(path)), None)
    if existing is None or not hasattr(os, "statvfs"):
        return MAX_NAME_BYTES
    limit = os.statvfs(existing).f_namemax
    return min(limit, MAX_NAME_BYTES) if limit > 4 * ENDING_BYTES else MAX_NAME_BYTES

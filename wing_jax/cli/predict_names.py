"""Names of what `wing-jax predict` writes, planned before any work: no two results have one name.

A photo called STEM.jpg writes STEM.png, STEM.json and STEM.pts, or STEM_1.pts, STEM_2.pts ... for several faces; a
video STEM.mp4 and STEM.csv; all photos together predictions.csv.
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

CSV = "predictions.csv"  # of all photos
LONGEST = 255  # bytes of a name, on most file systems
ROOM = len("_99999.pts.new")  # what a stem must leave for the longest ending, and for the file while it is written
NUMBERED = re.compile(r"(.+)_[1-9][0-9]*", re.DOTALL)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Photo:
    """A photo and what its results are called."""

    path: Path
    name: str  # in the tables: the file's name, or its path as given where other photos are called alike
    stem: Path  # of its results, without ending


def plan_photos(paths: Sequence[Path], folder: Path) -> list[Photo]:
    """What the results of the photos `paths` in `folder` are to be called, however many faces are found.

    The first photo of a stem keeps it. Where that would give two results one name (on a file system that takes capital
    letters and small ones, or composed and decomposed accents, for the same too), the later one is called by its whole
    file name, or by that and a number. What would be too long for the file system is cut and gets a checksum.
    """
    names, stems = Counter(path.name for path in paths), _Stems(folder, numbered=True)
    return [
        Photo(path=path, name=path.name if names[path.name] == 1 else str(path), stem=folder / stems.take(path))
        for path in paths
    ]


def plan_videos(sources: Sequence[Path | int], folder: Path, *, photos: bool) -> list[Path]:
    """The results' paths without ending for videos and the numbers of cameras, as in `plan_photos`; with `photos`
    beside the table of all photos."""
    stems = _Stems(folder, numbered=False, taken=(Path(CSV).stem,) if photos else ())
    return [folder / stems.take(Path(f"camera{s}") if isinstance(s, int) else s) for s in sources]


class _Stems:
    """Stems that are taken, and the next ones. `numbered`: STEM_1, STEM_2 ... are taken with STEM, whether they are
    written or not."""

    def __init__(self, folder: Path, *, numbered: bool, taken: Sequence[str] = ()):
        self._numbered, self._room = numbered, _longest_name(folder) - ROOM
        self._taken = set(map(_folded, taken))
        self._without_number: set[str] = set()  # what is left of those taken that end in a number
        self._next: dict[str, Iterator[int]] = {}  # for files of one name: hundreds of folders may have a 1.jpg

    def take(self, path: Path) -> str:
        """The stem for the file `path`, which from now on is taken."""
        chosen = next(stem for stem in map(self._fitting, self._candidates(path)) if self._is_free(_folded(stem)))
        key = _folded(chosen)
        self._taken.add(key)
        if found := NUMBERED.fullmatch(key):
            self._without_number.add(found[1])
        return chosen

    def _candidates(self, path: Path) -> Iterator[str]:
        if path.stem.strip("."):  # "..jpg" has the stem ".", which is a folder
            yield path.stem
        yield path.name
        for number in self._next.setdefault(path.name, itertools.count(2)):
            yield f"{path.name}-{number}"

    def _is_free(self, key: str) -> bool:
        if not self._numbered or key in self._taken:
            return key not in self._taken
        found = NUMBERED.fullmatch(key)
        return key not in self._without_number and not (found and found[1] in self._taken)

    def _fitting(self, stem: str) -> str:
        if len(os.fsencode(stem)) <= self._room:
            return stem
        checksum = hashlib.sha256(os.fsencode(stem)).hexdigest()[:8]
        while len(os.fsencode(stem)) > self._room - len(checksum) - 1:
            stem = stem[:-1]
        return f"{stem}-{checksum}"


def _folded(name: str) -> str:
    """What names have in common that some file system takes for one."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _longest_name(folder: Path) -> int:
    """Bytes of a name in `folder`, or in what is there of the way to it."""
    there = next((place for place in (folder, *folder.absolute().parents) if os.path.isdir(place)), None)
    if there is None or not hasattr(os, "statvfs"):
        return LONGEST
    told = os.statvfs(there).f_namemax
    return min(told, LONGEST) if told > 4 * ROOM else LONGEST

"""Pictures that a list names, or that lie beside an annotation file: looked for in the folders where they may lie.

Lists are written on other machines. Their names may be relative to the list's folder, to an `images` folder in it or
beside it, or to the data set's root; they may hold backslashes, `..`, or the same letters in another Unicode form or
case than the file system has. Nothing outside the folders of a `PictureFinder` is ever found.
"""

import contextlib
import dataclasses
import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path, PureWindowsPath

from wing_jax.data.images import PICTURE_ENDINGS, is_picture
from wing_jax.errors import InputError
from wing_jax.text import SEPARATORS, quoted

# A list in a folder of one of these names belongs to the data set that its parent folder holds.
ANNOTATION_FOLDERS = (
    "annotation", "annotations", "anno", "annos", "label", "labels", "list", "lists", "split", "splits", "meta",
    "metadata", "xml", "json", "csv",
)  # fmt: skip
LONGEST = 4096  # characters of a path


class Spellings:
    """What lies in folders, found by names that may be spelled otherwise. Each folder is listed at most once."""

    def __init__(self) -> None:
        self._listed: dict[str, dict[str, list[str]]] = {}

    def find(self, folder: Path, parts: Sequence[str]) -> Path | None:
        """`folder/parts`, or the one entry that has the same names in another Unicode form or case; else None."""
        place = folder
        for part in parts:
            name = next((form for form in _forms(part) if os.path.lexists(place / form)), None)
            if name is None:
                alike = self.alike(place, part)
                name = alike[0] if len(alike) == 1 else None
            if name is None:
                return None
            place /= name
        return place

    def alike(self, folder: Path, name: str) -> list[str]:
        """The entries of `folder` whose names differ from `name` by Unicode form and case alone, sorted."""
        return self._names(folder).get(_folded(name), [])

    def pictures(self, folder: Path, stem: str) -> list[str]:
        """The pictures in `folder` whose names without ending differ from `stem` by Unicode form and case alone, in the
        order of `PICTURE_ENDINGS`."""
        folded = _folded(stem)
        names = (name for ending in PICTURE_ENDINGS for name in self._names(folder).get(f"{folded}{ending}", []))
        return list(names)

    def _names(self, folder: Path) -> dict[str, list[str]]:
        key = str(folder)
        if key not in self._listed:
            try:
                entries = sorted(os.listdir(folder))
            except OSError:
                entries = []
            listed: dict[str, list[str]] = {}
            for entry in entries:
                listed.setdefault(_folded(entry), []).append(entry)
            self._listed[key] = listed
        return self._listed[key]


@dataclasses.dataclass(kw_only=True)
class PictureFinder:
    """Finds the pictures of a list.

    `bases` are what names are relative to, in their order; `inside` are the folders that a picture may lie in. With
    `shorten`, leading folders of a name are left out until something is found below the one base.
    """

    bases: tuple[Path, ...]
    inside: tuple[Path, ...]
    shorten: bool = False
    named: bool = True  # whether the option `images` can name another folder
    _spellings: Spellings = dataclasses.field(default_factory=Spellings)
    _done: dict[str, tuple[Path, str]] = dataclasses.field(default_factory=dict)
    _shortened: dict[Path, tuple[str, ...]] = dataclasses.field(default_factory=dict)

    def find(self, name: str, *, where: str) -> tuple[Path, str]:
        """(the picture's path, the photo's name) for `name`, which stands in a list at `where`.

        The photo's name is the path with slashes, relative to the folder that the list's names are relative to. A
        picture that is not there gets the first path where it might be: whoever reads it says that it is missing.

        Raises:
          InputError: `name` is empty or holds control characters, leads out of the folders, or may stand for several
            pictures.
        """
        if name not in self._done:
            refuse_odd_name(name, where=where)
            self._done[name] = self._find(name, where)
        return self._done[name]

    def _find(self, name: str, where: str) -> tuple[Path, str]:
        written = name.replace("\\", "/")
        drive = PureWindowsPath(name).drive.replace("\\", "/")
        anchored = written.startswith("/") or bool(drive)
        parts = tuple(part for part in written.removeprefix(drive).split("/") if part not in ("", "."))
        places = [place for place in self._places(name, written, parts, anchored, bool(drive)) if place]
        if not places:
            folder = self.inside[0]
            option = (
                "give --images FOLDER (--data.images FOLDER), the folder of the pictures, or " if self.named else ""
            )
            raise InputError(f"{where}: {quoted(name)} leads out of the data folder {folder}: {option}correct the name")
        found = next((place for place in places if _is_there(Path(place[0], *place[1]))), None)
        path = None if found is None else Path(found[0], *found[1])
        if path is None:
            for folder, inner in places:
                if (path := self._spellings.find(folder, inner)) is not None and not os.path.isdir(path):
                    break
                path = None
        if path is None:
            path = Path(places[0][0], *places[0][1])
        if self.shorten:
            self._refuse_two(path, parts, name, where)
        plain = not (self.shorten or anchored or ".." in parts)
        photo = "/".join(parts) if plain else _below(path, self.inside)
        return path, unicodedata.normalize("NFC", photo)

    def _places(
        self, name: str, written: str, parts: tuple[str, ...], anchored: bool, drive: bool
    ) -> Iterator[tuple[Path, tuple[str, ...]] | None]:
        """Where the picture may be: (one of `inside`, parts below it); None for a place outside."""
        if os.path.normpath(f"/{'/'.join(parts)}") == "/":  # the folder itself
            return
        for base in self.bases:
            if written != name or drive:  # a file's name may really hold a backslash or a colon
                literal = self._inside(base / name)
                if literal and os.path.lexists(Path(literal[0], *literal[1])):
                    yield literal
        if self.shorten:
            kept = tuple(os.path.normpath("/".join(("", *parts))).strip("/").split("/"))
            yield from (self._inside(self.bases[0].joinpath(*kept[start:])) for start in range(len(kept)))
        elif not anchored:
            climbs = os.path.normpath(written).split("/")[0] == ".."  # from where the list lies, not from `images`
            yield from (self._inside(base / written) for base in self.bases[: 1 if climbs else None])
        elif not drive:
            yield self._inside(Path(written))

    def _inside(self, path: Path) -> tuple[Path, tuple[str, ...]] | None:
        absolute = Path(os.path.abspath(path))
        for folder in self.inside:
            root = Path(os.path.abspath(folder))
            if absolute != root and absolute.is_relative_to(root):
                return folder, absolute.relative_to(root).parts
        return None

    def _refuse_two(self, path: Path, parts: tuple[str, ...], name: str, where: str) -> None:
        """Without their folders two names may be alike, and one picture must not stand for both."""
        other = self._shortened.setdefault(path, parts)
        shorter = min(len(other), len(parts))
        if other[len(other) - shorter :] != parts[len(parts) - shorter :]:
            raise InputError(
                f"{where}: {quoted(name)} and {quoted('/'.join(other))} would both be {path}: give as images the "
                "folder above it, where each is in a folder of its own"
            )


def finder_below(folder: str | Path) -> PictureFinder:
    """For a published set: names are relative to `folder`, and pictures lie below it."""
    return PictureFinder(bases=(Path(folder),), inside=(Path(folder),), named=False)


def finder_of_list(listing: str | Path, *, images: str = "") -> PictureFinder:
    """For the list `listing` of one's own data; `images` is the folder of its pictures, where that is given.

    Raises:
      InputError: `images` is no folder.
    """
    inside = folders_of_list(listing, images=images)
    if images:
        if not os.path.isdir(images):
            raise InputError(f"{images}: no such folder: give the folder of the list's pictures as images")
        return PictureFinder(bases=inside, inside=inside, shorten=True)
    here = Path(listing).parent
    root = _parent(here)
    bases = [here, here / "images", root / "images", root]
    # COCO's own layout: annotations/instances_train2017.json beside train2017/
    words = re.split("[_ ]", Path(listing).stem)
    ends = ["_".join(words[start:]) for start in range(len(words))]
    bases += [folder / end for end in ends if end for folder in (root, root / "images")]
    return PictureFinder(bases=tuple(bases), inside=inside)


def folders_of_list(listing: str | Path, *, images: str = "") -> tuple[Path, ...]:
    """The folders in which the pictures of `listing` may lie: `images`, or the list's own, and `images` beside it, and
    where the list's folder is called `annotations` or so (`ANNOTATION_FOLDERS`), its parent."""
    if images:
        return (Path(images),)
    here = Path(listing).parent
    root = _parent(here)
    whole = (root,) if os.path.basename(os.path.abspath(here)).lower() in ANNOTATION_FOLDERS else ()
    return (here, root / "images", *whole)


def picture_beside(path: Path, spellings: Spellings, *, folder: Path | None = None) -> Path:
    """The picture that has the name of the annotation file `path`, in its folder or in `folder`, with any of
    `PICTURE_ENDINGS` in any case; the name may be spelled in another Unicode form.

    Raises:
      InputError: there is none.
    """
    folder = path.parent if folder is None else folder
    if (found := picture_of_stem(folder, path.stem, spellings)) is not None:
        return found
    place = "beside it" if folder == path.parent else f"in {folder}"
    endings = ", ".join(PICTURE_ENDINGS[:6])
    raise InputError(f"{path}: no picture of that name {place} ({endings} ...): add it")


def picture_of_stem(folder: Path, stem: str, spellings: Spellings) -> Path | None:
    """The picture in `folder` whose name without ending is `stem`; see `picture_beside`."""
    for ending in PICTURE_ENDINGS[:3]:  # the usual ones, without listing the folder
        if os.path.exists(picture := folder / f"{stem}{ending}"):
            return picture
    names = spellings.pictures(folder, stem)
    exact = [name for name in names if name.startswith(stem)] or names
    return folder / exact[0] if exact else None


def picture_named(path: Path, spellings: Spellings) -> Path:
    """`path`, or where that is not there, the picture beside whose name differs in Unicode form, case or ending."""
    if os.path.exists(path):
        return path
    alike = [name for name in spellings.alike(path.parent, path.name) if is_picture(Path(name))]
    if len(alike) == 1:
        return path.parent / alike[0]
    return picture_of_stem(path.parent, path.stem, spellings) or path


def refuse_odd_name(name: str, *, where: str) -> None:
    """Raise InputError where `name`, which stands in a list at `where`, is empty or cannot be a file's name."""
    if not name.strip():
        raise InputError(f"{where}: a picture's name is missing: correct this entry")
    if any(unicodedata.category(sign) == "Cc" or sign in SEPARATORS for sign in name) or not _is_encodable(name):
        raise InputError(f"{where}: {quoted(name)} is no picture's name: correct this entry")
    if len(name) > LONGEST:
        raise InputError(
            f"{where}: {quoted(name)}, {len(name)} characters, is no picture's name: write pixels to a file and name it"
        )


def _is_encodable(name: str) -> bool:
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return False
    return True


def _is_there(path: Path) -> bool:
    return os.path.lexists(path) and not os.path.isdir(path)


def _parent(folder: Path) -> Path:
    """The folder above, also where `folder` is "." or ends in ".."."""
    return folder.parent if folder.name not in ("", "..") else Path(os.path.abspath(folder)).parent


def _below(path: Path, folders: Sequence[Path]) -> str:
    return next((path.relative_to(folder).as_posix() for folder in folders if path.is_relative_to(folder)), path.name)


def _forms(name: str) -> list[str]:
    """How a file system may hold `name`: as it is, composed, decomposed (macOS), or in Latin-1 (old archives)."""
    forms = [name]
    if not name.isascii():
        forms += [unicodedata.normalize(form, name) for form in ("NFC", "NFD")]
        with contextlib.suppress(UnicodeError):
            forms.append(os.fsdecode(name.encode("latin-1")))
    return forms


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())

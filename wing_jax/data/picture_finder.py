"""Find the pictures that a list names, or that are beside an annotation file, in the allowed folders.

Lists are often written on other machines. Their names may be relative to the list's folder, to an `images` folder in it
or beside it, or to the data set's root; they may contain backslashes, `..`, or the same letters in another Unicode form
or case than the file system. A `PictureFinder` never returns a path outside its folders.
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

# A list in a folder with one of these names belongs to the data set in the parent folder.
ANNOTATION_FOLDERS = (
    "annotation", "annotations", "anno", "annos", "label", "labels", "list", "lists", "split", "splits", "meta",
    "metadata", "xml", "json", "csv",
)  # fmt: skip
MAX_LENGTH = 4096  # characters of a path


class Spellings:
    """Finds files whose names differ in Unicode form or case. Each folder is listed at most once."""

    def __init__(self) -> None:
        self._entries: dict[str, dict[str, list[str]]] = {}

    def find(self, folder: Path, parts: Sequence[str]) -> Path | None:
        """Return `folder/parts`, or the only entry with the same names in another Unicode form or case; else None."""
        path = folder
        for part in parts:
            name = next((form for form in _list_forms(part) if os.path.lexists(path / form)), None)
            if name is None:
                similar = self.similar(path, part)
                name = similar[0] if len(similar) == 1 else None
            if name is None:
                return None
            path /= name
        return path

    def similar(self, folder: Path, name: str) -> list[str]:
        """Return the entries of `folder` whose names differ from `name` only in Unicode form and case, sorted."""
        return self._names(folder).get(_normalize(name), [])

    def pictures(self, folder: Path, stem: str) -> list[str]:
        """Return the pictures in `folder` whose stems differ from `stem` only in Unicode form and case.

        They are in the order of `PICTURE_ENDINGS`.
        """
        normalized = _normalize(stem)
        names = (name for ending in PICTURE_ENDINGS for name in self._names(folder).get(f"{normalized}{ending}", []))
        return list(names)

    def _names(self, folder: Path) -> dict[str, list[str]]:
        key = str(folder)
        if key not in self._entries:
            try:
                names = sorted(os.listdir(folder))
            except OSError:
                names = []
            entries: dict[str, list[str]] = {}
            for name in names:
                entries.setdefault(_normalize(name), []).append(name)
            self._entries[key] = entries
        return self._entries[key]


@dataclasses.dataclass(kw_only=True)
class PictureFinder:
    """Finds the pictures of a list.

    `bases` are the folders that names may be relative to, in this order; `inside` are the folders that may contain the
    pictures. With `shorten`, leading folders of a name are removed until a file is found below the only base.
    """

    bases: tuple[Path, ...]
    inside: tuple[Path, ...]
    shorten: bool = False
    named: bool = True  # whether the option `images` can set another folder
    _spellings: Spellings = dataclasses.field(default_factory=Spellings)
    _results: dict[str, tuple[Path, str]] = dataclasses.field(default_factory=dict)
    _shortened: dict[Path, tuple[str, ...]] = dataclasses.field(default_factory=dict)

    def find(self, name: str, *, location: str) -> tuple[Path, str]:
        """Return (the picture's path, the photo's name) for `name`, which a list contains at `location`.

        The photo's name is the path with slashes, relative to the folder that the list's names are relative to. For a
        missing picture the first possible path is returned: reading it reports that it is missing.

        Raises:
          InputError: `name` is empty, contains control characters, leads out of the folders, or is ambiguous.
        """
        if name not in self._results:
            check_name(name, location=location)
            self._results[name] = self._find(name, location)
        return self._results[name]

    def _find(self, name: str, location: str) -> tuple[Path, str]:
        written = name.replace("\\", "/")
        drive = PureWindowsPath(name).drive.replace("\\", "/")
        absolute = written.startswith("/") or bool(drive)
        parts = tuple(part for part in written.removeprefix(drive).split("/") if part not in ("", "."))
        candidates = [place for place in self._candidates(name, written, parts, absolute, bool(drive)) if place]
        if not candidates:
            folder = self.inside[0]
            option = (
                "pass --images FOLDER (--data.images FOLDER), the folder of the pictures, or " if self.named else ""
            )
            raise InputError(
                f"{location}: {quoted(name)} points outside the data folder {folder}: {option}correct the name"
            )
        paths = [Path(folder, *inner) for folder, inner in candidates]
        path = next((path for path in paths if _exists(path)), None)
        if path is None:
            for folder, inner in candidates:
                if (path := self._spellings.find(folder, inner)) is not None and not os.path.isdir(path):
                    break
                path = None
        if path is None:
            path = paths[0]
        if self.shorten:
            self._check_unique(path, parts, name, location)
        is_relative = not (self.shorten or absolute or ".." in parts)
        photo = "/".join(parts) if is_relative else _relative_name(path, self.inside)
        return path, unicodedata.normalize("NFC", photo)

    def _candidates(
        self, name: str, written: str, parts: tuple[str, ...], absolute: bool, drive: bool
    ) -> Iterator[tuple[Path, tuple[str, ...]] | None]:
        """Yield possible locations of the picture: (one of `inside`, parts below it); None for one outside."""
        if os.path.normpath(f"/{'/'.join(parts)}") == "/":  # the folder itself
            return
        for base in self.bases:
            if written != name or drive:  # a file's name may really contain a backslash or a colon
                literal = self._locate(base / name)
                if literal and os.path.lexists(Path(literal[0], *literal[1])):
                    yield literal
        if self.shorten:
            resolved = tuple(os.path.normpath("/".join(("", *parts))).strip("/").split("/"))
            yield from (self._locate(self.bases[0].joinpath(*resolved[start:])) for start in range(len(resolved)))
        elif not absolute:
            climbs = os.path.normpath(written).split("/")[0] == ".."  # relative to the list's folder, not to `images`
            yield from (self._locate(base / written) for base in self.bases[: 1 if climbs else None])
        elif not drive:
            yield self._locate(Path(written))

    def _locate(self, path: Path) -> tuple[Path, tuple[str, ...]] | None:
        absolute = Path(os.path.abspath(path))
        for folder in self.inside:
            root = Path(os.path.abspath(folder))
            if absolute != root and absolute.is_relative_to(root):
                return folder, absolute.relative_to(root).parts
        return None

    def _check_unique(self, path: Path, parts: tuple[str, ...], name: str, location: str) -> None:
        """Raise InputError if two different names lead to the same picture once their folders are removed."""
        other = self._shortened.setdefault(path, parts)
        shorter = min(len(other), len(parts))
        if other[len(other) - shorter :] != parts[len(parts) - shorter :]:
            raise InputError(
                f"{location}: {quoted(name)} and {quoted('/'.join(other))} would both be {path}: pass as images the "
                "folder above it, with a separate folder for each"
            )


def finder_below(folder: str | Path) -> PictureFinder:
    """Return the finder for a published set: names are relative to `folder`, and pictures are below it."""
    return PictureFinder(bases=(Path(folder),), inside=(Path(folder),), named=False)


def finder_of_list(listing: str | Path, *, images: str = "") -> PictureFinder:
    """Return the finder for your own list `listing`; `images` is the folder of its pictures, if set.

    Raises:
      InputError: `images` is not a folder.
    """
    inside = folders_of_list(listing, images=images)
    if images:
        if not os.path.isdir(images):
            raise InputError(f"{images}: no such folder: pass the folder of the list's pictures as images")
        return PictureFinder(bases=inside, inside=inside, shorten=True)
    parent = Path(listing).parent
    root = _parent(parent)
    bases = [parent, parent / "images", root / "images", root]
    # COCO's own layout: annotations/instances_train2017.json beside train2017/
    words = re.split("[_ ]", Path(listing).stem)
    suffixes = ["_".join(words[start:]) for start in range(len(words))]
    bases += [folder / suffix for suffix in suffixes if suffix for folder in (root, root / "images")]
    return PictureFinder(bases=tuple(bases), inside=inside)


def folders_of_list(listing: str | Path, *, images: str = "") -> tuple[Path, ...]:
    """Return the folders that may contain the pictures of `listing`.

    This is `images`, if set; else the list's folder and the folder `images` beside it, and the parent of a list's
    folder called `annotations` or the like (`ANNOTATION_FOLDERS`).
    """
    if images:
        return (Path(images),)
    parent = Path(listing).parent
    root = _parent(parent)
    extra = (root,) if os.path.basename(os.path.abspath(parent)).lower() in ANNOTATION_FOLDERS else ()
    return (parent, root / "images", *extra)


def find_picture_beside(path: Path, spellings: Spellings, *, folder: Path | None = None) -> Path:
    """Return the picture with the name of the annotation file `path`, in its folder or in `folder`.

    It may have any of `PICTURE_ENDINGS`, in upper or lower case, and its name another Unicode form.

    Raises:
      InputError: there is none.
    """
    folder = path.parent if folder is None else folder
    if (picture := find_picture_of_stem(folder, path.stem, spellings)) is not None:
        return picture
    location = "beside it" if folder == path.parent else f"in {folder}"
    endings = ", ".join(PICTURE_ENDINGS[:6])
    raise InputError(f"{path}: no picture of that name {location} ({endings} ...): add it")


def find_picture_of_stem(folder: Path, stem: str, spellings: Spellings) -> Path | None:
    """Return the picture in `folder` whose stem is `stem`; see `find_picture_beside`."""
    for ending in PICTURE_ENDINGS[:3]:  # the common ones, without listing the folder
        if os.path.exists(picture := folder / f"{stem}{ending}"):
            return picture
    names = spellings.pictures(folder, stem)
    exact = [name for name in names if name.startswith(stem)] or names
    return folder / exact[0] if exact else None


def find_picture_named(path: Path, spellings: Spellings) -> Path:
    """Return `path`, or if it does not exist, a picture whose name differs in Unicode form, case or ending."""
    if os.path.exists(path):
        return path
    similar = [name for name in spellings.similar(path.parent, path.name) if is_picture(Path(name))]
    if len(similar) == 1:
        return path.parent / similar[0]
    return find_picture_of_stem(path.parent, path.stem, spellings) or path


def check_name(name: str, *, location: str) -> None:
    """Raise InputError if `name`, which a list contains at `location`, is empty or cannot be a file's name."""
    if not name.strip():
        raise InputError(f"{location}: a picture's name is missing: correct this entry")
    if any(unicodedata.category(letter) == "Cc" or letter in SEPARATORS for letter in name) or not _is_encodable(name):
        raise InputError(f"{location}: {quoted(name)} is not a file name: correct this entry")
    if len(name) > MAX_LENGTH:
        raise InputError(
            f"{location}: {quoted(name)}, {len(name)} characters, is not a file name: write the pixels to a file"
        )


def _is_encodable(name: str) -> bool:
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return False
    return True


def _exists(path: Path) -> bool:
    return os.path.lexists(path) and not os.path.isdir(path)


def _parent(folder: Path) -> Path:
    """Return the parent folder, also if `folder` is "." or ends in ".."."""
    return folder.parent if folder.name not in ("", "..") else Path(os.path.abspath(folder)).parent


def _relative_name(path: Path, folders: Sequence[Path]) -> str:
    return next((path.relative_to(folder).as_posix() for folder in folders if path.is_relative_to(folder)), path.name)


def _list_forms(name: str) -> list[str]:
    """Return the forms in which a file system may store `name`.

    They are unchanged, composed, decomposed (macOS), or in Latin-1 (old archives).
    """
    forms = [name]
    if not name.isascii():
        forms += [unicodedata.normalize(form, name) for form in ("NFC", "NFD")]
        with contextlib.suppress(UnicodeError):
            forms.append(os.fsdecode(name.encode("latin-1")))
    return forms


def _normalize(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())

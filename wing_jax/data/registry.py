"""The registry of readers: every data set by name, its splits, and the files by which it is detected.

    @register_reader(title="my faces, 5 points", splits=("train", "test"), folder="mine", marks=("labels.json",))
    def read_mine(root, split, *, faults=None): ...         # -> FaceSet; called "mine"

A reader of one's own annotations, each split of which is a folder or file of its own, takes no split:

    @register_reader(title="my own list", endings=(".mine",), names_pictures=True)
    def read_my_list(root, *, scheme, images="", faults=None): ...

What `load_faces` gives to a reader is told by the names of its parameters: `root` (Path); `split`; `scheme` (`Scheme`),
which must then be given; `images` (str), the folder of the pictures; `detector` (bool), for boxes="detector"; `count`
and `seed`, of faces that are drawn; `faults`, a list that takes the message of each face that is left out.

A package that is installed can announce its reader as an entry point of the group "wing_jax.readers".
"""

import dataclasses
import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from wing_jax.errors import InputError
from wing_jax.runtime.files import is_hidden
from wing_jax.runtime.registry import Registry

Function = TypeVar("Function", bound=Callable[..., Any])
AUTO = "auto"  # the name that stands for the one that is detected
PACKAGE = "wing_jax.data.readers"  # each module of it registers its own
MODULES = ("wing_jax.data.packed", "wing_jax.data.tfds.sets")  # and these


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reader:
    """A data set as published, or one form of one's own data."""

    title: str
    read: Callable[..., Any]  # (root, split, *, ...) or (root, *, ...) -> FaceSet; see the module
    splits: tuple[str, ...] = ("train", "test")  # (): each split is a file or folder of its own
    folder: str = ""  # its usual name below WING_JAX_DATA
    marks: tuple[str, ...] = ()  # patterns below the root, by any of which it is detected
    endings: tuple[str, ...] = ()  # of files that are such a set
    names_pictures: bool = False  # a list of pictures, whose folder may be given (the option `images`)
    rootless: bool = False  # takes an empty root
    splits_of: Callable[[str], tuple[str, ...]] | None = None  # those below a root, where that differs from set to set

    @functools.cached_property
    def parameters(self) -> tuple[str, ...]:
        """The names of what `read` takes."""
        return tuple(inspect.signature(self.read).parameters)


def _adopted(name: str, loaded: Any) -> Reader:
    if not callable(loaded):
        raise InputError(f"the entry point {name!r} of wing_jax.readers is no function: name one (root, split)")
    return _reader(loaded, title=name)


def _import_readers() -> None:
    package = importlib.import_module(PACKAGE)
    names = [f"{PACKAGE}.{module.name}" for module in pkgutil.iter_modules(package.__path__)]
    for name in (*names, *MODULES):
        importlib.import_module(name)


READERS: Registry[Reader] = Registry("data set", group="wing_jax.readers", adopt=_adopted, builtin=_import_readers)


def register_reader(
    function: Any = None,
    /,
    *,
    name: str | None = None,
    title: str = "",
    splits: tuple[str, ...] = ("train", "test"),
    folder: str = "",
    marks: tuple[str, ...] = (),
    endings: tuple[str, ...] = (),
    names_pictures: bool = False,
    rootless: bool = False,
    splits_of: Callable[[str], tuple[str, ...]] | None = None,
) -> Any:
    """Register a function that reads faces, so that configs, commands and `load_faces` can name its data set.

    >>> @register_reader(title="my faces")
    ... def read_mine(root, split, *, faults=None):
    ...     return FaceSet.from_arrays(...)
    >>> READERS["mine"].splits
    ('train', 'test')

    Args:
      function: `(root, split, *, ...) -> FaceSet`, or without a split; the module tells what it may take.
      name: what to call the data set; None: the function's name without "read_".
      title: what tables call it.
      splits: that it has; a reader that takes no split has none.
      folder: its usual name below WING_JAX_DATA, where it is looked for when no root is given.
      marks: patterns of files below its root, any of which tells it from other sets.
      endings: of files that are such a set, as ".json".
      names_pictures: whether it is a list of pictures, whose folder the option `images` may give.
      rootless: whether it takes an empty root.
      splits_of: `(root) -> names` of the splits that are there, where that differs from set to set.

    Returns:
      The function itself; without one, the decorator.

    Raises:
      ValueError: the name is taken.
      InputError: what is given is no function that takes a root.
    """

    def register(function: Function) -> Function:
        chosen = name or getattr(function, "__name__", "").removeprefix("read_")
        reader = _reader(
            function,
            title=title or chosen,
            splits=splits,
            folder=folder,
            marks=marks,
            endings=endings,
            names_pictures=names_pictures,
            rootless=rootless,
            splits_of=splits_of,
        )
        if chosen == AUTO:
            raise ValueError(f"a data set cannot be called {AUTO!r}, which stands for the one that is detected")
        READERS.add(chosen, reader, origin=function)
        return function

    return register if function is None else register(function)


def _reader(function: Any, **options: Any) -> Reader:
    if not callable(function) or "root" not in inspect.signature(function).parameters:
        raise InputError(f"a reader is a function of a root, not {function!r}: def read_mine(root, split, *, faults)")
    reader = Reader(read=function, **options)
    return reader if "split" in reader.parameters else dataclasses.replace(reader, splits=())


def listed(faults: list[str]) -> list[tuple[str, Reader]]:
    """All readers by name, in the order in which their files are looked for: published sets, one's own, others.

    Those of packages that cannot be imported are left out, and `faults` takes the messages.
    """
    found = []
    for name in READERS:
        try:
            found.append((name, READERS[name]))
        except InputError as error:
            faults.append(str(error))
    return sorted(found, key=_place)


def _place(entry: tuple[str, Reader]) -> tuple[bool, bool, str]:
    name, reader = entry
    return not (reader.marks or reader.endings), not reader.splits, name


def detect(root: str | Path) -> str:
    """The name of the data set in the folder or file `root`, by its files; published sets before one's own.

    Raises:
      InputError: it is not there, or its files are of no known layout.
    """
    root, faults = Path(root), list[str]()
    readers = listed(faults)
    names = {ending: name for name, reader in readers for ending in reader.endings}
    if root.is_file() and root.suffix.lower() in names:
        return names[root.suffix.lower()]
    if root.is_file():
        raise InputError(
            f"{root}: a file of another kind than {', '.join(names)}: unpack or convert it, or give --data"
        )
    if not root.is_dir():
        raise InputError(f"{root}: no such folder: give a data set's folder, or an .xml, .json or .csv file")
    for name, reader in readers:
        if any(not is_hidden(path, below=root) for mark in reader.marks for path in root.glob(mark)):
            return name
    known = ", ".join(name for name, _ in readers)
    aside = f" (left out: {'; '.join(faults)})" if faults else ""
    raise InputError(f"{root}: its files are of no known layout: give --data, one of {known}{aside}")

"""The registry of readers: the data sets by name, with their splits and the files that identify them.

    @register_reader(title="my faces, 5 points", splits=("train", "test"), folder="mine", patterns=("labels.json",))
    def read_mine(root, split, *, faults=None): ...         # -> FaceSet; called "mine"

A reader of custom annotations without splits, where each folder or file is one set, takes no split:

    @register_reader(title="my own list", extensions=(".mine",), names_pictures=True)
    def read_my_list(root, *, scheme, images="", faults=None): ...

`load_faces` passes the arguments that a reader has as parameters: `root` (Path); `split`; `scheme` (`Scheme`), which
the user must then pass; `images` (str), the folder of the pictures; `detector` (bool), for boxes="detector"; `count`
and `seed`, for rendered faces; `faults`, a list to which the message of each skipped face is added.

An installed package can provide a reader as an entry point of the group "wing_jax.readers".
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
AUTO = "auto"  # the name that detects the data set
PACKAGE = "wing_jax.data.readers"  # each of its modules registers readers
MODULES = ("wing_jax.data.packed", "wing_jax.data.tfds.sets")  # these modules do so too


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reader:
    """A published data set, or a format of custom data."""

    title: str
    read: Callable[..., Any]  # (root, split, *, ...) or (root, *, ...) -> FaceSet; see the module
    splits: tuple[str, ...] = ("train", "test")  # (): no splits, a file or folder is one set
    folder: str = ""  # its default name below WING_JAX_DATA
    patterns: tuple[str, ...] = ()  # patterns of files below the root; any match identifies the set
    extensions: tuple[str, ...] = ()  # extensions of files that are such a set
    names_pictures: bool = False  # a list of pictures, whose folder may be set (the option `images`)
    root_optional: bool = False  # accepts an empty root
    find_splits: Callable[[str], tuple[str, ...]] | None = None  # the splits below a root, if they vary

    @functools.cached_property
    def parameters(self) -> tuple[str, ...]:
        """The names of the parameters of `read`."""
        return tuple(inspect.signature(self.read).parameters)


def _adopt(name: str, loaded: Any) -> Reader:
    if not callable(loaded):
        raise InputError(
            f"the entry point {name!r} of wing_jax.readers is not a function: it must name a function (root, split)"
        )
    return _make_reader(loaded, title=name)


def _import_readers() -> None:
    package = importlib.import_module(PACKAGE)
    names = [f"{PACKAGE}.{module.name}" for module in pkgutil.iter_modules(package.__path__)]
    for name in (*names, *MODULES):
        importlib.import_module(name)


READERS: Registry[Reader] = Registry("data set", group="wing_jax.readers", adopt=_adopt, builtin=_import_readers)


def register_reader(
    function: Any = None,
    /,
    *,
    name: str | None = None,
    title: str = "",
    splits: tuple[str, ...] = ("train", "test"),
    folder: str = "",
    patterns: tuple[str, ...] = (),
    extensions: tuple[str, ...] = (),
    names_pictures: bool = False,
    root_optional: bool = False,
    find_splits: Callable[[str], tuple[str, ...]] | None = None,
) -> Any:
    """Register a data set reader under a name that configs, commands and `load_faces` accept.

    >>> @register_reader(title="my faces")
    ... def read_mine(root, split, *, faults=None):
    ...     return FaceSet.from_arrays(...)
    >>> READERS["mine"].splits
    ('train', 'test')

    Args:
      function: `(root, split, *, ...) -> FaceSet`, or `(root, *, ...)`; `wing_jax.data.registry` lists the other
        parameters.
      name: the name of the data set; None: the function's name without "read_".
      title: its name in tables; empty: `name`.
      splits: its splits; ignored for a reader that takes no split.
      folder: its default name below WING_JAX_DATA, used if no root is passed.
      patterns: glob patterns of files below its root; any match identifies the set.
      extensions: extensions of the files that are such a set, for example (".json",).
      names_pictures: whether its file names pictures, whose folder the option `images` may set.
      root_optional: whether it needs no files, so that the root may be empty.
      find_splits: `(root) -> names` returns the splits below a root, if they vary.

    Returns:
      The function itself; without one, the decorator.

    Raises:
      ValueError: the name is already registered.
      InputError: `function` is not a function that takes a root.
    """

    def register(function: Function) -> Function:
        reader_name = name or getattr(function, "__name__", "").removeprefix("read_")
        reader = _make_reader(
            function,
            title=title or reader_name,
            splits=splits,
            folder=folder,
            patterns=patterns,
            extensions=extensions,
            names_pictures=names_pictures,
            root_optional=root_optional,
            find_splits=find_splits,
        )
        if reader_name == AUTO:
            raise ValueError(f"a data set cannot be called {AUTO!r}: this name detects the data set")
        READERS.add(reader_name, reader, origin=function)
        return function

    return register if function is None else register(function)


def _make_reader(function: Any, **options: Any) -> Reader:
    if not callable(function) or "root" not in inspect.signature(function).parameters:
        raise InputError(
            f"a reader must be a function of a root, not {function!r}: def read_mine(root, split, *, faults)"
        )
    reader = Reader(read=function, **options)
    return reader if "split" in reader.parameters else dataclasses.replace(reader, splits=())


def list_readers(faults: list[str]) -> list[tuple[str, Reader]]:
    """Return all readers by name, in the order of detection: published sets, custom formats, others.

    Readers of packages that cannot be imported are skipped, and their messages are added to `faults`.
    """
    readers = []
    for name in READERS:
        try:
            readers.append((name, READERS[name]))
        except InputError as error:
            faults.append(str(error))
    return sorted(readers, key=_sort_key)


def _sort_key(entry: tuple[str, Reader]) -> tuple[bool, bool, str]:
    name, reader = entry
    return not (reader.patterns or reader.extensions), not reader.splits, name


def detect(root: str | Path) -> str:
    """Detect the data set in the folder or file `root` from its files; published sets come before custom formats.

    Raises:
      InputError: `root` does not exist, or its files have no known layout.
    """
    root, faults = Path(root), list[str]()
    readers = list_readers(faults)
    names = {ending: name for name, reader in readers for ending in reader.extensions}
    if root.is_file() and root.suffix.lower() in names:
        return names[root.suffix.lower()]
    if root.is_file():
        raise InputError(f"{root}: the file is none of {', '.join(names)}: unpack or convert it, or pass --data")
    if not root.is_dir():
        raise InputError(f"{root}: no such folder: pass a data set's folder, or an .xml, .json or .csv file")
    for name, reader in readers:
        if any(not is_hidden(path, below=root) for mark in reader.patterns for path in root.glob(mark)):
            return name
    known = ", ".join(name for name, _ in readers)
    skipped = f" (skipped: {'; '.join(faults)})" if faults else ""
    raise InputError(
        f"{root}: its files have no known layout: pass the name of the data set (--data), one of {known}{skipped}"
    )

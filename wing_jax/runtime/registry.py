"""Registries: what a config or a command line names. Any package can add to them, by a decorator or an entry point."""

import difflib
import importlib.metadata
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from wing_jax.errors import InputError
from wing_jax.text import quoted, reason

Entry = TypeVar("Entry")


class Registry(Mapping[str, Entry], Generic[Entry]):
    """The entries of one kind, by name: those that were added, and those of installed packages.

    A package announces an entry as an entry point of `group`, in its pyproject.toml:

        [project.entry-points."wing_jax.losses"]
        log_cosh = "my_package.losses:log_cosh"

    Its module is imported when the name is looked up, and not before. Either the module registers the name itself, by
    the decorator of this kind, or `adopt` makes an entry of the object that the entry point names.

    Args:
      kind: what messages call an entry, such as "loss".
      group: the group of the entry points, such as "wing_jax.losses".
      adopt: `(name, object) -> entry`, for objects that an entry point names and that are not registered yet.
      builtin: imports the modules of this package that add entries; called before the first look at them.
    """

    def __init__(
        self, kind: str, *, group: str, adopt: Callable[[str, Any], Entry], builtin: Callable[[], None] | None = None
    ):
        self.kind, self.group, self._adopt = kind, group, adopt
        self._builtin, self._importing = builtin, threading.RLock()
        self._entries: dict[str, Entry] = {}
        self._origins: dict[str, str] = {}

    def add(self, name: str, entry: Entry, *, origin: Any = None) -> None:
        """Add `entry` under `name`. `origin` is the function or class it was made of: one of the same module and name
        is replaced, so that a notebook's cell can run again.

        Raises:
          ValueError: the name is no word, or is taken by another entry.
        """
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9]\w*(-\w+)*", name):
            raise ValueError(f"a {self.kind} cannot be called {quoted(name)}: use letters, digits and underscores")
        place = f"{getattr(origin, '__module__', '')}:{getattr(origin, '__qualname__', '')}"
        if not place.startswith("wing_jax."):  # another package's: our own names are taken
            self._import_builtin()
        if name in self._entries and (origin is None or place != self._origins[name]):
            where = self._origins[name].rstrip(":") or "elsewhere"
            raise ValueError(f"a {self.kind} called {quoted(name)} is registered already, by {where}: use another name")
        self._entries[name], self._origins[name] = entry, place

    def remove(self, name: str) -> None:
        """Take out the entry called `name`, where it has been added or looked up; one of an entry point that is still
        installed comes back when it is looked up again."""
        self._entries.pop(name, None)
        self._origins.pop(name, None)

    def registered(self) -> Mapping[str, Entry]:
        """The entries that are there without importing anything more."""
        return dict(self._entries)

    def __getitem__(self, name: str) -> Entry:
        """The entry called `name`; the module of an entry point is imported.

        Raises:
          InputError: there is none, or its module cannot be imported; the message names those there are.
        """
        self._import_builtin()
        if name not in self._entries and (point := self._points().get(name)):
            try:
                loaded = point.load()
            except Exception as error:  # whatever another package's module raises
                raise InputError(
                    f"the {self.kind} {quoted(name)} of {quoted(point.value)} cannot be imported ({reason(error)}): "
                    "correct that package, or uninstall it"
                ) from error
            if name not in self._entries:
                self.add(name, self._adopt(name, loaded), origin=loaded)
        if name not in self._entries:
            raise InputError(self._unknown(name))
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        """All names, those of entry points without importing anything."""
        self._import_builtin()
        return iter(dict.fromkeys([*self._entries, *self._points()]))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __contains__(self, name: object) -> bool:
        self._import_builtin()
        return name in self._entries or name in self._points()

    def __repr__(self) -> str:
        return f"<Registry of {self.group}: {', '.join(self)}>"

    def _import_builtin(self) -> None:
        with self._importing:  # another thread waits until all are there; an import that looks up a name does not
            builtin, self._builtin = self._builtin, None
            if builtin is not None:
                builtin()

    def _points(self) -> dict[str, importlib.metadata.EntryPoint]:
        return {point.name: point for point in importlib.metadata.entry_points(group=self.group)}

    def _unknown(self, name: str) -> str:
        known = list(self)
        near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.6)
        hint = f"did you mean {near[0]}? There are" if near else "use one of"
        return f"no {self.kind} is called {quoted(name)}: {hint} {', '.join(known)}"

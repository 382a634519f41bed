"""Registries of named entries for configs and the command line; other packages can add to them."""

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
    """A registry of one kind of object (losses, models ...) by name.

    It has the entries that were added, and those of installed packages' entry points.

    A package declares an entry as an entry point of `group`, in its pyproject.toml:

        [project.entry-points."wing_jax.losses"]
        log_cosh = "my_package.losses:log_cosh"

    Its module is imported only when the name is looked up. Either the module registers the name itself, with the
    decorator of this kind, or `adopt` makes an entry from the object that the entry point names.

    Args:
      kind: what an entry is, for messages, such as "loss".
      group: the group of the entry points, such as "wing_jax.losses".
      adopt: `(name, object) -> entry`, for objects of entry points that are not registered yet.
      builtin: imports the modules of this package that add entries; called before the first lookup.
    """

    def __init__(
        self, kind: str, *, group: str, adopt: Callable[[str, Any], Entry], builtin: Callable[[], None] | None = None
    ):
        self.kind, self.group, self._adopt = kind, group, adopt
        self._builtin, self._importing = builtin, threading.RLock()
        self._entries: dict[str, Entry] = {}
        self._origins: dict[str, str] = {}

    def add(self, name: str, entry: Entry, *, origin: Any = None) -> None:
        """Add `entry` under `name`.

        `origin` is the function or class that the entry was made from. An entry whose origin has the same module and
        name is replaced, so that a notebook cell can run again.

        Raises:
          ValueError: the name is invalid, or another entry has it.
        """
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9]\w*(-\w+)*", name):
            raise ValueError(f"a {self.kind} cannot be called {quoted(name)}: use letters, digits and underscores")
        source = f"{getattr(origin, '__module__', '')}:{getattr(origin, '__qualname__', '')}"
        if not source.startswith("wing_jax."):  # another package may not take our names
            self._import_builtin()
        if name in self._entries and (origin is None or source != self._origins[name]):
            owner = self._origins[name].rstrip(":") or "another package"
            raise ValueError(f"a {self.kind} called {quoted(name)} is already registered by {owner}: use another name")
        self._entries[name], self._origins[name] = entry, source

    def remove(self, name: str) -> None:
        """Remove the entry called `name`, if there is one.

        The entry of an installed entry point returns on the next lookup.
        """
        self._entries.pop(name, None)
        self._origins.pop(name, None)

    def registered(self) -> Mapping[str, Entry]:
        """Return the entries so far, without importing any module."""
        return dict(self._entries)

    def __getitem__(self, name: str) -> Entry:
        """Return the entry called `name`; the module of an entry point is imported.

        Raises:
          InputError: the name is unknown (the message lists the known names), or its module cannot be imported.
        """
        self._import_builtin()
        if name not in self._entries and (point := self._entry_points().get(name)):
            try:
                loaded = point.load()
            except Exception as error:  # whatever another package's module raises
                raise InputError(
                    f"the {self.kind} {quoted(name)} of {quoted(point.value)} cannot be imported ({reason(error)}): "
                    "fix that package or uninstall it"
                ) from error
            if name not in self._entries:
                self.add(name, self._adopt(name, loaded), origin=loaded)
        if name not in self._entries:
            raise InputError(self._describe_unknown(name))
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over all names; the modules of entry points are not imported."""
        self._import_builtin()
        return iter(dict.fromkeys([*self._entries, *self._entry_points()]))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __contains__(self, name: object) -> bool:
        self._import_builtin()
        return name in self._entries or name in self._entry_points()

    def __repr__(self) -> str:
        return f"<Registry of {self.group}: {', '.join(self)}>"

    def _import_builtin(self) -> None:
        with self._importing:  # other threads wait; a lookup during the imports does not
            builtin, self._builtin = self._builtin, None
            if builtin is not None:
                builtin()

    def _entry_points(self) -> dict[str, importlib.metadata.EntryPoint]:
        return {point.name: point for point in importlib.metadata.entry_points(group=self.group)}

    def _describe_unknown(self, name: str) -> str:
        names = list(self)
        matches = difflib.get_close_matches(str(name), names, n=1, cutoff=0.6)
        hint = f"did you mean {matches[0]}? There are" if matches else "use one of"
        return f"no {self.kind} is called {quoted(name)}: {hint} {', '.join(names)}"

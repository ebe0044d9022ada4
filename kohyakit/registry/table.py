"""What a table of names is: an entry a name, with the code behind it and what else is known of it."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, TypeVar

from kohyakit.errors import ConfigError, MissingExtra, Problem


@dataclass(frozen=True, slots=True)
class Entry:
    """`target` is "module:object"; `package` and `extra` name what must be installed beyond the base.

    arguments: the names of what may be said to it: a network's network_args, an optimizer's optimizer_args, a
    schedule's lr_scheduler_args, a captioner's options.
    """

    target: str
    help: str
    aliases: tuple[str, ...] = ()
    package: str = ""
    extra: str = ""
    arguments: Collection[str] = ()

    @property
    def module(self) -> str:
        """What is imported of the package."""
        return self.package.replace("-", "_")


E = TypeVar("E", bound=Entry)


class Table(Mapping[str, E]):
    """A named set of entries; names are matched without regard to case."""

    def __init__(self, kind: str, entries: Mapping[str, E]) -> None:
        self.kind = kind
        self._entries = dict(entries)
        self._names = {
            name.lower(): canonical for canonical, entry in entries.items() for name in (canonical, *entry.aliases)
        }

    def __getitem__(self, name: str) -> E:
        return self._entries[self.canonical(name)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._names

    def add(self, name: str, entry: E) -> None:
        """One entry more, of somebody's own. What reads the table when it is imported sees it only if this comes first.

        Raises ConfigError for a name that is taken.
        """
        for own in (name, *entry.aliases):
            if own in self:
                raise ConfigError(Problem("", f"the {self.kind} '{own}' is there already", "choose another name"))
        self._entries[name] = entry
        self._names |= {own.lower(): name for own in (name, *entry.aliases)}

    def canonical(self, name: str) -> str:
        """The table's own spelling of a name or alias. Raises ConfigError with the nearest names."""
        try:
            return self._names[name.lower()]
        except KeyError:
            near = difflib.get_close_matches(name.lower(), self._names, n=1)
            cure = f"did you mean '{self._names[near[0]]}'?" if near else f"choose one of {', '.join(self)}"
            raise ConfigError(Problem("", f"unknown {self.kind} '{name}'", cure)) from None

    def load(self, name: str, which: str = "target") -> Any:
        """Import what the entry names as its target, or in another field.

        Raises MissingExtra when its optional package is not installed.
        """
        canonical = self.canonical(name)
        entry = self._entries[canonical]
        module, _, attribute = getattr(entry, which).partition(":")
        try:
            return getattr(import_module(module), attribute)
        except ModuleNotFoundError as error:
            if entry.package and (error.name or "").split(".")[0] != "kohyakit":
                raise MissingExtra(f"{self.kind} '{canonical}'", entry.package, entry.extra) from error
            raise

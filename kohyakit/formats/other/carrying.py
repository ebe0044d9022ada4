"""How settings of another trainer are carried over: a table from its names to ours, and a note for every key.

A rule is a parameter's name, a reason why the key is dropped (it begins with `!`), or a function of (reading, value).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from kohyakit.config.train import SPECS, Note
from kohyakit.errors import Problem
from kohyakit.formats.text import shorten

Rule = str | Callable[["Reading", Any], Any]
_INDEX = re.compile(r"\[\d+\]")


@dataclass(frozen=True, slots=True)
class Trainer:
    """Another trainer. kind: its short name in notes and records; name: what it is called; is_its_own: are these its
    settings? read: fills a Reading. dropped: key patterns -> why they have no place here."""

    kind: str
    name: str
    is_its_own: Callable[[Mapping[str, Any]], bool]
    read: Callable[[Mapping[str, Any], Reading], None]
    dropped: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True)
class Reading:
    """What became of the settings. values: by sd-scripts name. subsets: image folders for a dataset_config, each its
    table; general: what they share."""

    trainer: Trainer
    where: str
    values: dict[str, Any] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    subsets: list[dict[str, Any]] = field(default_factory=list)
    general: dict[str, Any] = field(default_factory=dict)
    args: dict[str, dict[str, Any]] = field(default_factory=dict)
    leaves: dict[str, Any] = field(default_factory=dict)
    told: set[str] = field(default_factory=set)
    key: str = ""

    def walk(self, values: Mapping[str, Any], rules: Mapping[str, Rule], prefix: str = "") -> None:
        """Apply a table to every key, the inner ones by their path (`train.lr`, `datasets[0].folder_path`)."""
        for path, value in leaves(values, prefix):
            self.leaves[path] = value
            rule = rules.get(_INDEX.sub("[]", path))
            if rule is None or path in self.told:
                continue
            self.key = path
            if isinstance(rule, str):
                self.drop(rule[1:]) if rule.startswith("!") else self.take(rule, value)
            else:
                rule(self, value)

    def take(self, name: str, value: Any, text: str = "") -> None:
        """The key at hand gives a parameter its value; none where it says nothing."""
        if value is None or value == "" or value == []:
            self.note("dropped", "not given")
            return
        self.values[name] = value
        self.note("mapped", text or (name if name != self.key else ""))

    def argument(self, where: str, name: str, value: Any) -> None:
        """The key at hand becomes an argument inside network_args, optimizer_args or lr_scheduler_args."""
        self.args.setdefault(where, {})[name] = value
        self.note("mapped", f"{name} in {where}")

    def drop(self, why: str) -> None:
        self.note("dropped", why)

    def note(self, action: str, text: str = "") -> None:
        self.told.add(self.key)
        self.notes.append(Note(self.key, action, text))

    def warn(self, what: str, cure: str = "", severity: str = "warning") -> None:
        self.problems.append(Problem(self.where, what, cure, "carried_over", severity))

    def default(self, name: str, value: Any) -> None:
        """What the other trainer takes where its file says nothing."""
        if name not in self.values:
            self.values[name] = value
            self.notes.append(Note(name, "defaulted", f"{shorten(value)}, {self.trainer.name}'s default"))

    def tell_rest(self) -> None:
        """A note for each key that no rule took, and the arguments as lists."""
        for path in self.leaves:
            if path in self.told:
                continue
            self.key = path
            why = next((why for pattern, why in self.trainer.dropped if re.match(pattern, path)), "")
            name = path.rpartition(".")[2]
            if why:
                self.drop(why)
            else:
                self.note("unknown", f"{self.trainer.name} may know it; sd-scripts has nothing like {name}"[:200])
        for where, arguments in self.args.items():
            given = list(self.values.get(where) or ())
            self.values[where] = [*given, *(f"{name}={_text(value)}" for name, value in arguments.items())]


def leaves(values: Mapping[str, Any], prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """(path, value) of everything that is no table; lists of tables are gone into, other lists are values."""
    for key, value in values.items():
        path = f"{prefix}{key}"
        if isinstance(value, dict) and value and depth < 12:
            yield from leaves(value, f"{path}.", depth + 1)
        elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value) and depth < 12:
            for place, item in enumerate(value):
                yield from leaves(item, f"{path}[{place}].", depth + 1)
        else:
            yield path, value


def same_names(reading: Reading, values: Mapping[str, Any], rules: Mapping[str, Rule], prefix: str = "") -> None:
    """As `walk`, where a key without a rule that is a name of sd-scripts means just that."""
    own = {f"{prefix}{key}": key for key in values if key in SPECS() and not SPECS()[key].about.own}
    reading.walk(values, {**own, **rules}, prefix)


def pairs(reading: Reading, where: str, value: Any) -> None:
    """Arguments written as a list of `name=value`, as text with blanks, or as a table."""
    if isinstance(value, Mapping):
        items = [f"{name}={_text(item)}" for name, item in value.items() if item is not None]
    elif isinstance(value, (list, tuple)):
        items = [str(item) for item in value if item not in (None, "")]
    else:
        items = str(value).split()
    if items:
        reading.values[where] = [*(reading.values.get(where) or ()), *items]
        reading.note("mapped", where)
    else:
        reading.drop("empty")


def number(value: Any) -> float | None:
    """A number, also where it is written as text; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if abs(found) < 1e30 else None


def size(value: Any) -> str | None:
    """A resolution in sd-scripts' words: 512, "768x512", [768, 512] -> "512", "768,512"."""
    parts = value if isinstance(value, (list, tuple)) else re.split(r"[,x×*]", str(value).strip().lower())
    numbers = [number(part) for part in parts]
    if not 1 <= len(numbers) <= 2 or any(found is None or found < 1 or found > 1e6 for found in numbers):
        return None
    return ",".join(str(int(found)) for found in numbers if found is not None)


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value))
    return str(value)


def dataset_toml(reading: Reading) -> str:
    """The image folders as a dataset_config; "" where there are none."""
    if not reading.subsets:
        return ""
    from kohyakit.formats.train_toml import literal

    lines = ["[general]", *(f"{name} = {literal(value)}" for name, value in reading.general.items()), ""]
    lines += ["[[datasets]]"]
    for subset in reading.subsets:
        lines += ["", "[[datasets.subsets]]", *(f"{name} = {literal(value)}" for name, value in subset.items())]
    return "\n".join(lines) + "\n"

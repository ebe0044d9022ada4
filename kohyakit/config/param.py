"""A parameter is declared once: name, type, default, bounds, choices, the GUI's name, help, what to try when.

The command line, the schema, the docs' table, the readers, the dashboard's form and `explain` all come from
the one `param(...)` line. Field names are sd-scripts' own option names.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from functools import lru_cache
from typing import Any

from kohyakit import words


@dataclass(frozen=True, slots=True)
class Param:
    """What `param` recorded about a field; see `Spec` for the reader's view."""

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    choices: tuple[Any, ...] = ()
    blank: tuple[Any, ...] = ()
    gui_blank: tuple[Any, ...] = ()
    unset: Any = None
    separator: str = ""
    gui: tuple[str, ...] = ()
    own: bool = False
    secret: bool = False
    deprecated: bool = False
    metavar: str = ""
    help: str = ""
    tip: str = ""

    @property
    def bounds(self) -> str:
        """The bounds of a number in words; empty without any."""
        return words.bounds(ge=self.ge, gt=self.gt, le=self.le)


def param(default: Any, **about: Any) -> Any:
    """Declare a field of a config section.

    default: sd-scripts' default, or ours for a parameter of our own (`own=True`).
    ge, gt, le: bounds of a number, of each in a list. choices: the accepted values. blank: values that read as
    "not given" wherever they stand; gui_blank: those that do so only in a GUI preset (a 0 there is often "off",
    where a 0 in a TOML is a zero). unset: what counts where nothing is given, "=name" for another parameter's value
    (see `standing`). separator: what parts a list written as text (white space without one).
    gui: the kohya_ss GUI's names for it where they differ. secret: never written to a record or a log.
    help: what it does, in plain words. tip: what to try when.
    """
    return field(default=default, metadata={"param": Param(**about)})


@dataclass(frozen=True, slots=True)
class Spec:
    """One parameter as the doors see it. `kind` is one of int, float, bool, str, int_or_float; `many` a list of it."""

    name: str
    section: str
    kind: str
    many: bool
    optional: bool
    default: Any
    about: Param

    @property
    def flag(self) -> str:
        return "--" + self.name


def standing(section: Any, name: str) -> Any:
    """A parameter's value in force: what counts for it where nothing was given."""
    value = getattr(section, name)
    if value not in (None, "", ()):
        return value
    unset = type(section).__dataclass_fields__[name].metadata["param"].unset
    return standing(section, unset[1:]) if isinstance(unset, str) and unset.startswith("=") else unset


_KINDS = {int: "int", float: "float", bool: "bool", str: "str"}


def _kind(annotation: Any) -> tuple[str, bool, bool]:
    """Annotation -> (kind, many, optional)."""
    optional = False
    if isinstance(annotation, types.UnionType):
        members = [m for m in typing.get_args(annotation) if m is not types.NoneType]
        optional = len(members) < len(typing.get_args(annotation))
        if set(members) == {int, float}:
            return "int_or_float", False, optional
        (annotation,) = members
    if typing.get_origin(annotation) is tuple:
        return _KINDS[typing.get_args(annotation)[0]], True, optional
    return _KINDS[annotation], False, optional


def section_specs(section: str, cls: type) -> Iterator[Spec]:
    """The parameters of one section class, in the order of their declaration."""
    hints = typing.get_type_hints(cls)
    for f in fields(cls):
        if "param" in f.metadata:
            kind, many, optional = _kind(hints[f.name])
            yield Spec(f.name, section, kind, many, optional, f.default, f.metadata["param"])


@lru_cache(maxsize=8)
def specs(config_class: type) -> dict[str, Spec]:
    """Every parameter of a config class by name; a class that is a section itself works too.

    Raises ValueError when two sections declare the same name.
    """
    if any("param" in f.metadata for f in fields(config_class)):
        return {spec.name: spec for spec in section_specs("", config_class)}
    found: dict[str, Spec] = {}
    hints = typing.get_type_hints(config_class)
    for f in fields(config_class):
        if not is_dataclass(hints[f.name]):
            continue
        for spec in section_specs(f.name, hints[f.name]):
            if spec.name in found and found[spec.name] != spec:
                raise ValueError(f"{spec.name} is declared in {found[spec.name].section} and in {spec.section}")
            found[spec.name] = spec
    return found

"""A mapping of names and loose values -> a TrainConfig, with every problem of the source at once."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from kohyakit.config.meant import meant_name
from kohyakit.config.scripts import NO_SCRIPT_READS
from kohyakit.config.train import SPECS, TrainConfig
from kohyakit.config.values import Unreadable, coerce
from kohyakit.errors import ConfigError, Problem

__all__ = ["Unreadable", "coerce", "nearest", "parse_assignments", "read_values", "unknown"]


def read_values(
    values: Mapping[str, Any], where: str, base: TrainConfig | None = None, *, gui: bool = False
) -> tuple[TrainConfig, list[Problem]]:
    """Values by sd-scripts name over a base (the defaults) -> the config and every problem found.

    gui: the values come from a GUI preset, where 0 often means "off" (see `values.coerce`). Unknown names are
    kept in `extras`, each with a finding and, where one is near, the name that was meant.
    """
    base = base or TrainConfig()
    good: dict[str, Any] = {}
    extras = dict(base.extras)
    problems: list[Problem] = []
    for name, value in values.items():
        spec = SPECS().get(name)
        if spec is None:
            extras[name] = value
            problems.append(unknown(name, where, values))
            continue
        try:
            good[name] = coerce(spec, value, gui=gui)
        except Unreadable as wanted:
            shown = "***" if spec.about.secret else repr(value)
            what = f"{name} is {shown[:200]}, but {wanted}"
            problems.append(Problem(where, what, wanted.cure, name="bad_value"))
    return replace(base.with_values(**good), extras=extras), problems


def unknown(name: str, where: str, present: Collection[str] = ()) -> Problem:
    """The finding for a name that no parameter has.

    A near miss of a name that is not among those `present` is an error: sd-scripts would drop it without a
    word and train with the default.
    """
    if name in NO_SCRIPT_READS:
        what = f"'{name}' has no effect: {NO_SCRIPT_READS[name]}"
        return Problem(where, what, name="unread_parameter", severity="hint")
    meant = nearest(name)
    severity = "error" if meant and meant not in present else "warning"
    cure = f"did you mean '{meant}'?" if meant else "it has no effect; take it out"
    return Problem(where, f"unknown parameter '{name}'", cure, name="unknown_parameter", severity=severity)


@lru_cache(maxsize=4096)
def nearest(name: str) -> str:
    """The parameter that was meant, or "" where none is plain. Kept: a folder of presets asks the same again."""
    return meant_name(name, SPECS())


def parse_assignments(assignments: tuple[str, ...]) -> dict[str, str]:
    """`--set name=value` texts -> a mapping. Raises ConfigError for a text without `=`."""
    bad = [text for text in assignments if "=" not in text]
    if bad:
        raise ConfigError(Problem("--set", f"{text!r} is not name=value", "write --set name=value") for text in bad)
    return {name.strip(): value for name, value in (text.split("=", 1) for text in assignments)}

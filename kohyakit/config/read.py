"""A mapping of names and loose values -> a TrainConfig, with every problem of the source at once."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from typing import Any

from kohyakit.config.param import Spec
from kohyakit.config.train import SPECS, TrainConfig
from kohyakit.errors import ConfigError, Problem

_TRUE, _FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off", "none", "")


class Unreadable(ValueError):
    """A value that a parameter cannot take; the text says what was wanted."""


def coerce(spec: Spec, value: Any) -> Any:
    """The value as the parameter's type: "12.0" is 12, "1e-4" is 0.0001, "True" is True, blanks are None.

    Raises Unreadable with what was wanted.
    """
    if value is None or any(_same(value, blank) for blank in spec.about.blank):
        if spec.optional:
            return None
        if value is None:
            return spec.default
    if spec.many:
        return _many(spec, value)
    result = _one(spec.kind, value)
    _check_bounds(spec, result)
    return result


def _same(value: Any, blank: Any) -> bool:
    if isinstance(value, bool) or isinstance(blank, bool):
        return value is blank
    if isinstance(value, str) and isinstance(blank, str):
        return value.strip() == blank
    return type(value) is not str and type(blank) is not str and value == blank


def _one(kind: str, value: Any) -> Any:
    if kind == "str":
        if isinstance(value, str):
            return value
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return str(value)
        raise Unreadable("text was wanted")
    if kind == "bool":
        if isinstance(value, bool):
            return value
        text = str(value).strip().lower()
        if text in _TRUE or text in _FALSE:
            return text in _TRUE
        raise Unreadable("true or false was wanted")
    return _number(kind, value)


def _number(kind: str, value: Any) -> int | float:
    whole = kind == "int"
    wanted = "a whole number was wanted" if whole else "a number was wanted"
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise Unreadable(wanted)
    text = value.strip() if isinstance(value, str) else value
    try:
        if kind != "float":
            try:
                return int(text) if isinstance(text, (str, int)) else _integral(text, kind)
            except ValueError:
                return _integral(float(text), kind)
        number = float(text)
    except (ValueError, OverflowError):
        raise Unreadable(wanted) from None
    if not math.isfinite(number):
        raise Unreadable("a finite number was wanted")
    return number


def _integral(number: float, kind: str) -> int | float:
    if not math.isfinite(number):
        raise Unreadable("a finite number was wanted")
    if kind == "int_or_float":
        return number
    if number != int(number):
        raise Unreadable("a whole number was wanted")
    return int(number)


def _many(spec: Spec, value: Any) -> tuple[Any, ...]:
    items = value.split() if isinstance(value, str) else value
    if isinstance(items, (int, float)) and not isinstance(items, bool):
        items = [items]
    if not isinstance(items, (list, tuple)):
        raise Unreadable("a list was wanted")
    return tuple(_one(spec.kind, item) for item in items)


def _check_bounds(spec: Spec, value: Any) -> None:
    about = spec.about
    if about.choices and value not in about.choices:
        near = difflib.get_close_matches(str(value), [str(c) for c in about.choices], n=1)
        choices = ", ".join(str(c) for c in about.choices)
        raise Unreadable(f"it must be one of {choices}" + (f" (did you mean '{near[0]}'?)" if near else ""))
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return
    low = about.gt if about.gt is not None else about.ge
    if about.ge is not None and value < about.ge or about.gt is not None and value <= about.gt:
        bound = f"above {low}" if about.gt is not None else f"at least {low}"
        raise Unreadable(f"it must be {bound}" + (f" and at most {about.le}" if about.le is not None else ""))
    if about.le is not None and value > about.le:
        raise Unreadable(f"it must be at most {about.le}")


def read_values(values: Mapping[str, Any], where: str, base: TrainConfig | None = None) -> tuple[TrainConfig, list[Problem]]:
    """Values by sd-scripts name over a base (the defaults) -> the config and every problem found.

    Unknown names are kept in `extras`, each with a warning and, where one is near, the name that was meant.
    """
    base = base or TrainConfig()
    good: dict[str, Any] = {}
    extras = dict(base.extras)
    problems: list[Problem] = []
    for name, value in values.items():
        spec = SPECS().get(name)
        if spec is None:
            extras[name] = value
            problems.append(unknown(name, where))
            continue
        try:
            good[name] = coerce(spec, value)
        except Unreadable as wanted:
            problems.append(Problem(where, f"{name} is {value!r}, but {wanted}", name="bad_value"))
    from dataclasses import replace

    return replace(base.with_values(**good), extras=extras), problems


def unknown(name: str, where: str) -> Problem:
    """The finding for a name that no parameter has."""
    near = difflib.get_close_matches(name, SPECS(), n=1, cutoff=0.8)
    cure = f"did you mean '{near[0]}'?" if near else "it has no effect"
    return Problem(where, f"unknown parameter '{name}'", cure, name="unknown_parameter", severity="warning")


def parse_assignments(assignments: tuple[str, ...]) -> dict[str, str]:
    """`--set name=value` texts -> a mapping. Raises ConfigError for a text without `=`."""
    bad = [text for text in assignments if "=" not in text]
    if bad:
        raise ConfigError(Problem("--set", f"{text!r} is not name=value", "write --set name=value") for text in bad)
    return {name.strip(): value for name, value in (text.split("=", 1) for text in assignments)}

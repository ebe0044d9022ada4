"""One loose value -> one parameter's type, or a sentence that says what was wanted."""

from __future__ import annotations

import json
import math
from typing import Any

from kohyakit.config.meant import meant_choice
from kohyakit.config.param import Spec

_TRUE, _FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off", "none", "")


class Unreadable(ValueError):
    """A value that a parameter cannot take; the text says what was wanted, cure what to write where that is plain."""

    def __init__(self, wanted: str, cure: str = "") -> None:
        super().__init__(wanted)
        self.cure = cure


def coerce(spec: Spec, value: Any, *, gui: bool = False) -> Any:
    """The value as the parameter's type: "12.0" is 12, "1e-4" is 0.0001, "True" is True.

    A blank reads as "not given": None, or the default where the parameter cannot be None. What is blank
    depends on who wrote it: the GUI writes 0 for "off" where a 0 in a TOML means zero to sd-scripts
    (`seed`, `unet_lr`), so `gui=True` counts the `gui_blank` values too. Raises Unreadable with what was wanted.
    """
    blanks = spec.about.blank + (spec.about.gui_blank if gui else ())
    if value is None or any(_same(value, blank) for blank in blanks):
        return None if spec.optional else spec.default
    if isinstance(value, (list, tuple)) and not spec.many:
        raise Unreadable(_wanted(spec.kind), _without_list(spec, value))
    result = _many(spec, value) if spec.many else _one(spec.kind, value)
    for item in result if spec.many else (result,):
        _check_bounds(spec, item)
    return result


_WANTED = {"str": "text", "bool": "true or false", "int": "a whole number"}


def _wanted(kind: str) -> str:
    return f"{_WANTED.get(kind, 'a number')} was wanted"


def _without_list(spec: Spec, value: Any) -> str:
    """What to write in place of a list; "" where it is not plain."""
    if spec.about.secret:
        return ""
    if spec.name == "sample_prompts":
        return "name a .txt file with one prompt a line"
    if len(value) == 1 and isinstance(value[0], (str, int, float)):
        shown = json.dumps(str(value[0]) if spec.kind == "str" else value[0])
        return f"take the brackets away: {spec.name} = {shown}"
    if spec.kind == "str" and 1 < len(value) < 9 and all(isinstance(item, (int, float, str)) for item in value):
        return f'write "{",".join(map(str, value))}"'
    return ""


def _same(value: Any, blank: Any) -> bool:
    if isinstance(value, bool) or isinstance(blank, bool):
        return value is blank
    if isinstance(value, str):
        text = value.strip()
        if isinstance(blank, str):
            return text == blank
        try:
            return float(text) == blank
        except ValueError:
            return False
    return not isinstance(blank, str) and value == blank


def _one(kind: str, value: Any) -> Any:
    if kind == "str":
        if isinstance(value, str):
            return value
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return str(value)
        raise Unreadable("text was wanted")
    if kind == "bool":
        if isinstance(value, (bool, int, float, str)):
            text = str(value).strip().lower()
            if text in _TRUE or text in _FALSE:
                return text in _TRUE
        raise Unreadable("true or false was wanted")
    return _number(kind, value)


_LARGEST = 2**64  # no option counts further, and sums of what is larger overflow


def _number(kind: str, value: Any) -> int | float:
    number = _read_number(kind, value)
    if abs(number) > _LARGEST:
        raise Unreadable("a number of ordinary size was wanted")
    return number


def _read_number(kind: str, value: Any) -> int | float:
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
        # a 4 stays a 4, as sd-scripts records it
        number = text if isinstance(text, int) and abs(text) < 2**63 else float(text)
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
    items = value.split(spec.about.separator or None) if isinstance(value, str) else value
    if isinstance(items, (int, float)) and not isinstance(items, bool):
        items = [items]
    if not isinstance(items, (list, tuple)):
        raise Unreadable("a list was wanted")
    return tuple(_one(spec.kind, item) for item in items)


def _check_bounds(spec: Spec, value: Any) -> None:
    about = spec.about
    if about.choices and value not in about.choices:
        near = meant_choice(value, about.choices)
        choices = ", ".join(str(c) for c in about.choices)
        raise Unreadable(f"it must be one of {choices}" + (f" (did you mean '{near}'?)" if near else ""))
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return
    low = about.gt if about.gt is not None else about.ge
    if (about.ge is not None and value < about.ge) or (about.gt is not None and value <= about.gt):
        bound = f"above {low}" if about.gt is not None else f"at least {low}"
        raise Unreadable(f"it must be {bound}" + (f" and at most {about.le}" if about.le is not None else ""))
    if about.le is not None and value > about.le:
        raise Unreadable(f"it must be at most {about.le}")

"""An argument of an optimizer or a schedule, as `name=value` texts give it: what it is for and what it takes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from kohyakit import words

NUMBER, WHOLE, SWITCH, NUMBERS, TEXT = "a number", "a whole number", "True or False", "a list of numbers", "text"
_EXAMPLES = {NUMBER: "0.01", WHOLE: "100", SWITCH: "True", NUMBERS: "0.9,0.999", TEXT: "'text'"}


@dataclass(frozen=True, slots=True)
class Argument:
    """kinds: of value, None beside them where that is a value too. ge, gt, lt: bounds of a number, of each in a list;
    it is finite then.

    choices: of a text. tip: what to try when.
    """

    kinds: tuple[str | None, ...]
    help: str
    tip: str
    ge: float | None = None
    gt: float | None = None
    lt: float | None = None
    choices: tuple[str, ...] = ()
    example: str = ""

    @property
    def wanted(self) -> str:
        """What it takes, in words: `a number above 0`."""
        if self.choices:
            *first, last = map(repr, self.choices)
            return f"{', '.join(first)} or {last}"
        return f"{self.kinds[0]} {'of ' * (self.ge is not None)}{self.bounds}".rstrip()

    @property
    def bounds(self) -> str:
        """Its bounds in words; empty without any."""
        return words.bounds(ge=self.ge, gt=self.gt, lt=self.lt)

    @property
    def like(self) -> str:
        """A value as it may be written."""
        return self.example or _EXAMPLES[str(self.kinds[0])]

    def wrong_kind(self, value: Any) -> str:
        """What was wanted where a value is of another kind, else ""."""
        fits = None in self.kinds if value is None else any(_is(kind, value) for kind in self.kinds if kind)
        return "" if fits else str(self.kinds[0])

    def out_of_bounds(self, value: Any) -> bool:
        """Is this value, of the right kind, none that can be used?"""
        if self.choices:
            return value not in self.choices
        if not self.bounds or value is None:
            return False
        return any(self._outside(number) for number in (value if isinstance(value, (tuple, list)) else (value,)))

    def _outside(self, number: float) -> bool:
        low = (self.gt is None or number > self.gt) and (self.ge is None or number >= self.ge)
        whole = WHOLE not in self.kinds or isinstance(number, int)
        return not (low and whole and math.isfinite(number) and (self.lt is None or number < self.lt))


def _is(kind: str, value: Any) -> bool:
    if kind == SWITCH:
        return isinstance(value, bool) or value in (0, 1)
    if kind == TEXT:
        return isinstance(value, str)
    if kind == NUMBERS:
        return isinstance(value, (tuple, list)) and len(value) > 1 and all(_is(NUMBER, item) for item in value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return kind == NUMBER or isinstance(value, int) or value.is_integer()

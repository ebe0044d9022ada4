"""`key=value` texts (`optimizer_args`, `lr_scheduler_args`) -> keyword arguments, as sd-scripts evaluates them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from typing import Any

from kohyakit.errors import ConfigError, Problem


def parse_key_values(args: Iterable[str] | None, where: str = "optimizer_args") -> dict[str, Any]:
    """("weight_decay=0.01", "betas=0.9,0.999") -> {"weight_decay": 0.01, "betas": (0.9, 0.999)}.

    As sd-scripts: one equals sign a text, the value read as a Python literal (numbers, True/False/None, quoted
    text, tuples); a later key replaces an earlier one. Raises ConfigError with one problem for each bad text.
    """
    values: dict[str, Any] = {}
    problems: list[Problem] = []
    for text in args or ():
        key, equals, value = text.partition("=")
        if not equals or not key.strip() or "=" in value:
            problems.append(Problem(where, f"{text!r} is not name=value", "write it like weight_decay=0.01, no blanks"))
            continue
        try:
            if _GLUED.match(value.strip()):  # which Python warns of before it refuses it
                raise ValueError(value)
            values[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
            problems.append(Problem(where, f"{text!r} has a value that cannot be read", _cure(value)))
    if problems:
        raise ConfigError(Problem(p.where, p.what, p.cure, name="bad_key_value") for p in problems)
    return values


KEY_VALUES = frozenset(("optimizer_args", "lr_scheduler_args", "network_args"))
_GLUED = re.compile(r"[^'\"]*\d\w*?(?:and|else|for|if|in|is|not|or)")
_PAIR = re.compile(r"[A-Za-z_][\w.]*[ \t]*=(?!=)")


def split_key_values(text: str) -> list[str]:
    """Free text of arguments -> its `name=value` items, cut where the next name begins and not at every blank.

    "decouple=True, betas=(0.9, 0.99)" -> ["decouple=True", "betas=(0.9,0.99)"]: commas between the items and blanks
    in a value that is not quoted go. Text without any pair is cut at its blanks.
    """
    starts = [match.start() for match in _PAIR.finditer(text)]
    outside = _outside(text)
    starts = [place for place in starts if outside[place] and (not place or text[place - 1] in " \t\n,;")]
    if not starts:
        return text.split()
    items = text[: starts[0]].split()
    for begin, end in zip(starts, [*starts[1:], len(text)], strict=True):
        name, _, value = text[begin:end].partition("=")
        items.append(f"{name.strip()}={_tight(value.strip().rstrip(',; ') or value.strip())}")
    return items


def _outside(text: str) -> list[bool]:
    """For each place: does it stand outside of brackets and quotes?"""
    found, depth, quote = [], 0, ""
    for character in text:
        found.append(depth <= 0 and not quote)
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        else:
            depth += (character in "([{") - (character in ")]}")
    return found


def _tight(value: str) -> str:
    """A value without the blanks that stand outside of quotes."""
    parts = re.split(r"(\"[^\"]*\"|'[^']*')", value)
    return "".join(part if place % 2 else "".join(part.split()) for place, part in enumerate(parts))


def _cure(value: str) -> str:
    word = value.strip()
    if word.lower() in ("true", "false", "none"):
        return f"write {word.capitalize()} with a capital letter"
    if word.isidentifier():
        return f"put text in quotes: '{word}'"
    return "write a number, True, False, None, quoted text or numbers joined by commas"

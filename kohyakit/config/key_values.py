"""`key=value` texts (`optimizer_args`, `lr_scheduler_args`) -> keyword arguments, as sd-scripts evaluates them."""

from __future__ import annotations

import ast
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
            values[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
            problems.append(Problem(where, f"{text!r} has a value that cannot be read", _cure(value)))
    if problems:
        raise ConfigError(
            Problem(p.where, p.what, p.cure, name="bad_key_value") for p in problems
        )
    return values


def _cure(value: str) -> str:
    word = value.strip()
    if word.lower() in ("true", "false", "none"):
        return f"write {word.capitalize()} with a capital letter"
    if word.isidentifier():
        return f"put text in quotes: '{word}'"
    return "write a number, True, False, None, quoted text or numbers joined by commas"

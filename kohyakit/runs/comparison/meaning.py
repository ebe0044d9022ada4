"""What a recorded setting stands for, so that two spellings of one thing are no difference between runs."""

from __future__ import annotations

import ntpath
import os
import posixpath
import re
from collections.abc import Mapping
from typing import Any

from kohyakit.config.train import SPECS

_PLACES = ("DIR", "FILE", "FILE...", "FILE|DIR", "FILE|URL", "PATH")
_SQUARE = re.compile(r"\s*(\d+)\s*,\s*\1\s*")  # a resolution of 512,512 is one of 512


def is_open(name: str, settings: Mapping[str, Any]) -> bool:
    """Whether a setting was not given and has no default of its own, so that another may stand for it."""
    spec = SPECS().get(name)
    return _blank(settings.get(name)) and (spec is None or _blank(spec.default))


def in_force(name: str, settings: Mapping[str, Any]) -> Any:
    """A setting's value, what stands for it where none was given, in a form that compares."""
    spec, value = SPECS().get(name), settings.get(name)
    if _blank(value) and spec is not None:
        value = spec.default
    if _blank(value):
        value = spec.about.unset if spec is not None else None
        if isinstance(value, str) and value.startswith("="):
            return in_force(value[1:], settings)
    return _comparable(value)


def is_place(name: str) -> bool:
    """Whether a setting names a file or folder."""
    spec = SPECS().get(name)
    return spec is not None and spec.about.metavar in _PLACES


def same_place(one: Any, other: Any, bases: tuple[str, str]) -> bool:
    """Whether two values name the same file or folder. bases: the folders that each run's relative paths start from,
    "" where that was not recorded: then an absolute path that ends in the relative one counts as the same.
    """
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(same_place(a, b, bases) for a, b in zip(one, other, strict=True))
    if not (isinstance(one, str) and isinstance(other, str)) or "\n" in one + other:
        return one == other
    a, b = (_whole(path, base) for path, base in zip((one, other), bases, strict=True))
    if _is_absolute(a) == _is_absolute(b):
        return _folded(a) == _folded(b)
    inner, outer = (a, b) if _is_absolute(b) else (b, a)
    inner = re.sub(r"^(\.\./)+", "", inner)
    return inner not in ("", ".", "..") and _folded(outer).endswith("/" + _folded(inner))


def _whole(path: str, base: str) -> str:
    path, base = path.replace("\\", "/"), base.replace("\\", "/")
    return posixpath.normpath(path if not base or _is_absolute(path) else f"{base}/{path}")


def _is_absolute(path: str) -> bool:
    return path.startswith("/") or bool(ntpath.splitdrive(path)[0])


def _folded(path: str) -> str:
    """Windows does not tell case apart."""
    return path.lower() if ntpath.splitdrive(path)[0] or os.name == "nt" else path


def _blank(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, (list, tuple)) and not value)


def _comparable(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return _comparable(value[0]) if len(value) == 1 else tuple(_comparable(item) for item in value) or None
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, str) and (square := _SQUARE.fullmatch(value)):
        return square[1]
    return value if value != "" else None

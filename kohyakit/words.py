"""Numbers, bytes, times and tables in words: one way for the terminal, the pages and the reports.

A file's bytes are decimal (1 MB is 1,000,000), as file managers and hubs show them; a memory's are binary (1 GiB is
2**30), as cards are sold and drivers count. A number of bytes is never written in any other unit.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime

NONE = "–"  # where there is nothing to say
_STYLE = re.compile(r"\x1b\[[0-9;]*m")
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?|\.\d+)\s*([kmgt]?)(i?)b?\s*", re.IGNORECASE)


def count(many: int, one: str, more: str = "") -> str:
    """`1 photo`, `1,200 photos`, `2 batches`."""
    return f"{many:,} {one if many == 1 else more or one + ('es' if one.endswith('ch') else 's')}"


def number(value: float | None, digits: int = 4) -> str:
    """A measured number, `digits` significant digits; a dash for none."""
    if value is None:
        return NONE
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else "infinite"
    if value != 0 and (abs(value) < 1e-3 or abs(value) >= 1e6):
        mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
        mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        return f"{mantissa}e{int(exponent)}"
    return f"{value:.{digits}g}" if abs(value) < 1 else f"{value:,.{max(0, digits - len(str(int(abs(value)))))}f}"


def size(many: float) -> str:
    """Bytes of a file: `12 B`, `37.9 MB`, `151 MB`."""
    for unit in ("B", "kB", "MB"):
        if many < 999.5:
            return f"{many:.0f} {unit}" if unit == "B" or many >= 99.95 else f"{many:.1f} {unit}"
        many /= 1000
    return f"{many:.1f} GB"


def memory(many: float) -> str:
    """Bytes of a memory: `18.1 MiB`, `600 MiB`, `7.9 GiB`."""
    mib = many / 2**20
    return f"{mib:.1f} MiB" if mib < 99.95 else f"{mib:.0f} MiB" if mib < 999.5 else f"{mib / 1024:.1f} GiB"


def read_size(text: str) -> int:
    """`40MB` or `1.5 GiB` in bytes, `500` are bytes. Raises ValueError."""
    match = _SIZE.fullmatch(text)
    if not match:
        raise ValueError(f"'{text}' is no size; write it like 40MB")
    return int(float(match[1]) * (1024 if match[3] else 1000) ** " kmgt".index(match[2].lower() or " "))


def duration(seconds: float | None) -> str:
    """`45 s`, `12 min`, `3 h 05 min`, `2 d 4 h`."""
    if seconds is None or not math.isfinite(seconds) or seconds < 0:
        return NONE
    seconds = round(seconds)
    if seconds < 90:
        return f"{seconds} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02d} min"
    return f"{hours // 24} d {hours % 24} h"


def when(stamp: str) -> str:
    """An ISO time as this machine's clock shows it, `2026-11-23 10:48`; a dash for none, other text as it is."""
    if not stamp:
        return NONE
    try:
        return datetime.fromisoformat(stamp).astimezone().strftime("%Y-%m-%d %H:%M")
    except (ValueError, OverflowError, OSError):
        return stamp


def bounds(
    *, ge: float | None = None, gt: float | None = None, le: float | None = None, lt: float | None = None
) -> str:
    """`at least 1 and at most 10`, `above 0`; empty without any."""
    said = (("at least", ge), ("above", gt), ("at most", le), ("below", lt))
    return " and ".join(f"{word} {limit:g}" for word, limit in said if limit is not None)


def listed(items: Iterable[str], most: int = 6) -> str:
    """`a, b, c` or, of many, `a, b … and 12 more`."""
    items = list(items)
    return ", ".join(items) if len(items) <= most else f"{', '.join(items[:most])} and {len(items) - most} more"


def cells(text: str) -> int:
    """Columns of a terminal that a text takes: wide characters (CJK, emoji) two, marks and colours none."""
    letters = _STYLE.sub("", text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in letters)


def padded(text: str, room: int, *, right: bool = False) -> str:
    gap = " " * max(0, room - cells(text))
    return gap + text if right else text + gap


def cut(text: str, room: int) -> str:
    """A text in so many columns, its end left out where it is longer."""
    if cells(text) <= room:
        return text
    short = text[:room]  # no letter takes less than a column but marks, which may go
    while short and cells(short) > room - 1:
        short = short[:-1]
    return short + "…"


def columns(rows: Iterable[Sequence[str]], *, right: Collection[int] = ()) -> list[str]:
    """Lines of aligned columns, each as wide as its longest cell. right: columns that are set to the right."""
    table = list(rows)
    widths = [max(map(cells, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(padded(cell, widths[at], right=at in right) for at, cell in enumerate(row)).rstrip() for row in table
    ]

"""Numbers, times and foreign text as the pages write them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from datetime import datetime

_SPECIAL = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~$:&=\"'^@/])")

# What GitHub's Markdown makes a link of even where every sign of it is escaped: addresses of pages and of mail.
_ADDRESS = re.compile(r"(https?(?=://)|www(?=\.)|@(?=[\w-]))", re.IGNORECASE)
_JOINT = "\u2060"  # a word joiner: nothing to see, no place to break a line


def plain(text: object) -> str:
    """Text from a file as itself where Markdown is read: no emphasis, link, icon, formula or HTML comes of it."""
    line = re.sub(r"\s+", " ", str(text)).strip()
    return _SPECIAL.sub(r"\\\1", _ADDRESS.sub(rf"\1{_JOINT}", line))


def number(value: float | None, digits: int = 4) -> str:
    """A measured number, `digits` significant digits; a dash for none."""
    if value is None:
        return "–"
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else "infinite"
    if value != 0 and (abs(value) < 1e-3 or abs(value) >= 1e6):
        mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
        mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        return f"{mantissa}e{int(exponent)}"
    return f"{value:.{digits}g}" if abs(value) < 1 else f"{value:,.{max(0, digits - len(str(int(abs(value)))))}f}"


def count(many: int, one: str, more: str = "") -> str:
    """`1 photo`, `12 photos`."""
    return f"{many:,} {one if many == 1 else more or one + 's'}"


def duration(seconds: float | None) -> str:
    """`45 s`, `12 min`, `3 h 05 min`, `2 d 4 h`."""
    if seconds is None or not math.isfinite(seconds) or seconds < 0:
        return "–"
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
    """An ISO time in UTC as local date and time, `23 Nov 2026 10:48`; a dash for none, other text as it is."""
    if not stamp:
        return "–"
    try:
        moment = datetime.fromisoformat(stamp).astimezone()
    except ValueError:
        return stamp
    return f"{moment.day} {moment:%b %Y %H:%M}"


def size(many: float) -> str:
    """Bytes as people read them."""
    for unit in ("B", "kB", "MB"):
        if many < 1000:
            return f"{many:.0f} {unit}" if unit == "B" or many >= 100 else f"{many:.1f} {unit}"
        many /= 1000
    return f"{many:.1f} GB"


def listed(items: Iterable[str], most: int = 6) -> str:
    """`a, b, c` or, of many, `a, b … and 12 more`."""
    items = list(items)
    return ", ".join(items) if len(items) <= most else f"{', '.join(items[:most])} and {len(items) - most} more"

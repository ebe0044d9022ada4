"""Curves as SVG without a browser: for the exported page and the SVG download."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from kohyakit.dashboard.draw.curves import AXES, Line
from kohyakit.dashboard.draw.theme import LIGHT

WIDTH, HEIGHT = 960, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 18, 40, 44
_DASHES = {"solid": "", "dashed": "7 4", "dotted": "2 4"}
_AXIS_NAMES = {**AXES, "time": "Hours of training"}


def ticks(low: float, high: float, about: int = 6) -> list[float]:
    """Round numbers from low to high: steps of 1, 2 or 5 times a power of ten."""
    if not high > low:
        return [low]
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(f * power for f in (1, 2, 5, 10) if f * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten between low and high, both above 0; powers alone when there are many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    full = [f * 10.0**p for p in powers for f in (1, 2, 5) if low <= f * 10.0**p <= high]
    return full if len(full) <= 9 else [10.0**p for p in powers if low <= 10.0**p <= high]


def chart(
    lines: Sequence[Line],
    *,
    axis: str,
    log: bool = False,
    title: str = "",
    colours: Mapping[str, str] = LIGHT,
    ground: bool = True,
) -> str:
    """One chart as an SVG document. lines: as `curves.drawn` gives them. ground False leaves the background open.

    Each line is a `<path>` with data-run, so that a page's script can find it.
    """
    frame = _frame(lines, log)
    body = [] if not ground else [f'<rect width="{WIDTH}" height="{HEIGHT}" style="fill:{colours["background"]}"/>']
    body.append(_text(_LEFT, 18, title, colours["text"], weight=600, size=14))
    if frame is None:
        body.append(_text(WIDTH / 2, HEIGHT / 2, "no finite value to draw", colours["muted"], anchor="middle"))
    else:
        body += _axes(frame, axis, log, colours)
        for line in lines:
            if line.smooth is not None:
                body.append(_path(frame, line, line.y, log, width=1, opacity=0.25))
        body += [
            _path(frame, line, line.smooth if line.smooth is not None else line.y, log, named=True) for line in lines
        ]
        body += [mark for line in lines for mark in _broken_end(frame, line, log)]
        body += _legend(lines, colours)
    data = (
        f' data-x0="{frame[0]:.9g}" data-x1="{frame[1]:.9g}" data-left="{_LEFT}" data-right="{WIDTH - _RIGHT}"'
        if frame
        else ""
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title)}"{data} '
        f'font-family="Source Sans 3,Segoe UI,Helvetica,Arial,sans-serif">{"".join(body)}</svg>'
    )


def _frame(lines: Sequence[Line], log: bool) -> tuple[float, float, float, float] | None:
    """(x low, x high, y low, y high); y as logarithm on a log scale. None when nothing can be drawn."""
    xs, ys = [], []
    for line in lines:
        for y in (line.y, line.smooth):
            if y is not None:
                good = np.isfinite(y) & (y > 0 if log else True)
                xs.append(line.x[good])
                ys.append(np.log10(y[good]) if log else y[good])
    x, y = (np.concatenate(parts) if parts else np.empty(0) for parts in (xs, ys))
    if not len(x):
        return None
    low, high = float(y.min()), float(y.max())
    pad = (high - low) * 0.05 or abs(high) * 0.1 or 0.5
    return float(x.min()), float(x.max()), low - pad, high + pad


def _place(frame, x, y):
    x0, x1, y0, y1 = frame
    across = (x - x0) / (x1 - x0) if x1 > x0 else 0.5
    return _LEFT + across * (WIDTH - _LEFT - _RIGHT), HEIGHT - _BOTTOM - (y - y0) / (y1 - y0) * (
        HEIGHT - _TOP - _BOTTOM
    )


def _axes(frame, axis: str, log: bool, colours: Mapping[str, str]) -> list[str]:
    x0, x1, y0, y1 = frame
    made = []
    values = [(math.log10(v), v) for v in log_ticks(10**y0, 10**y1)] if log else [(v, v) for v in ticks(y0, y1, 5)]
    for place, value in values:
        _, y = _place(frame, x0, place)
        made.append(f'<path d="M{_LEFT} {y:.1f}H{WIDTH - _RIGHT}" style="stroke:{colours["line"]}"/>')
        made.append(_text(_LEFT - 8, y + 4, f"{value:.4g}", colours["muted"], anchor="end"))
    for value in ticks(x0, x1, 8):
        x, _ = _place(frame, value, y0)
        made.append(_text(x, HEIGHT - _BOTTOM + 18, f"{value:,.6g}", colours["muted"], anchor="middle"))
    made.append(
        f'<path d="M{_LEFT} {HEIGHT - _BOTTOM}H{WIDTH - _RIGHT}" style="stroke:{colours["muted"]};stroke-opacity:.6"/>'
    )
    made.append(_text((WIDTH + _LEFT) / 2, HEIGHT - 8, _AXIS_NAMES[axis], colours["muted"], anchor="middle"))
    return made


def _path(
    frame, line: Line, values: np.ndarray, log: bool, *, width: float = 1.8, opacity: float = 1.0, named: bool = False
) -> str:
    good = np.isfinite(values) & (values > 0 if log else True)
    parts, pen = [], "M"
    x, y = _place(frame, line.x, np.where(good, np.log10(np.where(good, values, 1)) if log else values, np.nan))
    for a, b, ok in zip(np.broadcast_to(x, values.shape), y, good, strict=True):
        parts.append(f"{pen}{a:.1f} {b:.1f}" if ok else "")
        pen = "L" if ok else "M"
    dash = f";stroke-dasharray:{_DASHES[line.dash]}" if _DASHES[line.dash] else ""
    name = f' data-run="{escape(line.run)}"' if named else ""
    return (
        f'<path{name} d="{"".join(parts)}" style="fill:none;stroke:{line.colour};stroke-width:{width};'
        f'stroke-opacity:{opacity};stroke-linejoin:round{dash}"/>'
    )


def _broken_end(frame, line: Line, log: bool) -> list[str]:
    """A cross with its reason where a line ends before its time."""
    if not line.broken or line.end is None or (log and line.end[1] <= 0):
        return []
    x, y = _place(frame, line.end[0], math.log10(line.end[1]) if log else line.end[1])
    cross = f'<path d="M{x - 5:.1f} {y - 5:.1f}l10 10m0 -10l-10 10" style="stroke:{line.colour};stroke-width:2.5"/>'
    at_right = x > WIDTH * 0.75
    words = f"{line.run} {line.broken}"
    return [cross, _text(x + (-9 if at_right else 9), y - 8, words, line.colour, anchor="end" if at_right else "start")]


def _legend(lines: Sequence[Line], colours: Mapping[str, str]) -> list[str]:
    made, x = [], float(WIDTH - _RIGHT)
    for line in reversed(lines[:16]):
        x -= 9 * len(line.run) + 30
        dash = f";stroke-dasharray:{_DASHES[line.dash]}" if _DASHES[line.dash] else ""
        made.append(f'<path d="M{x:.0f} 14h16" style="stroke:{line.colour};stroke-width:2.5{dash}"/>')
        made.append(_text(x + 21, 18, line.run, colours["text"]))
    return made


def _text(
    x: float, y: float, text: str, colour: str, *, anchor: str = "start", weight: int = 400, size: int = 12
) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text {place} font-size="{size}" font-weight="{weight}" style="fill:{colour}">{escape(text)}</text>'

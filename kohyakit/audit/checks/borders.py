"""Bars of one colour on opposite sides, as in screenshots, film stills and padded pictures.

A subject on a plain ground is no bar: where a bar ends, the next line must differ over most of its length.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from kohyakit.audit.check import Check, Issue, Picture, Threshold, rows_where

if TYPE_CHECKING:
    from kohyakit.audit.look.survey import Survey

_EVEN = 6  # grey levels that a bar may vary by, JPEG noise included
_STEP = 12  # grey levels by which the picture differs from the bar beside it


def measure(picture: Picture) -> dict[str, float]:
    """border_top, border_bottom, border_left, border_right: the bars' share of the height or width."""
    grey = picture.small
    top, bottom = _bars(grey)
    left, right = _bars(grey.T)
    return {"border_top": top, "border_bottom": bottom, "border_left": left, "border_right": right}


def _bars(grey: np.ndarray) -> tuple[float, float]:
    """Both bars' share of the lines; 0 for both unless they come together."""
    if np.ptp(grey[0]) > _EVEN or np.ptp(grey[-1]) > _EVEN:
        return 0.0, 0.0
    first, last = _bar(grey), _bar(grey[::-1])
    return (first, last) if first and last and first + last < 0.9 else (0.0, 0.0)


def _bar(grey: np.ndarray) -> float:
    colour = int(np.median(grey[0]))
    away = np.abs(grey.astype(np.int16) - colour)
    bar = away.max(axis=1) <= _EVEN
    lines = int(np.argmin(bar))
    if not lines:  # no line, or all of them
        return 0.0
    # the line at the border may be a blend of both
    differs = (away[min(lines + 1, len(grey) - 1)] > _STEP).mean()
    return lines / len(grey) if differs > 0.6 else 0.0


def judge(survey: Survey) -> Iterable[Issue]:
    images, least = survey.images, survey.limit("border_share")
    high, wide = images["border_top"] + images["border_bottom"], images["border_left"] + images["border_right"]
    for row in rows_where((high >= least) | (wide >= least), images):
        sides = {"top": row.border_top, "bottom": row.border_bottom, "left": row.border_left, "right": row.border_right}
        bars = ", ".join(f"{share:.0%} {side}" for side, share in sides.items() if share)
        yield Issue(
            row.path,
            "borders",
            "warning",
            f"plain bars of one colour: {bars}",
            "crop them away: a LoRA draws such bars again",
        )


CHECK = Check(
    issues={"borders": "bars around the picture"},
    judge=judge,
    measure=measure,
    scores={
        f"border_{side}": f"plain bar, share of the picture ({side})" for side in ("top", "bottom", "left", "right")
    },
    thresholds=(Threshold("border_share", 0.03, "both bars' share of the height or width from which they are named"),),
)

"""Too dark, too bright: nearly all of the picture at one end of the scale."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from kohyakit.audit.check import Check, Issue, Picture, Threshold, rows_where

if TYPE_CHECKING:
    from kohyakit.audit.look.survey import Survey

_BLOWN = 250
_EVEN, _BESIDE = 10, 12  # grey levels that a plain ground may vary by, and by which something stands out from it
_LEAST = 0.0005  # share of the picture that must stand out to be judged alone


def measure(picture: Picture) -> dict[str, float]:
    """Grey levels (0 to 255) from the small picture.

    brightness: the mean. dark_end, bright_end: the 5th and 99th percentile; on a plain ground, whose own brightness
    is no exposure, the end away from it is that of what stands on it (its 2nd or 99th percentile). blown: the share
    of pixels at 250 and above; 0 for what is drawn, and where the whole edge is white, because that is a subject on a
    white ground.
    """
    levels = picture.levels
    blown = float(1 - levels[_BLOWN - 1])
    dark_end, bright_end = float(levels.searchsorted(0.05)), float(levels.searchsorted(0.99))
    ground, subject = _on_plain_ground(picture.small)
    if subject.size and ground >= 128:
        dark_end = float(np.percentile(subject, 2))
    elif subject.size:
        bright_end = float(np.percentile(subject, 99))
    return {
        "brightness": 255 - float(levels[:255].sum()),
        "dark_end": dark_end,
        "bright_end": bright_end,
        "blown": 0.0 if blown and (_on_white(picture.small) or picture.drawn) else blown,
    }


def _edge(grey: np.ndarray) -> np.ndarray:
    return np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])


def _on_white(grey: np.ndarray) -> bool:
    return bool((_edge(grey) >= 240).mean() > 0.95)


def _on_plain_ground(grey: np.ndarray) -> tuple[int, np.ndarray]:
    """(level of the ground, levels of what stands on it); none of these where the ground is not plain, or empty."""
    edge = _edge(grey).astype(np.int16)
    ground = int(np.median(edge))
    if (np.abs(edge - ground) <= _EVEN).mean() <= 0.95:
        return ground, grey[:0].ravel()
    subject = grey[np.abs(grey.astype(np.int16) - ground) > _BESIDE]
    return ground, subject if len(subject) >= _LEAST * grey.size else subject[:0]


def judge(survey: Survey) -> Iterable[Issue]:
    images = survey.images
    for row in rows_where(images["bright_end"] < survey.limit("dark_bright_end"), images):
        yield Issue(
            row.path,
            "too_dark",
            "warning",
            f"99 % of it is darker than {row.bright_end:.0f} of 255",
            "brighten it, or leave it out",
        )
    pale = (images["dark_end"] > survey.limit("bright_dark_end")) | (images["blown"] > survey.limit("bright_blown"))
    for row in rows_where(pale, images):
        if row.dark_end > survey.limit("bright_dark_end"):
            detail = f"95 % of it is brighter than {row.dark_end:.0f} of 255"
        else:
            detail = f"{row.blown:.0%} of it is pure white"
        yield Issue(
            row.path, "too_bright", "warning", detail, "darken it, or leave it out; what is white has no detail left"
        )


CHECK = Check(
    issues={"too_dark": "too dark", "too_bright": "too bright"},
    judge=judge,
    measure=measure,
    scores={
        "brightness": "mean grey level, 0 to 255",
        "dark_end": "5th percentile of the grey levels; on a plain bright ground the 2nd of what stands on it",
        "bright_end": "99th percentile of the grey levels; on a plain dark ground that of what stands on it",
        "blown": "share of pixels at 250 and above; 0 on a white ground and in drawings",
    },
    thresholds=(
        Threshold("dark_bright_end", 80, "99th percentile of grey levels below which a picture is too dark"),
        Threshold("bright_dark_end", 180, "5th percentile of grey levels above which a picture is too bright"),
        Threshold("bright_blown", 0.45, "share of pure white above which a picture is too bright"),
    ),
)

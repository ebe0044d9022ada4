"""Too dark, too bright: nearly all of the picture at one end of the scale."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from kohyakit.audit.check import Check, Issue, Picture, Threshold

if TYPE_CHECKING:
    from kohyakit.audit.survey import Survey

_BLOWN = 250


def measure(picture: Picture) -> dict[str, float]:
    """Grey levels (0 to 255) from the small picture.

    brightness: the mean. dark_end, bright_end: the 5th and 99th percentile. blown: the share of pixels at 250 and
    above; 0 where the whole edge is white, because that is a subject on a white ground.
    """
    levels = picture.levels
    blown = float(1 - levels[_BLOWN - 1])
    return {
        "brightness": 255 - float(levels[:255].sum()),
        "dark_end": float(levels.searchsorted(0.05)),
        "bright_end": float(levels.searchsorted(0.99)),
        "blown": 0.0 if blown and _on_white(picture.small) else blown,
    }


def _on_white(grey: np.ndarray) -> bool:
    edge = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    return bool((edge >= 240).mean() > 0.95)


def judge(survey: Survey) -> Iterable[Issue]:
    images = survey.images
    for row in images[images["bright_end"] < survey.limit("dark_bright_end")].itertuples():
        yield Issue(
            row.path,
            "too_dark",
            "warning",
            f"99 % of it is darker than {row.bright_end:.0f} of 255",
            "brighten it, or leave it out",
        )
    pale = (images["dark_end"] > survey.limit("bright_dark_end")) | (images["blown"] > survey.limit("bright_blown"))
    for row in images[pale].itertuples():
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
        "dark_end": "5th percentile of the grey levels",
        "bright_end": "99th percentile of the grey levels",
        "blown": "share of pixels at 250 and above; 0 on a white ground",
    },
    thresholds=(
        Threshold("dark_bright_end", 80, "99th percentile of grey levels below which a picture is too dark"),
        Threshold("bright_dark_end", 180, "5th percentile of grey levels above which a picture is too bright"),
        Threshold("bright_blown", 0.45, "share of pure white above which a picture is too bright"),
    ),
)

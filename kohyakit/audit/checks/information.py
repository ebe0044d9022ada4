"""Low information: one colour, a gradient, an empty page."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from kohyakit.audit.check import Check, Issue, Picture, Threshold, rows_where

if TYPE_CHECKING:
    from kohyakit.audit.look.survey import Survey


def measure(picture: Picture) -> dict[str, float]:
    """detail: standard deviation of what remains when light and shade are taken away.

    In grey levels of a picture whose brightest hundredth is at 200, so that a dark photo is not called empty.
    """
    import cv2

    height, width = (max(1, side // 2) for side in picture.small.shape)
    grey = cv2.resize(picture.small, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
    smooth = cv2.blur(grey, (max(3, width // 8 | 1), max(3, height // 8 | 1)))
    brightest = float(picture.levels.searchsorted(0.99))
    _, spread = cv2.meanStdDev(cv2.subtract(grey, smooth))
    return {"detail": float(spread[0, 0]) * max(1.0, 200 / max(brightest, 16))}


def judge(survey: Survey) -> Iterable[Issue]:
    images = survey.images
    for row in rows_where(images["detail"] < survey.limit("information_detail"), images):
        yield Issue(
            row.path,
            "low_information",
            "warning",
            f"there is nearly nothing to see (detail {row.detail:.1f} grey levels, photos have 10 and more)",
            "leave it out",
        )


CHECK = Check(
    issues={"low_information": "nearly nothing to see"},
    judge=judge,
    measure=measure,
    scores={"detail": "standard deviation of local detail, in grey levels"},
    thresholds=(Threshold("information_detail", 4.0, "detail below which a picture has low information"),),
)

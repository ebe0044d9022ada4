"""Blurred: out of focus, shaken, or enlarged from something smaller.

The picture is judged at 1000 to 1024 pixels on its longer side, about what is trained. In tiles that have structure,
the fine detail (below one pixel) is compared with the coarser (up to three pixels): a blur takes the fine first. The
sharpest tiles count, so a soft background behind a sharp face is fine; the flattest twentieth tells the noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np

from kohyakit.audit.check import Check, Issue, Picture, Threshold

if TYPE_CHECKING:
    from kohyakit.audit.look.survey import Survey

_TILE = 64
_SURE = 0.5  # a sharpness that needs no further look
_STAGES = ((4, 8), (2, 4), (0, 1))  # the first strip and the distance of the next, look by look
_EDGED = 5  # the number of the last strip from which a picture is high enough to have edges of two strips
_STRUCTURE = 4.0  # mean squared grey levels of coarse detail, below which a tile says nothing


def measure(picture: Picture) -> dict[str, float]:
    """sharpness: fine over coarse detail in the sharpest tiles; about 1 when sharp, 0.2 when blurred, NaN when flat."""
    level: np.ndarray | None = None
    for _ in range(3):  # where nothing is left of detail, look at half the size
        height, width = picture.large_size if level is None else level.shape
        if min(height, width) < _TILE:
            break
        rows = picture.large_rows if level is None else lambda top, bottom, level=level: level[top:bottom]
        found = _sharpness(height // _TILE, rows)
        if found == found:
            return {"sharpness": found}
        level = _half(picture.large if level is None else level)
    return {"sharpness": float("nan")}


def _sharpness(strips: int, rows: Callable[[int, int], np.ndarray]) -> float:
    """From strips a tile high: few where they are clearly sharp, all where the picture may be blurred.

    rows: the picture's rows from one to another.
    """
    found, details, seen = float("nan"), [], set()
    for first, every in _STAGES:
        places = set(range(first, strips, every)) - seen
        seen |= places
        for at in sorted(places):
            fine, coarse = _strip(rows(at * _TILE, (at + 1) * _TILE))
            details.append((fine, coarse, np.full(len(fine), at)))
        if details:
            found = _of_sharpest(*np.concatenate(details, axis=1), last=strips - 1)
        if found >= _SURE:
            break
    return found


def _of_sharpest(fine: np.ndarray, coarse: np.ndarray, strip: np.ndarray, last: int) -> float:
    """Fine over coarse detail in the sharpest of the tiles that have structure; NaN where fewer than three have.

    strip: the strip that each tile lies in, 0 to `last`. Structure along the top or the bottom edge alone is a date
    stamp or a line of text over a picture that has none.
    """
    clear = coarse > max(_STRUCTURE, _ranked(coarse, 0.5))
    at = strip[clear]
    if len(at) < 3 or (last >= _EDGED and (at.max() <= 1 or at.min() >= last - 1)):
        return float("nan")
    noise = _ranked(fine, 0.05)
    return float(_ranked(np.sqrt(np.maximum(fine - noise, 0)[clear] / coarse[clear]), 0.85))


def _ranked(values: np.ndarray, share: float) -> float:
    """The value above `share` of the others."""
    return np.sort(values)[round(share * (len(values) - 1))]


def _half(grey: np.ndarray) -> np.ndarray:
    import cv2

    return cv2.resize(grey, (grey.shape[1] // 2, grey.shape[0] // 2), interpolation=cv2.INTER_AREA)


def _strip(grey: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Per tile the mean square of fine and of coarse detail."""
    import cv2

    width = grey.shape[1] // _TILE * _TILE
    sharp = grey[:, :width].astype(np.float32)
    smooth = cv2.GaussianBlur(sharp, (5, 5), 1.0)
    half = _half(smooth)
    coarse = half - cv2.GaussianBlur(half, (9, 9), 1.4)
    np.subtract(sharp, smooth, out=sharp)
    return _tile_means(sharp, _TILE), _tile_means(coarse, _TILE // 2)


def _tile_means(detail: np.ndarray, tile: int) -> np.ndarray:
    """Mean square of each tile of a strip that is one tile high."""
    square = np.multiply(detail, detail, out=detail)
    return (np.ones(tile, np.float32) @ square).reshape(-1, tile).sum(axis=1) / tile**2


def judge(survey: Survey) -> Iterable[Issue]:
    images = survey.images
    for row in images[images["sharpness"] < survey.limit("blur_sharpness")].itertuples():
        yield Issue(
            row.path,
            "blurred",
            "warning",
            f"no sharp edge anywhere (sharpness {row.sharpness:.2f}, sharp photos have 0.4 and more)",
            "leave it out, or use a sharper shot: a LoRA learns the softness too",
        )


CHECK = Check(
    issues={"blurred": "blurred"},
    judge=judge,
    measure=measure,
    scores={"sharpness": "fine over coarse detail in the sharpest tiles; about 1 sharp, 0.2 blurred"},
    thresholds=(Threshold("blur_sharpness", 0.33, "sharpness below which a picture is blurred"),),
)

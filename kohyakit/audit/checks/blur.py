"""Blurred: out of focus, shaken, or enlarged from something smaller.

The picture is judged at 1000 to 1024 pixels on its longer side, about what is trained. In tiles that have structure,
the fine detail (below one pixel) is compared with the coarser (up to three pixels): a blur takes the fine first. The
sharpest tiles count, so a soft background behind a sharp face is fine; the flattest twentieth tells the noise. What
is laid over the picture does not count: lettering has an even ground between its hard edges, a sharp subject has not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np

from kohyakit.audit.check import Check, Issue, Picture, Threshold, rows_where

if TYPE_CHECKING:
    from kohyakit.audit.look.survey import Survey

_TILE = 64
_SURE = 0.5  # a sharpness that needs no further look
_STAGES = ((4, 8), (2, 4), (0, 1))  # the first strip and the distance of the next, look by look
_EVEN, _LAID_OVER = 4, 0.4  # levels that an even place varies by; share of these beside lettering on what is blurred
_HARD = 32  # levels within three pixels that a sharp edge has
_MODEST = 0.35  # of all tiles: what is laid over a picture is no more
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
    found = float("nan")
    details: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    seen: set[int] = set()
    for first, every in _STAGES:
        places = set(range(first, strips, every)) - seen
        seen |= places
        details += [_strip(rows(at * _TILE, (at + 1) * _TILE)) for at in sorted(places)]
        if details:
            found = _of_sharpest(*np.concatenate(details, axis=1))
        if found >= _SURE:
            break
    return found


def _of_sharpest(fine: np.ndarray, coarse: np.ndarray, even: np.ndarray) -> float:
    """Fine over coarse detail in the sharpest of the tiles that have structure; NaN where fewer than three have.

    Where few tiles are hard lines on an even ground, they are a stamp, a logo, a line of text or a frame over the
    picture, and do not count. even: share of each tile that is even.
    """
    laid_over = (even >= _LAID_OVER) & (coarse > _STRUCTURE)
    if laid_over.mean() <= _MODEST:
        fine, coarse = fine[~laid_over], coarse[~laid_over]
    if not len(fine):
        return float("nan")
    clear = coarse > max(_STRUCTURE, _ranked(coarse, 0.5))
    if clear.sum() < 3:
        return float("nan")
    noise = _ranked(fine, 0.05)
    return float(_ranked(np.sqrt(np.maximum(fine - noise, 0)[clear] / coarse[clear]), 0.85))


def _ranked(values: np.ndarray, share: float) -> float:
    """The value above `share` of the others."""
    return np.sort(values)[round(share * (len(values) - 1))]


def _half(grey: np.ndarray) -> np.ndarray:
    import cv2

    return cv2.resize(grey, (grey.shape[1] // 2, grey.shape[0] // 2), interpolation=cv2.INTER_AREA)


def _strip(grey: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per tile the mean square of fine and of coarse detail, and the share of even places, if one has hard edges."""
    import cv2

    width = grey.shape[1] // _TILE * _TILE
    own = np.ascontiguousarray(grey[:, :width])
    sharp = own.astype(np.float32)
    smooth = cv2.GaussianBlur(sharp, (5, 5), 1.0)
    half = _half(smooth)
    coarse = half - cv2.GaussianBlur(half, (9, 9), 1.4)
    np.subtract(sharp, smooth, out=sharp)
    square = np.ones((3, 3), np.uint8)
    varies = cv2.subtract(cv2.dilate(own, square), cv2.erode(own, square))
    even = cv2.reduce(cv2.inRange(varies, np.array(0), np.array(_EVEN)), 0, cv2.REDUCE_SUM, dtype=cv2.CV_32S)
    even = even.reshape(-1, _TILE).sum(axis=1) / (255 * _TILE**2)
    even[cv2.reduce(varies, 0, cv2.REDUCE_MAX).reshape(-1, _TILE).max(axis=1) < _HARD] = 0
    return _tile_means(sharp, _TILE), _tile_means(coarse, _TILE // 2), even


def _tile_means(detail: np.ndarray, tile: int) -> np.ndarray:
    """Mean square of each tile of a strip that is one tile high."""
    square = np.multiply(detail, detail, out=detail)
    return (np.ones(tile, np.float32) @ square).reshape(-1, tile).sum(axis=1) / tile**2


def judge(survey: Survey) -> Iterable[Issue]:
    images = survey.images
    for row in rows_where(images["sharpness"] < survey.limit("blur_sharpness"), images):
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

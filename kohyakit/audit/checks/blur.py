"""Blurred: out of focus, shaken, or enlarged from something smaller.

The picture is judged at 1024 pixels on its longer side, about what is trained. In tiles that have structure, the
fine detail (below one pixel) is compared with the coarser (up to three pixels): a blur takes the fine first. The
sharpest tiles count, so a soft background behind a sharp face is fine; a fifth of the tiles tells the noise.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from kohyakit.audit.check import Check, Issue, Picture, Threshold

if TYPE_CHECKING:
    from kohyakit.audit.survey import Survey

_TILE = 64
_STRUCTURE = 4.0  # mean squared grey levels of coarse detail, below which a tile says nothing


def measure(picture: Picture) -> dict[str, float]:
    """sharpness: fine over coarse detail in the sharpest tiles; about 1 when sharp, 0.2 when blurred, NaN when flat."""
    level = picture.large
    for _ in range(3):  # where nothing is left of detail, look at half the size
        if min(level.shape) < _TILE:
            break
        fine, coarse = _details(level)
        clear = coarse > max(_STRUCTURE, float(np.median(coarse)))
        if clear.sum() >= 3:
            ratio = np.sqrt(np.maximum(fine - np.percentile(fine, 5), 0)[clear] / coarse[clear])
            return {"sharpness": float(np.percentile(ratio, 85))}
        level = _half(level)
    return {"sharpness": float("nan")}


def _half(grey: np.ndarray) -> np.ndarray:
    import cv2

    return cv2.resize(grey, (grey.shape[1] // 2, grey.shape[0] // 2), interpolation=cv2.INTER_AREA)


def _details(grey: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Per tile the mean square of fine and of coarse detail.

    From strips a tile high; of more than seven, every other one: the cost matters, and what is sharp is larger.
    """
    strips = grey.shape[0] // _TILE
    found = [_strip(grey[at * _TILE : (at + 1) * _TILE]) for at in range(0, strips, 2 if strips > 7 else 1)]
    return np.concatenate([fine for fine, _ in found]), np.concatenate([coarse for _, coarse in found])


def _strip(grey: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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
    return square.sum(axis=0).reshape(-1, tile).sum(axis=1) / tile**2


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

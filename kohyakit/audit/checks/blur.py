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
        fine, coarse, level = _details(level)
        clear = coarse > max(_STRUCTURE, float(np.median(coarse)))
        if clear.sum() >= 3:
            ratio = np.sqrt(np.maximum(fine - np.percentile(fine, 5), 0)[clear] / coarse[clear])
            return {"sharpness": float(np.percentile(ratio, 85))}
    return {"sharpness": float("nan")}


def _details(grey: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per tile the mean square of fine and of coarse detail, and the smoothed picture at half the size."""
    import cv2

    height, width = (side // _TILE * _TILE for side in grey.shape)
    sharp = grey[:height, :width].astype(np.float32)
    smooth = cv2.GaussianBlur(sharp, (5, 5), 1.0)
    half = cv2.resize(smooth, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    coarse = half - cv2.GaussianBlur(half, (9, 9), 1.4)
    np.subtract(sharp, smooth, out=sharp)
    return _tile_means(sharp, _TILE), _tile_means(coarse, _TILE // 2), half


def _tile_means(detail: np.ndarray, tile: int) -> np.ndarray:
    import cv2

    square = np.multiply(detail, detail, out=detail)
    while tile > 8:
        square = cv2.resize(square, (square.shape[1] // 2, square.shape[0] // 2), interpolation=cv2.INTER_AREA)
        tile //= 2
    height, width = square.shape
    return square.reshape(height // tile, tile, width // tile, tile).mean(axis=(1, 3)).ravel()


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
    thresholds=(Threshold("blur_sharpness", 0.31, "sharpness below which a picture is blurred"),),
)

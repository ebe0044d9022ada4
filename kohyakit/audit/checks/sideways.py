"""Suspected sideways content although EXIF says nothing: a hint, from where light, colour and texture lie.

A small linear model compares the four ways in which a picture could stand: skies are bright, blue and smooth and lie
on top. Fitted on 267 photographs of many cameras (public samples; three that really lie on their side left out);
in ten-fold cross-validation the threshold of 0.75 finds 16 % of photos laid on their side and names 1 of 267 upright
ones. It is worth a look, no more.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from kohyakit.audit.check import Check, Issue, Picture, Threshold

if TYPE_CHECKING:
    from kohyakit.audit.survey import Survey

# Top against bottom eighths (outermost, second, third and fourth together) of: luma, saturation, blueness, greenness,
# edges across, edges down. Then symmetry, edges across over down, change of luma down over across, edges top over
# bottom.
_WEIGHTS = np.array([
    1.38, 2.34, 6.30, -1.50, 7.76, -0.05,
    -0.28, -3.46, -0.38, 7.40, 11.15, 3.42,
    0.48, 1.42, -0.17, -0.48, -0.80, -6.23,
    0.84, 0.55, 0.11, -0.25,
])  # fmt: skip
_TINY = 1e-3


def measure(picture: Picture) -> dict[str, float]:
    """sideways: the larger probability of a quarter turn, left or right, against standing or upside down."""
    chances = _chances(picture.small_rgb)
    return {"sideways": float(max(chances[1], chances[3]))}


def _chances(rgb: np.ndarray) -> np.ndarray:
    """Probabilities that a picture [64, 64, 3] uint8 becomes upright by 0, 1, 2, 3 quarter turns to the left."""
    maps = _maps(rgb)
    rows = maps.mean(axis=2).reshape(6, 8, 8).mean(axis=2)
    columns = maps.mean(axis=1).reshape(6, 8, 8).mean(axis=2)
    turned = columns[[0, 1, 2, 3, 5, 4]]  # edges change their direction with the picture
    # profiles from top to bottom [turns, map, eighth], and the unevenness of luma along both axes
    down = np.stack([rows, turned[:, ::-1], rows[:, ::-1], turned])
    uneven = np.log(np.array([np.diff(rows[0]).std(), np.diff(columns[0]).std()]) + _TINY)
    uneven = (uneven[0] - uneven[1]) * np.array([1, -1, 1, -1])
    mirror = _likeness_to_mirrored(maps[0])
    scores = _features(down, mirror * np.array([1, -1, 1, -1]), uneven) @ _WEIGHTS
    weights = np.exp(scores - scores.max())
    return weights / weights.sum()


def _maps(rgb: np.ndarray) -> np.ndarray:
    """[6, 64, 64]: luma, saturation, blueness, greenness, edges across, edges down."""
    import cv2

    colour = rgb.astype(np.float32) * np.float32(1 / 255)
    red, green, blue = cv2.split(colour)
    luma = cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY)
    saturation = cv2.max(cv2.max(red, green), blue) - cv2.min(cv2.min(red, green), blue)
    smooth = cv2.GaussianBlur(luma, (0, 0), 0.8)
    maps = np.empty((6, *luma.shape), np.float32)
    maps[0], maps[1] = luma, saturation
    maps[2], maps[3] = blue - (red + green) / 2, green - (red + blue) / 2
    maps[4], maps[5] = _slopes(smooth.T).T, _slopes(smooth)
    return maps


def _slopes(luma: np.ndarray) -> np.ndarray:
    """How much neighbours above and below differ, a half each; at the ends the one step there is."""
    found = np.empty_like(luma)
    found[1:-1] = (luma[2:] - luma[:-2]) / 2
    found[0], found[-1] = luma[1] - luma[0], luma[-1] - luma[-2]
    return np.abs(found)


def _features(down: np.ndarray, mirror: np.ndarray, uneven: np.ndarray) -> np.ndarray:
    """[4, 22] in the order of _WEIGHTS, one row a number of turns."""
    against = down[:, :, :4] - down[:, :, :3:-1]
    edges = down[:, 4:].sum(axis=1)
    directions = np.log(down[:, 4].mean(axis=1) + _TINY) - np.log(down[:, 5].mean(axis=1) + _TINY)
    ends = np.log(edges[:, :2].mean(axis=1) + _TINY) - np.log(edges[:, -2:].mean(axis=1) + _TINY)
    rest = np.stack([mirror, directions, uneven, ends], axis=1)
    return np.concatenate([against[:, :, 0], against[:, :, 1], against[:, :, 2] + against[:, :, 3], rest], axis=1)


def _likeness_to_mirrored(luma: np.ndarray) -> float:
    """Correlation with itself left for right, less that with itself top for bottom."""
    away = luma - luma.mean()
    return float((away * (away[:, ::-1] - away[::-1])).sum() / ((away * away).sum() + 1e-6))


def judge(survey: Survey) -> Iterable[Issue]:
    images = survey.images
    suspected = (images["sideways"] > survey.limit("sideways_chance")) & (images["orientation"] == 1)
    for row in images[suspected].itertuples():
        yield Issue(
            row.path,
            "suspected_sideways",
            "hint",
            "may lie on its side, though it carries no EXIF orientation (a guess from light and colour)",
            "look at it, and turn it if it does",
        )


CHECK = Check(
    issues={"suspected_sideways": "may lie on its side"},
    judge=judge,
    measure=measure,
    scores={"sideways": "chance that the picture lies on its side, by a rough guess"},
    thresholds=(Threshold("sideways_chance", 0.75, "chance above which a picture is suspected to lie on its side"),),
)

"""Suspected sideways content although EXIF says nothing: a hint, from where light, colour and texture lie.

A small linear model compares the four ways in which a picture could stand: skies are bright, blue and smooth and lie
on top. Fitted on 267 photographs of many cameras (public samples; three that really lie on their side left out);
in ten-fold cross-validation the threshold of 0.75 finds 16 % of photos laid on their side and names 1 of 267 upright
ones. It is worth a look, no more.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from kohyakit.audit.check import Check, Issue, Picture, Threshold, rows_where

if TYPE_CHECKING:
    from kohyakit.audit.look.survey import Survey

# Top against bottom eighths (outermost, second, third and fourth together) of: luma, blueness, greenness, saturation,
# edges across, edges down. Then symmetry, edges across over down, change of luma down over across, edges top over
# bottom.
_OUTERMOST = (1.38, 6.30, -1.50, 2.34, 7.76, -0.05)
_SECOND = (-0.28, -0.38, 7.40, -3.46, 11.15, 3.42)
_INNER = (0.48, -0.17, -0.48, 1.42, -0.80, -6.23)
_SYMMETRY, _DIRECTIONS, _UNEVEN, _ENDS = 0.84, 0.55, 0.11, -0.25
_TOP = np.array([_OUTERMOST, _SECOND, _INNER, _INNER])
_WEIGHTS = np.concatenate([_TOP, -_TOP[::-1]]).astype(np.float32)  # [eighth, map]
# red, green and blue to luma, blueness, greenness
_COLOURS = np.array([[0.299, 0.587, 0.114], [-0.5, -0.5, 1.0], [-0.5, 1.0, -0.5]], np.float32).T
_TINY = 1e-3


def measure(picture: Picture) -> dict[str, float]:
    """sideways: the larger probability of a quarter turn, left or right, against standing or upside down."""
    chances = _chances(picture.small_rgb)
    return {"sideways": float(max(chances[1], chances[3]))}


def _chances(rgb: np.ndarray) -> np.ndarray:
    """Probabilities that a picture [64, 64, 3] uint8 becomes upright by 0, 1, 2, 3 quarter turns to the left."""
    import cv2

    colour = rgb.astype(np.float32)
    luma = cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY)
    red, green, blue = cv2.split(colour)
    saturation = cv2.max(cv2.max(red, green), blue) - cv2.min(cv2.min(red, green), blue)
    smooth = cv2.GaussianBlur(luma, (7, 7), 0.8)
    others = cv2.merge([saturation, _slopes(smooth.T).T, _slopes(smooth)])
    fields = np.concatenate([_eighths(colour) @ _COLOURS, _eighths(others)], axis=2) * np.float32(1 / (8 * 255))
    rows, columns = fields.sum(axis=1), fields.sum(axis=0)
    # what all four positions share, but for its sign: turned by a quarter, the height is the width
    even = _SYMMETRY * _likeness_to_mirrored(luma)
    even += _DIRECTIONS * _log_ratio(rows[:, 4].sum() / 8, rows[:, 5].sum() / 8)
    even += _UNEVEN * _log_ratio(_unevenness(rows[:, 0]), _unevenness(columns[:, 0]))
    standing = _leaning(rows)
    lying = _leaning(columns[:, [0, 1, 2, 3, 5, 4]])  # edges change their direction with the picture
    scores = np.array([even + standing, -even - lying, even - standing, -even + lying])
    weights = np.exp(scores - scores.max())
    return weights / weights.sum()


def _eighths(maps: np.ndarray) -> np.ndarray:
    """[64, 64, n] as means of eighths by eighths, [8, 8, n]."""
    import cv2

    return cv2.resize(maps, (8, 8), interpolation=cv2.INTER_AREA)


def _log_ratio(one: float, other: float) -> float:
    return math.log((one + _TINY) / (other + _TINY))


def _leaning(eighths: np.ndarray) -> float:
    """The score of what differs between the two ends of [8, 6]; the other way round it is the same, less than 0."""
    first, second, *_, last_but_one, last = eighths[:, 4:].sum(axis=1).tolist()
    ends = _log_ratio((first + second) / 2, (last_but_one + last) / 2)
    return float(np.vdot(eighths, _WEIGHTS)) + _ENDS * ends


def _unevenness(profile: np.ndarray) -> float:
    """Standard deviation of the steps from one to the next."""
    steps = profile[1:] - profile[:-1]
    return math.sqrt(max(0.0, float(steps @ steps) / len(steps) - (float(steps.sum()) / len(steps)) ** 2))


def _slopes(luma: np.ndarray) -> np.ndarray:
    """How much neighbours above and below differ, a half each; at the ends the one step there is."""
    import cv2

    framed = cv2.copyMakeBorder(luma, 1, 1, 0, 0, cv2.BORDER_REPLICATE)
    found = cv2.absdiff(framed[2:], framed[:-2])
    found[1:-1] = found[1:-1] * np.float32(0.5)
    return found


def _likeness_to_mirrored(luma: np.ndarray) -> float:
    """Correlation with itself left for right, less that with itself top for bottom."""
    import cv2

    away = luma - np.float32(cv2.mean(luma)[0])
    likeness = np.vdot(away, cv2.flip(away, 1)) - np.vdot(away, cv2.flip(away, 0))
    return float(likeness / (np.vdot(away, away) + 1e-3))


def judge(survey: Survey) -> Iterable[Issue]:
    images = survey.images
    suspected = (images["sideways"] > survey.limit("sideways_chance")) & (images["orientation"] == 1)
    for row in rows_where(suspected, images):
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

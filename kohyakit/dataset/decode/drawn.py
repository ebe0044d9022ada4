"""Whether a picture is drawn (a drawing, a screenshot, an icon, a printed screen) or taken by a camera.

Two signs, each enough, both seen through JPEG's artefacts. Colours: where a camera's picture is even, its levels run
into each other through light and grain; a drawing's even parts have few levels, far commoner than their neighbours.
Ink: strokes, hatching, letters, dots of a screen are mostly paper or ink with hard steps between; what a camera sees
of a fence, of branches or of cloth has light and shade on it. Dark, blurred, grey and washed-out photos have
neither. The commonest level and those around it do not count as colours: a photo may stand on a plain ground, or have
lost its lower half. Thresholds: docs/audit.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

DRAWN = 0.45  # share of the even parts in colours from which a picture is drawn
_BAND, _LEAST_WIDE = 32, 160  # rows and least columns of a piece that is looked at
_GOLDEN = 0.618  # of the width: the next piece is that much further on, which leaves no column out
_MOST = 600_000  # pixels that are looked at; of 1,266 photos and 1,980 drawings none is judged otherwise by more
_SMALLEST = 8
_CONTRAST = 48  # levels from the darkest to the brightest even place; in less, a photo's run together as well
_OWN, _GROUND = 3, 12  # levels beside the commonest that are the same, and that grain and light make of it
_CLIPPED = (1, 253)  # levels up to and from which light has no shade left in a photo either
_REACH = 8  # levels on each side that a level is compared with
_SPIKE = 3.0  # times as common as these
_FIRST_SPIKE, _FIRST_SHARE = 1.5, 0.2  # at a first look; of 1,260 drawings none told by colours alone has under 0.36
_LEAST = 0.04  # share of the picture that must be even and of another level than the ground
_EVEN = 3  # levels that an even place varies by
_TONE = 6  # levels on each side that belong to paper, or to ink
_INKED = 0.58  # share that paper and ink must have together
_BETWEEN = 1.2  # tones that lie between at each hard step, where soft edges and JPEG blur it
_HARD, _STEPS = 64, 0.01  # levels of a hard step from a pixel to the next, and the share of these
_THIN = 0.12  # hard steps a pixel that is no paper, from which it is strokes and dots, not a subject on a plain ground


def is_drawn(rgb: np.ndarray) -> bool:
    """rgb: uint8 [h, w, 3]; what is under 8 pixels high or wide is not."""
    if min(rgb.shape[:2]) < _SMALLEST:
        return False
    green = _pieces(rgb)
    return _inked(green) or (_may_have_colours(green) and colours(green) >= DRAWN)


def _pieces(rgb: np.ndarray) -> np.ndarray:
    """The green of a sixth of the picture, of a large one of less, one piece below the other: uint8 [rows, columns].

    Pieces of bands of rows all over it, each from other columns, so that a sky's levels still run into each other.
    """
    import cv2
    import numpy as np

    height, width = rgb.shape[:2]
    wide = min(width, max(_LEAST_WIDE, width // 6))
    bands = range(0, max(1, height - _BAND + 1), _BAND)
    every = -(-len(bands) * _BAND * wide // _MOST)
    bands = bands[every // 2 :: every]
    lefts = [round((number * _GOLDEN) % 1 * (width - wide)) for number in range(len(bands))]
    pieces = [rgb[top : top + _BAND, left : left + wide] for top, left in zip(bands, lefts, strict=True)]
    return np.asarray(cv2.extractChannel(np.concatenate(pieces), 1))


def _may_have_colours(green: np.ndarray) -> bool:
    """A first look, at a tenth of the cost, at every second row as it is: it passes nine in ten photos over."""
    import cv2
    import numpy as np

    rows = np.ascontiguousarray(green[::2])
    across = cv2.absdiff(rows[:, 1:], rows[:, :-1])
    counts = _levels(rows[:, 1:], cv2.inRange(across, np.array(0), np.array(_EVEN)))
    common, counts = _off_the_ground(counts, _FIRST_SPIKE)
    left = counts.sum()
    return bool(left < _LEAST * rows.size or counts[common].sum() >= _FIRST_SHARE * left)


def colours(green: np.ndarray) -> float:
    """Share of the even places off the ground whose level is far commoner than its neighbours; 0 where few are."""
    import cv2
    import numpy as np

    smooth = cv2.medianBlur(green, 5)  # takes ringing and thin lines, and leaves edges
    square = np.ones((3, 3), np.uint8)
    uneven = cv2.subtract(cv2.dilate(smooth, square), cv2.erode(smooth, square))
    counts = _levels(smooth, cv2.inRange(uneven, np.array(0), np.array(_EVEN)))
    darkest, brightest = counts.cumsum().searchsorted([0.01 * counts.sum(), 0.99 * counts.sum()])
    if brightest - darkest < _CONTRAST:
        return 0.0
    common, counts = _off_the_ground(counts, _SPIKE)
    shaded = counts.copy()
    shaded[: _CLIPPED[0] + 1] = shaded[_CLIPPED[1] :] = 0
    if shaded.sum() >= _LEAST * green.size / 4:  # else there is nothing but black and white
        counts = shaded
    left = counts.sum()
    return float(counts[common].sum() / left) if left >= _LEAST * green.size else 0.0


def _off_the_ground(counts: np.ndarray, spike: float) -> tuple[np.ndarray, np.ndarray]:
    """Which levels are `spike` times as common as those around them, bool [256], and the counts off the ground."""
    import numpy as np

    ground = int(np.convolve(counts, np.ones(3), "same").argmax())
    away = np.abs(np.arange(256) - ground)
    others = np.where(away <= _OWN, 0, counts)
    around = np.convolve(others, np.ones(2 * _REACH + 1), "same") / (2 * _REACH + 1)
    common = np.convolve(others, np.ones(3), "same") / 3 > spike * around
    return common, np.where(away <= _GROUND, 0, counts)


def _inked(green: np.ndarray) -> bool:
    """Whether paper and ink, the two commonest tones, are most of it, and what is no paper is thin."""
    import cv2
    import numpy as np

    across = cv2.absdiff(green[:, 1:], green[:, :-1])
    steps = cv2.countNonZero(cv2.inRange(across, np.array(_HARD), np.array(255))) / across.size
    if steps < _STEPS:
        return False
    counts = _levels(green)
    shares = []
    for _ in range(2):
        middle = int(np.convolve(counts, np.ones(2 * _TONE + 1), "same").argmax())
        tone = slice(max(0, middle - _TONE), middle + _TONE + 1)
        shares.append(counts[tone].sum() / green.size)
        counts[tone] = 0
    return bool(sum(shares) + _BETWEEN * steps >= _INKED and steps >= _THIN * (1 - shares[0]))


def _levels(green: np.ndarray, where: np.ndarray | None = None) -> np.ndarray:
    """How many pixels have each level: float [256]. where: uint8, which of them count."""
    import cv2

    seen = green if where is None else cv2.bitwise_and(green, where)  # OpenCV's own mask takes eight times as long
    counts = cv2.calcHist([seen], [0], None, [256], [0, 256]).ravel().astype(float)
    if where is not None:
        counts[0] -= where.size - cv2.countNonZero(where)
    return counts

"""Whether a picture is drawn (a drawing, a screenshot, an icon) or taken by a camera.

A camera gives every grey level near another one nearly as often; a drawing uses few, and these far more often than
their neighbours. That holds for dark, blurred, grey and washed-out photos too, and through JPEG's artefacts. The
commonest level and those beside it do not count: a photo may stand on a plain ground, or have lost its lower half.
Thresholds: docs/audit.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

DRAWN = 0.35  # share from which a picture is drawn; of 269 photos none that is one has more
_SAMPLES = 192  # pixels looked at along the shorter side
_GROUND = 3  # levels beside the commonest that belong to it
_REACH = 8  # levels on each side that a level is compared with
_SPIKE = 3.0  # times as common as these
_LEAST = 0.002  # share that must be left beside the ground


def flat_colours(rgb: np.ndarray) -> float:
    """Share of the picture, without its commonest grey level, in levels far commoner than their neighbours.

    rgb: uint8 [h, w, 3]. 0 where hardly anything stands beside the commonest level.
    """
    import numpy as np

    step = max(1, min(rgb.shape[:2]) // _SAMPLES)
    green = rgb[::step, ::step, 1].ravel()
    counts = np.bincount(green, minlength=256).astype(float)
    ground = int(np.convolve(counts, np.ones(3), "same").argmax())
    counts[max(0, ground - _GROUND) : ground + _GROUND + 1] = 0
    left = counts.sum()
    if left < _LEAST * len(green):
        return 0.0
    around = np.convolve(counts, np.ones(2 * _REACH + 1), "same") / (2 * _REACH + 1)
    level = np.convolve(counts, np.ones(3), "same") / 3
    return float(counts[level > _SPIKE * around].sum() / left)


def is_drawn(rgb: np.ndarray) -> bool:
    return flat_colours(rgb) >= DRAWN

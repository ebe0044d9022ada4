"""Lines as they are drawn: which axis, how smooth, how few points. Plain NumPy, nothing of Streamlit."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

AXES = {"step": "Steps", "epoch": "Epochs", "images": "Images seen", "time": "Time"}
DRAWN_POINTS = 8_000
"""Points of all lines of one chart together, raw and smooth; of more than MOST_BEHIND lines half as many, so that
twenty runs are drawn at once. The part of the axis that is looked at has them all for itself.
"""
MOST_BEHIND = 8
"""Smooth lines of one chart up to which the raw ones stand behind them; of more one sees nothing but a grey band."""


@dataclass(frozen=True)
class Line:
    """One line of a chart. x, y: [n] float64, x rising; y may hold NaN where the log does. broken: why the line ends
    where it does, "" for one that went through.
    """

    run: str
    tag: str
    x: np.ndarray
    y: np.ndarray
    colour: str
    dash: str = "solid"
    smooth: np.ndarray | None = field(default=None, compare=False)
    broken: str = ""

    @property
    def end(self) -> tuple[float, float] | None:
        """Where the last finite value is drawn."""
        drawn = self.y if self.smooth is None else self.smooth
        good = np.flatnonzero(np.isfinite(drawn))
        return (float(self.x[good[-1]]), float(drawn[good[-1]])) if len(good) else None


@dataclass(frozen=True)
class Pace:
    """What turns a run's steps into epochs and images. None where the run's record does not say."""

    steps_per_epoch: float | None = None
    images_per_step: float | None = None


def axis_values(axis: str, step: np.ndarray, wall_time: np.ndarray, pace: Pace) -> np.ndarray | None:
    """step: [n] optimizer steps; wall_time: [n] seconds since 1970. Returns [n]: steps, epochs, images or hours since
    the first point. None when the run's record cannot tell. Raises KeyError for an unknown axis.
    """
    if axis == "step":
        return step.astype(float)
    if axis == "time":
        return active_hours(wall_time)
    per = {"epoch": pace.steps_per_epoch, "images": pace.images_per_step}[axis]
    if not per:
        return None
    return step / per if axis == "epoch" else step * per


def active_hours(wall_time: np.ndarray, pause: float = 600.0) -> np.ndarray:
    """Hours of training at each point. A gap of more than `pause` seconds (a run resumed next day) counts as nothing.

    Gaps that are usual for the log, up to ten times the median one, are training however long they are.
    """
    if len(wall_time) == 0:
        return wall_time.astype(float)
    gaps = np.clip(np.diff(wall_time.astype(float)), 0, None)
    longest = max(pause, 10 * float(np.median(gaps))) if len(gaps) else pause
    gaps[gaps > longest] = 0
    return np.concatenate([[0.0], np.cumsum(gaps)]) / 3600


def smoothed(values: np.ndarray, weight: float) -> np.ndarray:
    """Exponential moving average with the start debiased, as TensorBoard draws it.

    values: [n], NaN and infinity are stepped over and stay gaps. weight: 0 (raw) to below 1.
    """
    if not 0 <= weight < 1:
        raise ValueError(f"the smoothing weight must be from 0 to below 1, not {weight}")
    values = np.asarray(values, dtype=float)
    result = np.full(values.shape, np.nan)
    good = np.isfinite(values)
    if weight == 0 or not good.any():
        result[good] = values[good]
        return result
    # y_t = w·y_(t-1) + (1-w)·x_t, divided by 1 - w^t: done in blocks, where powers of w stay far from underflow.
    x = values[good]
    out = np.empty_like(x)
    block = max(1, int(250 / -np.log10(weight)))
    carried = 0.0
    for start in range(0, len(x), block):
        part = x[start : start + block]
        powers = weight ** np.arange(1, len(part) + 1)
        sums = np.cumsum(part / powers) * (1 - weight)
        out[start : start + block] = powers * (carried + sums)
        carried = out[start + len(part) - 1]
    result[good] = out / (1 - weight ** np.arange(1, len(x) + 1, dtype=float))
    return result


def thin(x: np.ndarray, y: np.ndarray, most: int) -> np.ndarray:
    """Indices of at most about `most` points that look the same: every column keeps its lowest and highest point,
    and the line its first and last. A column that holds a gap (NaN) keeps one gap. x: [n] rising, y: [n].
    """
    n = len(x)
    if n <= most or n < 4:
        return np.arange(n)
    columns = max(1, (most - 2) // 2)
    span = x[-1] - x[0]
    place = np.minimum(((x - x[0]) / span * columns).astype(int), columns - 1) if span > 0 else np.zeros(n, int)
    place = np.maximum.accumulate(place)
    starts = np.flatnonzero(np.r_[True, place[1:] != place[:-1]])
    good = np.isfinite(y)
    keep = [0, n - 1]
    for fill, order in ((np.inf, 1), (-np.inf, -1)):
        extreme = np.where(good, y, fill) * order
        lowest = np.minimum.reduceat(extreme, starts)
        column = np.repeat(np.arange(len(starts)), np.diff(np.r_[starts, n]))
        hit = np.flatnonzero(extreme == lowest[column])
        keep.extend(hit[np.r_[True, column[hit][1:] != column[hit][:-1]]].tolist())
    bad = np.flatnonzero(~good)
    if len(bad):
        where = np.searchsorted(starts, bad, side="right")
        keep.extend(bad[np.r_[True, where[1:] != where[:-1]]].tolist())
    return np.unique(np.asarray(keep, dtype=int))


def drawn(
    lines: list[Line], *, smoothing: float = 0.0, window: tuple[float, float] | None = None, points: int = DRAWN_POINTS
) -> list[Line]:
    """The lines as they go to the browser: smoothed over all points first, then cut to the window, then thinned.

    Of more than MOST_BEHIND lines the smooth ones stand alone.
    """
    if not lines:
        return []
    behind = bool(smoothing) and len(lines) <= MOST_BEHIND
    points = points if len(lines) <= MOST_BEHIND else points // 2
    most = int(np.clip(points / len(lines) / (2 if behind else 1), 100, 2000))
    result = []
    for line in lines:
        curve = smoothed(line.y, smoothing) if smoothing else None
        inside = slice(None) if window is None else (line.x >= window[0]) & (line.x <= window[1])
        x, y = line.x[inside], (line.y if behind or curve is None else curve)[inside]
        kept = thin(x, y, most)
        smooth = curve[inside][kept] if behind and curve is not None else None
        result.append(replace(line, x=x[kept], y=y[kept], smooth=smooth))
    return result


TITLES: Mapping[str, str] = {
    "loss/current": "Loss, each step",
    "loss/average": "Loss, average",
    "loss/epoch_average": "Loss, epoch average",
    "loss/epoch": "Loss, epoch average",
    "loss/validation/step_average": "Validation loss",
    "loss/validation/step_current": "Validation loss, each image",
    "loss/validation/epoch_average": "Validation loss, epoch average",
    "loss/validation/step_divergence": "Validation loss above the training's",
    "loss/validation/epoch_divergence": "Validation loss above the training's, epochs",
    "loss/validation/step_error": "Validation loss, standard error",
    "loss/validation/epoch_error": "Validation loss, standard error, epochs",
    "loss/fixed_noise/step_average": "Loss with fixed noise",
    "loss/fixed_noise/epoch_average": "Loss with fixed noise, epochs",
    "loss/fixed_noise/step_error": "Loss with fixed noise, standard error",
    "loss/fixed_noise/epoch_error": "Loss with fixed noise, standard error, epochs",
    "lr/unet": "Learning rate, U-Net",
    "lr/textencoder": "Learning rate, text encoder",
    "norm/avg_key_norm": "Norm of the weights, mean",
    "norm/max_key_norm": "Norm of the weights, largest",
    "norm/avg_grad_norm": "Norm of the gradient, mean",
    "norm/avg_combined_norm": "Norm of weights and gradient, mean",
    "max_norm/avg_key_norm": "Norm of the weights, mean",
    "max_norm/max_key_norm": "Norm of the weights, largest",
    "max_norm/keys_scaled": "Weights scaled down",
    "max_norm/average_key_norm": "Norm of the weights, mean",
}
_PARTS = {"unet": "U-Net", "textencoder": "text encoder", "te1": "text encoder 1", "te2": "text encoder 2"}


def tag_title(tag: str) -> str:
    """Kohya's tag in words; a tag we do not know is shown as it is."""
    if tag in TITLES:
        return TITLES[tag]
    known = re.fullmatch(r"lr/(d\*lr/)?(group(\d+)|\w+)", tag)
    if known is None:
        return tag
    part = f"group {known[3]}" if known[3] else _PARTS.get(known[2], known[2])
    return f"Learning rate{' times d' if known[1] else ''}, {part}"


def calm_top(lines: list[Line]) -> tuple[float, tuple[Line, ...]] | None:
    """The top of a chart whose other lines would be flattened by wild ones, and which those are; None for no such.

    Wild is a line that goes above three times what the middle line reaches, beginnings apart.
    """
    if len(lines) < 2:
        return None
    tops = []
    for line in lines:
        values = line.y if line.smooth is None else line.smooth
        later = values[len(values) // 20 :]
        later = later[np.isfinite(later)]
        tops.append(float(later.max()) if len(later) else float("-inf"))
    limit = 3 * float(np.median([top for top in tops if np.isfinite(top)] or [0.0]))
    wild = tuple(line for line, top in zip(lines, tops, strict=True) if top > limit)
    calm = [top for top in tops if np.isfinite(top) and top <= limit]
    return (max(calm) * 1.3, wild) if limit > 0 and wild and calm else None


def far_apart(lines: list[Line]) -> bool:
    """Whether some lines would lie flat on the ground beside the others: their tops differ more than tenfold."""
    tops = [float(line.y[np.isfinite(line.y)].max(initial=0.0)) for line in lines]
    above = [top for top in tops if top > 0]
    return bool(above) and max(above) > 10 * min(above)


def tag_group(tag: str) -> str:
    """loss | validation (and what is measured like it) | lr | other: what belongs in one chart's neighbourhood."""
    name = tag.lower()
    if "validation" in name or "fixed_noise" in name or name.startswith("val"):
        return "validation"
    if name.startswith("lr") or "d*lr" in name:
        return "lr"
    return "loss" if name.startswith("loss") else "other"

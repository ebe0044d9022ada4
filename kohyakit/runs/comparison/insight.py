"""What the curves tell, in plain words with the numbers behind each; and nothing where the data do not carry it.

A step's loss depends on its random timestep far more than on what was learned, so single points say nothing: means
of stretches are compared, and only differences beyond three standard errors are spoken of.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import TYPE_CHECKING

from kohyakit.errors import Problem
from kohyakit.runs.comparison.summary import VALIDATION
from kohyakit.runs.logs.metrics import joined

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

_SURE = 3.0  # standard errors; by chance alone one comparison in 370 goes so far
_VISIBLE = 0.03  # a change of so much of the loss must have been visible before it is called flat
_FEWEST = 40  # steps below which a noisy line is not judged
_SINGLE = ("loss/current", "train_loss", "loss")  # one value a step, noise independent from step to step


@dataclass(frozen=True, slots=True, init=False)
class Statement(Problem):
    """One thing that the curves tell; its severity may be `good`. numbers: what it rests on, by name. tags: the lines
    it is about.
    """

    numbers: Mapping[str, float] = field(default_factory=dict)
    tags: tuple[str, ...] = ()

    def __init__(
        self, name: str, what: str, severity: str, numbers: Mapping[str, float], tags: tuple[str, ...],
        where: str = "", cure: str = "",
    ) -> None:  # fmt: skip
        Problem.__init__(self, where, what, cure, name, severity)
        object.__setattr__(self, "numbers", numbers)
        object.__setattr__(self, "tags", tags)


class Curves:
    """A run's lines as they were trained in the end, and how its steps make epochs."""

    def __init__(self, frame: pd.DataFrame, steps_per_epoch: float | None = None) -> None:
        self.lines: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
        frame = joined(frame)
        columns = [frame[name].to_numpy() for name in ("step", "value", "wall_time")]
        for tag, rows in frame.groupby("tag", observed=True, sort=False).indices.items():
            self.lines[str(tag)] = tuple(column[rows] for column in columns)  # type: ignore[assignment]
        self.steps_per_epoch = steps_per_epoch or self._steps_per_epoch()

    @property
    def single(self) -> str | None:
        """The line with one loss a step."""
        return next((tag for tag in _SINGLE if tag in self.lines), None)

    @property
    def validation(self) -> str | None:
        return next((tag for tag in VALIDATION if tag in self.lines), None)

    def at(self, tag: str, step: float) -> str:
        """A place on a line in words: "epoch 3" or "step 1,200". Epoch lines of sd-scripts count epochs as steps."""
        if self.counts_epochs(tag):
            return f"epoch {round(step)}"
        if self.steps_per_epoch and step >= self.steps_per_epoch:
            return f"epoch {step / self.steps_per_epoch:.0f} (step {step:,.0f})"
        return f"step {step:,.0f}"

    def counts_epochs(self, tag: str) -> bool:
        """Whether a line's steps are epochs: they go up by one, and the training had more steps than that."""
        steps = self.lines[tag][0]
        other = [line[0][-1] for name, line in self.lines.items() if "epoch" not in name and len(line[0])]
        consecutive = len(steps) > 0 and steps[0] <= 1 and len(steps) == steps[-1] - steps[0] + 1
        return "epoch" in tag and bool(other) and consecutive and max(other) > steps[-1]

    def _steps_per_epoch(self) -> float | None:
        """From the moments at which epochs were logged."""
        tag = next((name for name in self.lines if name.endswith(("loss/epoch_average", "loss/epoch"))), None)
        single = next((name for name in (*_SINGLE, "loss/average") if name in self.lines), None)
        if tag is None or single is None or not self.counts_epochs(tag):
            return None
        epochs, _, ends = self.lines[tag]
        steps, _, walls = self.lines[single]
        before = steps[walls <= ends[-1]]
        return float(before[-1] / epochs[-1]) if len(before) and epochs[-1] > 0 and before[-1] > epochs[-1] else None


def statements(frame: pd.DataFrame, *, steps_per_epoch: float | None = None) -> tuple[Statement, ...]:
    """Everything the curves of one run tell, the gravest first; () for curves that tell nothing.

    frame: as read_scalars gives. steps_per_epoch: taken from the log's epoch lines when None.
    """
    curves = Curves(frame, steps_per_epoch)
    found = [
        replace(statement, numbers={name: float(number) for name, number in statement.numbers.items()})
        for rule in RULES
        for statement in rule(curves)
    ]
    return tuple(sorted(found, key=attrgetter("rank")))


def not_a_number(curves: Curves) -> list[Statement]:
    """A loss that is NaN or infinite: from some step on, or here and there."""
    import numpy as np

    found = []
    for tag, (steps, values, _) in curves.lines.items():
        bad = ~np.isfinite(values)
        if not tag.startswith("loss") or not bad.any() or (tag != curves.single and curves.single):
            continue
        first, count = int(steps[bad][0]), int(bad.sum())
        numbers = {"first_step": first, "count": count, "of": len(values)}
        last_good = int(np.flatnonzero(~bad)[-1]) if (~bad).any() else -1
        if last_good < len(values) - 1 and bad[last_good + 1 :].sum() == count:
            text = f"{tag} is not a number from {curves.at(tag, first)} on: nothing was learned after it"
        else:
            text = f"{tag} is not a number at {count:,} of {len(values):,} steps, first at {curves.at(tag, first)}"
        found.append(Statement("not_a_number", text, "error", numbers, (tag,)))
    return found


def learning_rate_zero(curves: Curves) -> list[Statement]:
    """A learning rate that is 0 throughout, or for a good while at the end."""
    import numpy as np

    found = []
    for tag, (steps, values, _) in curves.lines.items():
        if not tag.startswith("lr/") or len(values) < 2:
            continue
        nonzero = np.flatnonzero(values != 0)
        if not len(nonzero):
            text = f"{tag} is 0 in all {len(values):,} steps: that part was not trained"
            found.append(Statement("learning_rate_zero", text, "warning", {"steps": len(values)}, (tag,)))
            continue
        idle = len(values) - 1 - int(nonzero[-1])
        if idle >= 10 and idle > 0.02 * len(values):
            start = float(steps[nonzero[-1] + 1])
            text = f"{tag} is 0 from {curves.at(tag, start)} on: the last {idle:,} steps changed nothing"
            numbers = {"first_step": start, "steps": idle, "of": len(values)}
            found.append(Statement("learning_rate_zero", text, "warning", numbers, (tag,)))
    return found


def spikes(curves: Curves) -> list[Statement]:
    """Single losses far above what is usual for the run."""
    import numpy as np

    tag = curves.single
    if tag is None:
        return []
    steps, values, _ = _finite(curves, tag)
    if len(values) < _FEWEST:
        return []
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    bound = max(middle + 12 * (high - low), 5 * middle)
    over = np.flatnonzero(values > bound)
    if not len(over) or len(over) > 0.02 * len(values):
        return []
    top = int(over[values[over].argmax()])
    many = f"{len(over)} values" if len(over) > 1 else "one value"
    text = (
        f"{tag} has {many} above {_number(bound)}, the highest {_number(values[top])} at {curves.at(tag, steps[top])}; "
        f"usual is {_number(middle)}"
    )
    numbers = {"count": len(over), "bound": bound, "max": values[top], "step": steps[top], "median": middle}
    return [Statement("spikes", text, "hint", numbers, (tag,))]


def training_and_validation(curves: Curves) -> list[Statement]:
    """Where the training loss goes, where the validation loss goes, and what both together mean."""
    train, validation = training_trend(curves), validation_trend(curves)
    state = {"training_falls": "still falls", "training_flat": "is flat"}.get(train.name) if train is not None else None
    if validation is not None and validation.name == "validation_rises" and train is not None and state:
        text = f"{validation.what} while {train.tags[0]} {state}: later epochs over-fit"
        numbers = {**{f"training_{name}": number for name, number in train.numbers.items()}, **validation.numbers}
        return [Statement("over_fit", text, "warning", numbers, (*validation.tags, *train.tags)), train]
    return [statement for statement in (validation, train) if statement is not None]


def training_trend(curves: Curves) -> Statement | None:
    """First against last quarter of the run; flat since when, where a change would have been seen."""
    tag = curves.single
    if tag is None:
        return None
    steps, values, _ = _finite(curves, tag)
    if len(values) < _FEWEST:
        return None
    quarter = len(values) // 4
    first, last = values[:quarter], values[-quarter:]
    change = float(last.mean() - first.mean())
    error = float((_variance_of_mean(first) + _variance_of_mean(last)) ** 0.5)
    numbers = {"first": float(first.mean()), "last": float(last.mean()), "error": error, "steps": len(values)}
    told = f"{_number(numbers['first'])} → {_number(numbers['last'])}, ± {_number(error)}"
    if abs(change) > _SURE * error:
        since = _flat_since(steps, values)
        if since is not None and change < 0:
            text = f"{tag} is flat since about {curves.at(tag, since)} (it fell before: {told})"
            return Statement("training_flat", text, "hint", {**numbers, "since": since}, (tag,))
        if change < 0:
            return Statement("training_falls", f"{tag} falls ({told})", "good", numbers, (tag,))
        text = f"{tag} rises ({told}): the training comes apart"
        return Statement("training_rises", text, "warning", numbers, (tag,))
    if _SURE * error < _VISIBLE * numbers["first"]:
        return Statement("training_flat", f"{tag} is flat over the whole run ({told})", "hint", numbers, (tag,))
    return None


def validation_trend(curves: Curves) -> Statement | None:
    """Since when the validation loss rises, or that it still falls at the end."""
    import numpy as np

    tag = curves.validation
    if tag is None:
        return None
    steps, values, _ = _finite(curves, tag)
    if len(values) < 5:
        return None
    low = int(values.argmin())
    # the noise of the line about its own course: what is left of three neighbours beside a straight line
    bends = values[:-2] - 2 * values[1:-1] + values[2:]
    noise = float(np.sqrt((bends**2).mean() / 6))
    numbers = {"lowest": values[low], "lowest_step": steps[low], "last": values[-1], "noise": noise}
    after = values[low + 1 :]
    unsure = noise * (1 + 4 / len(values))  # the noise itself is measured on few points
    if len(after) >= 3 and _rises(after, values[low], unsure):
        percent = 100 * (values[-1] / values[low] - 1)
        text = (
            f"{tag} rises since {curves.at(tag, steps[low])} ({_number(values[low])} → {_number(values[-1])}, "
            f"+{percent:.1f} %)"
        )
        return Statement("validation_rises", text, "warning", numbers, (tag,))
    third = max(2, len(values) // 3)
    fall = float(values[-2 * third : -third].mean() - values[-third:].mean())
    if fall > _SURE * unsure * (2 / third) ** 0.5 and fall > 0.005 * values[low] and low >= len(values) - 2:
        text = f"{tag} still falls at the end ({_number(values[-1])} is its lowest): more steps may help"
        return Statement("validation_falls", text, "hint", {**numbers, "fall": fall}, (tag,))
    return None


def slower(curves: Curves) -> list[Statement]:
    """Steps that take much longer in the end than at first, as when memory spills."""
    import numpy as np

    tag = curves.single
    if tag is None:
        return []
    walls = curves.lines[tag][2]
    if len(walls) < 4 * _FEWEST:
        return []
    seconds = np.diff(walls)
    quarter = len(seconds) // 4
    before, after = float(np.median(seconds[:quarter])), float(np.median(seconds[-quarter:]))
    if before <= 0.02 or after < 1.5 * before:
        return []
    why = "memory may be spilling, or the machine is shared"
    text = f"steps took {before:.2g} s at first and {after:.2g} s in the end: {why}"
    return [Statement("slower", text, "hint", {"first_seconds": before, "last_seconds": after}, (tag,))]


RULES: tuple[Callable[[Curves], list[Statement]], ...] = (
    not_a_number, learning_rate_zero, training_and_validation, spikes, slower,
)  # fmt: skip


def _finite(curves: Curves, tag: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    import numpy as np

    line = curves.lines[tag]
    good = np.isfinite(line[1])
    return tuple(column[good].astype(float) for column in line)  # type: ignore[return-value]


def _variance_of_mean(values: np.ndarray) -> float:
    """Of a stretch's mean, from the means of up to ten pieces: right also when neighbours resemble each other."""
    import numpy as np

    pieces = np.array_split(values, min(10, max(2, len(values) // 5)))
    means = np.array([piece.mean() for piece in pieces])
    return float(max(means.var(ddof=1) / len(means), 1e-24))


def _flat_since(steps: np.ndarray, values: np.ndarray) -> float | None:
    """The first step after which nothing changes that would be visible; None while it still falls, or is unclear."""
    for tenth in range(2, 6):
        start = len(values) * tenth // 10
        rest = values[start:]
        half = len(rest) // 2
        change = abs(float(rest[:half].mean() - rest[half:].mean()))
        error = (_variance_of_mean(rest[:half]) + _variance_of_mean(rest[half:])) ** 0.5
        if change < _SURE * error / 2 and _SURE * error < _VISIBLE * float(rest.mean()):
            before = values[:start]
            drop = float(before[: max(1, len(before) // 2)].mean() - rest.mean())
            return float(steps[start]) if drop > _VISIBLE * float(rest.mean()) else None
    return None


def _rises(after: np.ndarray, lowest: float, noise: float) -> bool:
    """Whether the points after the lowest climb themselves: that they lie above it is no news."""
    import numpy as np

    places = np.arange(len(after)) - (len(after) - 1) / 2
    spread = float((places**2).sum())
    slope = float((places * after).sum()) / spread
    height = float(after[-2:].mean()) - lowest
    return slope > _SURE * noise / spread**0.5 and height > max(_SURE * noise, 0.005 * abs(lowest))


def _number(value: float) -> str:
    """Four figures, without an exponent where that reads well."""
    return f"{value:.3e}" if value and not 1e-4 <= abs(value) < 1e5 else f"{value:.4g}"

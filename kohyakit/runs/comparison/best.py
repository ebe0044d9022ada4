"""Which run was best, by which number, and how sure that is."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kohyakit.errors import Problem, RunError
from kohyakit.runs.comparison.compare import same_images, settings_table
from kohyakit.runs.comparison.summary import FIXED_NOISE, TRAINING, VALIDATION
from kohyakit.runs.logs import metrics
from kohyakit.runs.run import FAILED, UNREADABLE, Checkpoint, Run
from kohyakit.words import number

if TYPE_CHECKING:
    import pandas as pd

# Settings that change what the number called loss measures, so that two runs' losses do not compare.
LOSS_SETTINGS = frozenset({
    "loss_type", "huber_c", "huber_schedule", "huber_scale", "min_snr_gamma", "debiased_estimation_loss",
    "scale_v_pred_loss_like_noise_pred", "v_pred_like_loss", "v_parameterization", "zero_terminal_snr", "noise_offset",
    "noise_offset_random_strength", "multires_noise_iterations", "multires_noise_discount", "adaptive_noise_scale",
    "ip_noise_gamma", "min_timestep", "max_timestep", "prior_loss_weight", "masked_loss", "resolution",
    "pretrained_model_name_or_path", "weighted_captions", "caption_dropout_rate",
})  # fmt: skip

# Settings that change on what, and how, the loss is measured beside the training.
MEASURE_SETTINGS = frozenset({"validation_split", "validation_seed", "max_validation_steps", "fixed_noises"})


@dataclass(frozen=True, slots=True)
class Place:
    """A run in the ranking. value: its number; error: that number's standard error, None where it cannot be told.

    step: where the value was reached (an epoch for lines that count epochs). checkpoint: the file saved nearest to it.
    """

    run: Run
    value: float
    error: float | None
    step: int
    checkpoint: Checkpoint | None


@dataclass(frozen=True, slots=True)
class Ranking:
    """Runs on the same photos from the best on. certainty: clear | likely | toss-up | unknown. caveats: why numbers may
    not compare, and who is not ranked. without: runs that lack the metric, or are unfit: they failed or became NaN.
    elsewhere: runs on other photos.
    """

    metric: str
    statistic: str
    places: tuple[Place, ...]
    certainty: str
    because: str
    caveats: tuple[str, ...]
    without: tuple[Run, ...]
    unfit: tuple[Run, ...] = ()
    elsewhere: tuple[Run, ...] = ()

    @property
    def best(self) -> Run:
        return self.places[0].run


def best(
    runs: Sequence[Run], *, metric: str | None = None, read: Callable[[Run], pd.DataFrame] | None = None
) -> Ranking:
    """Rank runs by their lowest validation loss, where at least one has it, else by the lowest loss with fixed noise
    or, where there is none, by their training loss at the end.

    Of several sets of photos the one that most of the runs trained on is ranked; a run that failed never is.
    metric: a tag of your own choice, lower is better. read: gives a run's scalars, where they are at hand already.
    Raises RunError when no run has anything to be ranked by.
    """
    read_all = {run: metrics.joined((read or scalars)(run)) for run in runs}
    unfit = {run: why for run, frame in read_all.items() if (why := _unfit(run, frame))}
    frames = {run: frame for run, frame in read_all.items() if run not in unfit}
    if unfit and not frames:
        raise RunError(Problem("", f"no run ended well: {', '.join(unfit.values())}", "look at each with runs show"))
    tag = metric or _metric(list(frames.values()))
    if tag is None:
        cure = "set logging_dir, so that losses are kept"
        raise RunError(Problem("", "no run has a loss to be ranked by", cure))
    held_back = "validation" in tag
    lowest = held_back or tag in FIXED_NOISE
    places = [place for run, frame in frames.items() if (place := _place(run, frame, tag, lowest)) is not None]
    if not places:
        raise RunError(Problem("", f"no run has the metric '{tag}'", "kohyakit runs show names those a run has"))
    measured = {place.run for place in places}
    places, elsewhere = _on_the_same_photos(places)
    places.sort(key=lambda place: place.value)
    statistic = "lowest" if lowest else "mean of the last quarter"
    certainty, because = _certainty(places)
    caveats = [*_caveats([place.run for place in places], held_back, lowest), *unfit.values()]
    if elsewhere:
        names = ", ".join(run.record.version for run in elsewhere)
        caveats.append(f"{names} trained on other photos and {'is' if len(elsewhere) == 1 else 'are'} not ranked here")
    return Ranking(
        tag, statistic, tuple(places), certainty, because, tuple(caveats),
        tuple(run for run in runs if run not in measured), tuple(unfit), elsewhere,
    )  # fmt: skip


def _unfit(run: Run, frame: pd.DataFrame) -> str:
    """Why a run cannot be the best, in words; "" for one that can."""
    import numpy as np

    if run.status in (FAILED, UNREADABLE):
        return f"{run.record.version} {'failed' if run.status == FAILED else 'cannot be read'} and is not ranked"
    for tag in ("loss/current", *TRAINING):
        values = frame.loc[frame["tag"] == tag, "value"].to_numpy()
        if len(values) and not np.isfinite(values[-1]):
            return f"{run.record.version}'s loss became NaN, so it is not ranked"
    return ""


def _on_the_same_photos(places: list[Place]) -> tuple[list[Place], tuple[Run, ...]]:
    """The places of the photos that most runs trained on, of two such sets the later, and the other runs.

    Where no two trained on the same photos, all of them: they cannot be compared, which is said.
    """
    groups: list[list[Place]] = []
    for place in places:
        group = next((group for group in groups if same_images(group[0].run.record, place.run.record)), None)
        if group is None:
            groups.append([place])
        else:
            group.append(place)
    most = max(groups, key=lambda group: (len(group), max(place.run.version for place in group)))
    if len(most) == 1:
        return places, ()
    return most, tuple(place.run for place in places if place not in most)


def best_files(runs: Sequence[Run]) -> list[Path]:
    """The models that validation speaks for, one a run that has a validation loss, and those kept as the best."""
    found = []
    for run in runs:
        if isinstance(kept := run.record.best.get("file"), str) and kept:
            found.append(run.locate(kept))
        frame = metrics.joined(scalars(run))
        tag = next((tag for tag in VALIDATION if tag in set(frame["tag"].unique())), None)
        place = _place(run, frame, tag, lowest=True) if tag else None
        if place is not None and place.checkpoint is not None:
            found.append(run.locate(place.checkpoint.file))
    return found


def best_measured(run: Run) -> str:
    """The lowest loss that was measured while it trained, in words; "" for a run without."""
    told = run.record.best
    loss, error, step, file = (told.get(name) for name in ("loss", "error", "step", "file"))
    if not isinstance(loss, (int, float)) or not isinstance(step, int):
        return ""
    what = "validation loss" if told.get("tag") == "loss/validation" else "loss with fixed noise"
    spread = f" ± {number(error)}" if isinstance(error, (int, float)) else ""
    kept = f", kept in {Path(file).name}" if isinstance(file, str) and file else ""
    return f"lowest {what} {number(loss)}{spread} after step {step:,}{kept}"


def scalars(run: Run) -> pd.DataFrame:
    """A run's scalars from all its log folders; an empty frame for one without."""
    log = metrics.ScalarLog([folder for folder in run.logs if os.path.isdir(folder)])
    log.refresh()
    return log.frame()


def _metric(frames: Sequence[pd.DataFrame]) -> str | None:
    """The validation line that most runs have, else one with fixed noise, else the training line that most have."""
    present = [set(frame["tag"].unique()) for frame in frames]
    for tags in (VALIDATION, FIXED_NOISE, ("loss/current", *TRAINING)):
        counts = {tag: sum(tag in found for found in present) for tag in tags}
        if any(counts.values()):
            return max(counts, key=lambda tag: counts[tag])
    return None


def _place(run: Run, frame: pd.DataFrame, tag: str, lowest: bool) -> Place | None:
    import numpy as np

    line = frame[frame["tag"] == tag]
    steps, values = line["step"].to_numpy(), line["value"].to_numpy()
    good = np.isfinite(values)
    steps, values = steps[good], values[good]
    if not len(values):
        return None
    if lowest:
        at = int(values.argmin())
        bends = values[:-2] - 2 * values[1:-1] + values[2:]
        error = float(np.sqrt((bends**2).mean() / 6)) if len(bends) >= 3 else None
        return Place(run, float(values[at]), error, int(steps[at]), _checkpoint(run, frame, tag, int(steps[at])))
    last = values[-max(1, len(values) // 4) :]
    error = None
    if len(last) >= 20:
        means = np.array([piece.mean() for piece in np.array_split(last, 10)])
        error = float(means.std(ddof=1) / 10**0.5)
    return Place(run, float(last.mean()), error, int(steps[-1]), _checkpoint(run, frame, tag, int(steps[-1])))


def _checkpoint(run: Run, frame: pd.DataFrame, tag: str, step: int) -> Checkpoint | None:
    """The model saved nearest to a step; of an epoch line, to that epoch. A file without a number is the last."""
    models = [
        checkpoint for checkpoint in run.record.checkpoints if checkpoint.kind == "model" and not checkpoint.replaced_by
    ]
    epochs = "epoch" in tag and step < int(frame["step"].max())
    end = int(frame["step"].max()) if not epochs else int(frame.loc[frame["tag"] == tag, "step"].max())

    def distance(checkpoint: Checkpoint) -> int:
        number = checkpoint.epoch if epochs else checkpoint.step
        return abs((end if number is None else number) - step)

    return min(models, key=distance, default=None)


def _certainty(places: Sequence[Place]) -> tuple[str, str]:
    """How far the first is ahead of the second, in standard errors of the difference."""
    if len(places) == 1:
        return "unknown", "there is nothing to compare it with"
    first, second = places[:2]
    if not same_images(first.run.record, second.run.record):
        return "unknown", "the runs trained on different photos, so their numbers do not compare"
    if first.error is None or second.error is None:
        return "unknown", "too few points to tell the noise"
    ahead = second.value - first.value
    error = (first.error**2 + second.error**2) ** 0.5
    errors = ahead / error if error else float("inf")
    told = f"{ahead:.2g} below {second.run.record.version}, where chance alone makes ± {error:.2g}"
    if errors >= 3:
        return "clear", told
    return ("likely", told) if errors >= 1.5 else ("toss-up", told)


def _caveats(runs: Sequence[Run], held_back: bool, measured: bool) -> tuple[str, ...]:
    """held_back: ranked by photos that were not trained. measured: by a loss that was measured beside the training."""
    found = []
    if not held_back:
        found.append("training loss says how well the photos are learned by heart, not how good new pictures are")
    lost = {c.replaced_by for c in runs[0].record.checkpoints if c.replaced_by and c.kind == "model"}
    if lost:
        found.append(f"models of {runs[0].record.version} were overwritten by {', '.join(sorted(lost))}")
    if not all(same_images(runs[0].record, run.record) for run in runs):
        found.append("the runs trained on different photos")
    deciding = LOSS_SETTINGS | (MEASURE_SETTINGS if measured else frozenset())
    differ = [row.name for row in settings_table(runs) if row.name in deciding] if len(runs) > 1 else []
    if differ:
        verb = "differs" if len(differ) == 1 else "differ"
        found.append(f"{', '.join(differ)} {verb}, so the losses measure different things")
    return tuple(found)

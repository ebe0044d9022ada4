"""How the loss is measured on the way: on which photos, at which timesteps, after which steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from kohyakit.config.train import SPECS, TrainConfig
from kohyakit.dataset.layout import Scan
from kohyakit.errors import Problem
from kohyakit.planning.lengths import Filling, fill_buckets
from kohyakit.planning.plan import Course, Validation, ValidationPoint

_NOISES = 4  # sd-scripts measures at as many timesteps, evenly between the first and the last


def _own_photos(config: TrainConfig, scan: Scan) -> list[Filling]:
    """The training's own photos in their buckets, each once, where they are what is measured."""
    if not config.training.fixed_noises or scan.held_back:
        return []
    photos = [
        replace(data, subsets=tuple(replace(subset, num_repeats=1) for subset in data.subsets if not subset.is_reg))
        for data in scan.datasets
    ]
    return [fill_buckets(data) for data in photos]


def plan_validation(
    config: TrainConfig, scan: Scan, held: Sequence[Filling], course: Course, *, by_sd_scripts: bool = False
) -> Validation | None:
    """What is measured and when; None where nothing is. held: the photos held back, in their buckets."""
    photos = held or ([] if by_sd_scripts else _own_photos(config, scan))
    as_there = by_sd_scripts or config.training.rng_order == "sd-scripts"
    parts = tuple(filling.plan for filling in photos)
    held_back, training = bool(scan.held_back), config.training
    levels = timesteps(*config.noise_loss.timesteps) if held_back and as_there else ()
    batches = sum(row.batches for part in parts for row in part.buckets)
    if levels:
        batches = -(-batches // course.length.processes)
    if not batches:
        return None
    apart = {image.record.path for part in parts for image in part.images} if held_back else set()
    return Validation(
        parts,
        min(training.max_validation_steps or batches, batches),
        len(levels) or training.fixed_noises or _NOISES,
        frozenset(_points(config, course, as_there=as_there)),
        held_back,
        levels,
        overlap=len(apart & {record.path for subset in scan.subsets() for record in subset.records}),
        patience=None if by_sd_scripts else training.early_stop_patience,
    )


def best_file(config: TrainConfig) -> str | None:
    return f"{config.saving.name}-best{config.saving.extension}" if config.saving.keep_best else None


_NOT_THERE = (
    "fixed_noises", "keep_best", "early_stop_patience", "save_from_epoch", "save_at_epochs", "log_trackio",
    "joined_qkv",
)  # fmt: skip


def not_there(config: TrainConfig) -> Iterator[Problem]:
    """What only the trainer here does, where sd-scripts is to train."""
    named = [name for name in _NOT_THERE if config[name] not in (SPECS()[name].default, None)]
    if named:
        what = f"{'have' if len(named) > 1 else 'has'} no effect, because sd-scripts does not know of it"
        yield Problem(" and ".join(named), what, "train without --backend sd-scripts", "without_effect", "warning")


def timesteps(low: int, high: int) -> tuple[int, ...]:
    """Where sd-scripts measures: 200, 400, 600 and 800 of 0 to 1000."""
    step = (high - low) / (_NOISES + 1)
    return tuple(int(place * step + low) for place in range(1, _NOISES + 1))


def _points(config: TrainConfig, course: Course, *, as_there: bool) -> Iterator[ValidationPoint]:
    """After every so many steps, and at the end of every so many epochs.

    sd-scripts measures each epoch where only steps are asked for, and twice where both fall together; we do not.
    """
    if not course.length.steps or not course.length.steps_per_epoch:
        return
    training, done = config.training, course.start.step
    by_step = training.validate_every_n_steps
    each = training.validate_every_n_epochs or (1 if as_there or not by_step else 0)
    epochs = range(max(each, course.start.epoch), course.last_epoch + 1) if each else ()
    ends = {course.end_of(epoch): epoch for epoch in epochs if epoch % each == 0 and course.end_of(epoch) > done}
    for step in range(by_step, course.last_step + 1, by_step) if by_step else ():
        if step > done and (as_there or step not in ends):
            yield ValidationPoint(step)
    yield from (ValidationPoint(step, epoch) for step, epoch in ends.items())


def findings(config: TrainConfig, scan: Scan, plan: object) -> Iterator[Problem]:
    """Photos that are held back and trained all the same, and a share that holds back none."""
    held = {record.path for dataset in scan.held_back for subset in dataset.subsets for record in subset.records}
    shares = [dataset.validation_split for dataset in scan.datasets if dataset.validation_split]
    if shares and not held:
        photos = sum(len(subset.records) for subset in scan.subsets() if not subset.is_reg)
        what = f"{shares[0]:g} of each folder holds back none of {photos} photos, so nothing is measured"
        yield Problem("validation_split", what, "raise it, or take it out", "nothing_held_back", "warning")
    both = held & {record.path for subset in scan.subsets() for record in subset.records}
    if both:
        what = f"{len(both)} of the {len(held)} photos held back are trained on too, so the loss on them is too good"
        cure = (
            "set validation_seed and a share that makes whole photos of each folder; in process, rng_order kohyakit "
            "trains none of them"
        )
        yield Problem("validation_split", what, cure, "validation_trained_too", "warning")

"""How the loss is measured on the way: on which photos, at which timesteps, after which steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kohyakit.config.train import TrainConfig
from kohyakit.dataset.layout import Scan
from kohyakit.errors import Problem
from kohyakit.planning.lengths import Filling
from kohyakit.planning.plan import Course, Validation, ValidationPoint

_TIMESTEPS = 4  # sd-scripts measures at as many, evenly between the first and the last


def plan_validation(config: TrainConfig, scan: Scan, held: Sequence[Filling], course: Course) -> Validation | None:
    """What is measured and when; None where nothing is held back. held: the photos that are, in their buckets."""
    parts = tuple(filling.plan for filling in held)
    batches = -(-sum(row.batches for part in parts for row in part.buckets) // course.length.processes)
    if not batches:
        return None
    most = config.training.max_validation_steps
    trained = {record.path for subset in scan.subsets() for record in subset.records}
    return Validation(
        parts,
        min(most, batches) if most else batches,
        timesteps(*config.noise_loss.timesteps),
        frozenset(_points(config, course)),
        as_sd_scripts=config.training.rng_order == "sd-scripts",
        overlap=len({image.record.path for part in parts for image in part.images} & trained),
    )


def timesteps(low: int, high: int) -> tuple[int, ...]:
    """Where sd-scripts measures: 200, 400, 600 and 800 of 0 to 1000."""
    step = (high - low) / (_TIMESTEPS + 1)
    return tuple(int(place * step + low) for place in range(1, _TIMESTEPS + 1))


def _points(config: TrainConfig, course: Course) -> Iterator[ValidationPoint]:
    """After every so many steps, and at the end of every so many epochs.

    sd-scripts measures each epoch where only steps are asked for, and twice where both fall together; we do not.
    """
    if not course.length.steps or not course.length.steps_per_epoch:
        return
    training, done = config.training, course.start.step
    by_step, as_there = training.validate_every_n_steps, training.rng_order == "sd-scripts"
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
        cure = "choose a share that gives whole photos in each folder, or set rng_order to kohyakit"
        yield Problem("validation_split", what, cure, "validation_trained_too", "warning")

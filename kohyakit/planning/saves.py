"""What a training writes, when, under which name, and which of it is deleted again; when it draws samples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from kohyakit.config.train import TrainConfig
from kohyakit.planning.plan import Course, DrawPoint, SavePoint


def save_points(config: TrainConfig, course: Course) -> tuple[SavePoint, ...]:
    """Every file of the training in the order of writing, sd-scripts' names: epochs, steps, and the last one."""
    if not _trains(course):
        return ()
    saving = config.saving
    points = [point for point in _on_the_way(config, course) if point.step > course.start.step]
    state = f"{config.saving.name}-state" if saving.save_state or saving.save_state_on_train_end else None
    last = SavePoint(course.last_step, course.last_epoch, config.saving.name + config.saving.extension, state)
    return (*points, last)


def earlier_points(config: TrainConfig, course: Course) -> tuple[SavePoint, ...]:
    """Files of the training that this one goes on from which one of its own saves removes, where they still lie."""
    if not _trains(course):
        return ()
    done = course.start.step

    def goes(point: SavePoint) -> bool:
        return point.step <= done and any(at and at > done for at in (point.deleted_at, point.state_deleted_at))

    return tuple(point for point in _on_the_way(config, course) if goes(point))


def epoch_interval(config: TrainConfig, epochs: int) -> int | None:
    """Every how many epochs a file is saved; save_n_epoch_ratio asks for at least so many files in all."""
    ratio = config.saving.save_n_epoch_ratio
    return max(1, epochs // ratio) if ratio and ratio > 0 else config.saving.save_every_n_epochs


def _trains(course: Course) -> bool:
    return course.length.steps > 0 and course.length.steps_per_epoch > 0


def _on_the_way(config: TrainConfig, course: Course) -> list[SavePoint]:
    """Those of steps before those of epochs where both fall together; from the first step on, whatever the start."""
    points = [*_by_steps(config, course), *_by_epochs(config, course)]
    return sorted(points, key=lambda point: point.step)


def _by_epochs(config: TrainConfig, course: Course) -> Iterator[SavePoint]:
    saving, every = config.saving, epoch_interval(config, course.length.epochs)
    chosen = {epoch for epoch in saving.save_at_epochs if epoch < course.last_epoch}
    if not every and not chosen:
        return
    kept = saving.save_last_n_epochs
    kept_states = saving.save_last_n_epochs_state or kept
    regular = range(every, course.last_epoch, every) if every else ()  # the last epoch of all has the last file
    found = chosen | {epoch for epoch in regular if epoch >= saving.save_from_epoch}

    def deleted(epoch: int, count: int | None) -> int | None:
        if not count or not every or epoch in chosen or (later := epoch + count * every) >= course.last_epoch:
            return None
        return course.end_of(later)

    for epoch in sorted(found):
        title = f"{saving.output_name or 'epoch'}-{epoch:06d}"
        point = SavePoint(course.end_of(epoch), epoch, title + config.saving.extension, by="epoch")
        yield _kept(config, point, title, deleted(epoch, kept), deleted(epoch, kept_states))


def _by_steps(config: TrainConfig, course: Course) -> Iterator[SavePoint]:
    saving, every = config.saving, config.saving.save_every_n_steps
    if not every:
        return
    kept = saving.save_last_n_steps
    kept_states = saving.save_last_n_steps_state or kept

    def deleted(step: int, span: int | None) -> int | None:
        if not span:
            return None
        later = -(-(step + span + 1) // every) * every  # the first save at which it is older than the span
        return later if later <= course.last_step else None

    for step in range(every, course.last_step + 1, every):
        title = f"{saving.output_name or 'at'}-step{step:08d}"
        point = SavePoint(step, course.epoch_of(step), title + config.saving.extension, by="step")
        yield _kept(config, point, title, deleted(step, kept), deleted(step, kept_states))


def _kept(config: TrainConfig, point: SavePoint, title: str, gone: int | None, state_gone: int | None) -> SavePoint:
    point = replace(point, deleted_at=gone)
    return replace(point, state=f"{title}-state", state_deleted_at=state_gone) if config.saving.save_state else point


def draw_points(config: TrainConfig, course: Course) -> tuple[DrawPoint, ...]:
    """When samples are drawn. Epochs go before steps."""
    sampling, done = config.sampling, course.start.step
    if not _trains(course):
        return ()
    found = [DrawPoint(0, 0)] if sampling.sample_at_first and not done else []
    if every := sampling.sample_every_n_epochs:
        ends = (DrawPoint(course.end_of(epoch), epoch) for epoch in range(every, course.last_epoch + 1, every))
        found += (point for point in ends if point.step > done)
    elif every := sampling.sample_every_n_steps:
        found += (DrawPoint(step) for step in range(every, course.last_step + 1, every) if step > done)
    return tuple(found)

"""What a training writes, when, under which name, and which of it is deleted again; when it draws samples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from kohyakit.config.train import TrainConfig


@dataclass(frozen=True, slots=True)
class SavePoint:
    """A file written at the end of a step. file: without a folder. state: the state folder saved with it, or None.

    deleted_at, state_deleted_at: the step at whose save it is removed by save_last_n_*, or None where it stays.
    """

    step: int
    epoch: int
    file: str
    state: str | None = None
    deleted_at: int | None = None
    state_deleted_at: int | None = None


def save_points(config: TrainConfig, steps: int, epochs: int, steps_per_epoch: int) -> tuple[SavePoint, ...]:
    """Every file of the training in the order of writing, sd-scripts' names: epochs, steps, and the last one."""
    if steps < 1 or steps_per_epoch < 1:
        return ()
    points = [*_by_steps(config, steps, steps_per_epoch), *_by_epochs(config, epochs, steps_per_epoch)]
    points.sort(key=lambda point: point.step)
    saving = config.saving
    name = saving.output_name or "last"
    state = f"{name}-state" if saving.save_state or saving.save_state_on_train_end else None
    return (*points, SavePoint(steps, epochs, name + extension(config), state))


def extension(config: TrainConfig) -> str:
    """`.safetensors`, `.ckpt` or `.pt`."""
    return "." + (config.saving.save_model_as or "safetensors")


def epoch_interval(config: TrainConfig, epochs: int) -> int | None:
    """Every how many epochs a file is saved; save_n_epoch_ratio asks for at least so many files in all."""
    ratio = config.saving.save_n_epoch_ratio
    return max(1, epochs // ratio) if ratio and ratio > 0 else config.saving.save_every_n_epochs


def _by_epochs(config: TrainConfig, epochs: int, steps_per_epoch: int) -> Iterator[SavePoint]:
    saving, every = config.saving, epoch_interval(config, epochs)
    if not every:
        return
    kept = saving.save_last_n_epochs
    kept_states = saving.save_last_n_epochs_state or kept
    name = saving.output_name or "epoch"
    last = (epochs - 1) // every * every

    def deleted(epoch: int, count: int | None) -> int | None:
        if not count or epoch + count * every > last:
            return None
        return (epoch + count * every) * steps_per_epoch

    for epoch in range(every, epochs, every):
        point = SavePoint(epoch * steps_per_epoch, epoch, f"{name}-{epoch:06d}{extension(config)}")
        point = replace(point, deleted_at=deleted(epoch, kept))
        if saving.save_state:
            state = f"{name}-{epoch:06d}-state"
            point = replace(point, state=state, state_deleted_at=deleted(epoch, kept_states))
        yield point


def _by_steps(config: TrainConfig, steps: int, steps_per_epoch: int) -> Iterator[SavePoint]:
    saving, every = config.saving, config.saving.save_every_n_steps
    if not every:
        return
    kept = saving.save_last_n_steps
    kept_states = saving.save_last_n_steps_state or kept
    name = saving.output_name or "at"

    def deleted(step: int, span: int | None) -> int | None:
        if not span:
            return None
        later = -(-(step + span + 1) // every) * every  # the first save at which it is older than the span
        return later if later <= steps else None

    for step in range(every, steps + 1, every):
        point = SavePoint(step, -(-step // steps_per_epoch), f"{name}-step{step:08d}{extension(config)}")
        point = replace(point, deleted_at=deleted(step, kept))
        if saving.save_state:
            state = f"{name}-step{step:08d}-state"
            point = replace(point, state=state, state_deleted_at=deleted(step, kept_states))
        yield point


def sample_steps(config: TrainConfig, steps: int, epochs: int, steps_per_epoch: int) -> tuple[int, ...]:
    """The steps after which samples are drawn, 0 being before the first. Epochs go before steps."""
    sampling = config.sampling
    found = [0] if sampling.sample_at_first else []
    if sampling.sample_every_n_epochs:
        every = sampling.sample_every_n_epochs
        found += [min(epoch * steps_per_epoch, steps) for epoch in range(every, epochs + 1, every)]
    elif sampling.sample_every_n_steps:
        found += range(sampling.sample_every_n_steps, steps + 1, sampling.sample_every_n_steps)
    return tuple(found)

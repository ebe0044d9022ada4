"""Several processes of one thread each that teach one model: on busy cores better than one process of many threads."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import torch
from torch import Tensor, distributed


def run(work: Callable[..., None], processes: int, *given: object) -> None:
    """Call work(*given) in each of the processes; they end together."""
    if processes == 1:
        torch.set_num_threads(1)
        work(*given)
        return
    with tempfile.TemporaryDirectory() as meeting:
        torch.multiprocessing.spawn(_one, (processes, meeting, work, given), nprocs=processes)


def _one(rank: int, processes: int, meeting: str, work: Callable[..., None], given: tuple[object, ...]) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo",
        init_method=(Path(meeting) / "met").as_uri(),
        rank=rank,
        world_size=processes,
        timeout=timedelta(days=2),  # a run may be paused
    )
    work(*given)
    distributed.destroy_process_group()


def rank() -> int:
    """Which of the processes this is."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def processes() -> int:
    """How many there are."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def mean(values: Tensor) -> Tensor:
    """The mean over the processes, in place."""
    if distributed.is_initialized():
        distributed.all_reduce(values)
        values /= processes()
    return values


def wait() -> None:
    """Until all are here."""
    if distributed.is_initialized():
        distributed.barrier()

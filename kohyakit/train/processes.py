"""One process or several: what accelerate knows, and how the processes of a training agree."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from kohyakit.errors import ConfigError, Problem

T = TypeVar("T")


class Processes:
    """A thin face of accelerate's Accelerator. With one process nothing is sent anywhere.

    patience: minutes that processes wait for each other (ddp_timeout); None for accelerate's own.
    """

    def __init__(self, mixed_precision: str, *, full_fp16: bool = False, patience: int | None = None) -> None:
        from accelerate import Accelerator, InitProcessGroupKwargs
        from accelerate.state import AcceleratorState

        AcceleratorState._reset_state(reset_partial_state=False)  # trainings in one process may differ in precision
        waits = [InitProcessGroupKwargs(timeout=timedelta(minutes=patience))] if patience else []
        try:
            self.accelerator = Accelerator(mixed_precision=mixed_precision, kwargs_handlers=list(waits))
        except ValueError as error:
            what = f"{mixed_precision} does not work here ({error})"
            raise ConfigError(Problem("mixed_precision", what, "set mixed_precision to bf16 or no")) from error
        if full_fp16 and self.accelerator.scaler is not None:
            allow_half_gradients(self.accelerator.scaler)
        self.count: int = self.accelerator.num_processes
        self.main: bool = self.accelerator.is_main_process

    def any(self, here: bool) -> bool:
        """Whether it is true in any process."""
        if self.count == 1:
            return here
        flag = torch.tensor([float(here)], device=self.accelerator.device)
        return bool(self.accelerator.reduce(flag, reduction="sum").item() > 0)

    def agree_on(self, value: T) -> T:
        """The main process' value, in all of them."""
        if self.count == 1:
            return value
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([value])[0]

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its mean over all processes; call it with the same parameters in each.

        A dropout may leave a parameter without a gradient in one process and not in another: it counts as zero
        there. Where no process has one, there is none, as with one process that saw all their batches.
        """
        if self.count > 1:
            average_in_one(tuple(parameters), self.accelerator.reduce, self.count)

    def share(self, items: Iterable[T]) -> Iterator[T]:
        """This process' items, in turn (see share_of)."""
        return share_of(items, self.accelerator.process_index, self.count)

    def wait(self) -> None:
        self.accelerator.wait_for_everyone()

    def device_name(self) -> str:
        device: Any = self.accelerator.device
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
        return name if self.count == 1 else f"{self.count} x {name}"

    def memory_gib(self) -> float | None:
        """How much of the GPU's memory torch holds, in GiB; None on a CPU."""
        device = self.accelerator.device
        return torch.cuda.memory_reserved(device) / 2**30 if device.type == "cuda" else None


def average_in_one(parameters: Sequence[nn.Parameter], add_up: Callable[[Tensor], Tensor], count: int) -> None:
    """All gradients in one message: flattened into one float32 bucket, and behind them who has which."""
    there = torch.tensor([float(p.grad is not None) for p in parameters], device=parameters[0].device)
    flat = [(p.grad if p.grad is not None else torch.zeros_like(p)).flatten().float() for p in parameters]
    bucket = add_up(torch.cat([*flat, there]))
    means = bucket[: -len(parameters)] / count
    somewhere = (bucket[-len(parameters) :] > 0).tolist()
    for parameter, mean, known in zip(parameters, means.split([p.numel() for p in parameters]), somewhere, strict=True):
        parameter.grad = mean.view_as(parameter).to(parameter.dtype) if known else None


def allow_half_gradients(scaler: Any) -> None:
    """Let a gradient scaler unscale fp16 gradients, which full_fp16 has and torch refuses; as sd-scripts."""
    plain = scaler._unscale_grads_

    def unscale(optimizer: Any, inverse_scale: Any, found_inf: Any, allow_fp16: bool) -> Any:
        return plain(optimizer, inverse_scale, found_inf, True)

    scaler._unscale_grads_ = unscale


def share_of(items: Iterable[T], rank: int, count: int) -> Iterator[T]:
    """Every count-th item from the rank-th on; each rank gets as many, the last round starting over at the first."""
    first: list[T] = []
    number = 0
    for number, item in enumerate(items, start=1):
        if number <= count:
            first.append(item)
        if (number - 1) % count == rank:
            yield item
    missing = -number % count
    if missing and rank >= count - missing:
        yield first[(rank - (count - missing)) % len(first)]

"""A model's weights as one flat vector: Adam, an average that lags behind, and checkpoints that a kill cannot spoil."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

_FLOAT = torch.float32
_EVERY = 5  # steps between two looks at what the average should be


class Weights:
    """The parameters of some modules in one vector, each a view of it; their gradients likewise.

    A model in bfloat16 learns through a float32 copy: `master` is what is trained, the model's own values its rounding.
    lag: how much of the average stays at each step.
    """

    def __init__(self, parts: Iterable[nn.Module], *, lag: float = 0.999) -> None:
        parameters = [p for part in parts for p in part.parameters() if p.requires_grad]
        sizes = [p.numel() for p in parameters]
        start_values = torch.cat([p.detach().to(_FLOAT).flatten() for p in parameters])
        self.average, self.master = start_values.clone(), nn.Parameter(start_values)
        self._adam = torch.optim.Adam([self.master], betas=(0.9, 0.99), fused=True)
        self.lag, self.step = lag, 0
        self._values: dict[torch.dtype, Tensor] = {}
        self._slices: dict[torch.dtype, list[slice]] = {}
        self._grads: dict[torch.dtype, Tensor] = {}
        self._views: list[tuple[nn.Parameter, torch.dtype, int, int]] = []
        start = 0
        for parameter, size in zip(parameters, sizes, strict=True):
            kind = parameter.dtype
            self._slices.setdefault(kind, []).append(slice(start, start + size))
            start += size
        for kind, slices in self._slices.items():
            self._values[kind] = torch.cat([start_values[s] for s in slices]).to(kind)
            self._grads[kind] = torch.zeros_like(self._values[kind])
        filled = dict.fromkeys(self._values, 0)
        for parameter, size in zip(parameters, sizes, strict=True):
            kind, at = parameter.dtype, filled[parameter.dtype]
            parameter.data = self._values[kind][at : at + size].view_as(parameter)
            parameter.grad = self._grads[kind][at : at + size].view_as(parameter)
            filled[kind] = at + size

    def gradient(self) -> Tensor:
        """The gradients as one float32 vector in the order of `master`; they are zero afterwards."""
        whole = torch.empty_like(self.average)
        for kind, slices in self._slices.items():
            start = 0
            for part in slices:
                size = part.stop - part.start
                whole[part] = self._grads[kind][start : start + size]
                start += size
            self._grads[kind].zero_()
        return whole

    def learn(self, gradient: Tensor, rate: float) -> float:
        """One step of Adam with the gradient's norm held to 1; returns the norm that it had."""
        norm = float(gradient.norm())
        self.step += 1
        (group,) = self._adam.param_groups
        group["lr"] = rate
        self.master.grad = gradient.mul_(min(1.0, 1.0 / (norm + 1e-6)))
        self._adam.step()
        self.master.grad = None
        if self.step % _EVERY == 0:
            lag = min(self.lag, (1 + self.step) / (10 + self.step)) ** _EVERY
            self.average.lerp_(self.master.detach(), 1 - lag)
        self.show(self.master.detach())
        return norm

    def show(self, values: Tensor) -> None:
        """Let the model have these values (the average, to be judged or saved; `master`, to go on)."""
        for kind, slices in self._slices.items():
            start = 0
            for part in slices:
                size = part.stop - part.start
                self._values[kind][start : start + size] = values[part]
                start += size

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        master = self.master.detach()
        return {"master": master, "average": self.average, "adam": self._adam.state_dict(), "step": self.step}

    def resume(self, path: Path) -> bool:
        """Take a checkpoint's values; False when there is none."""
        if not path.exists():
            return False
        state = torch.load(path, weights_only=True)
        self.master.data.copy_(state["master"])
        self.average.copy_(state["average"])
        self._adam.load_state_dict(state["adam"])
        self.step = state["step"]
        self.show(self.master.detach())
        return True

    def keep(self, path: Path) -> None:
        """Write a checkpoint beside the old one, then put it in its place."""
        write_whole(path, self.state())


def write_whole(path: Path, what: object) -> None:
    """Save to another name first, so that a kill leaves the old file or the new one."""
    aside = path.with_suffix(".part")
    with aside.open("wb") as file:
        torch.save(what, file)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def cosine(step: int, steps: int, rate: float, *, warm: int = 50) -> float:
    """The rate at a step: up over `warm` steps, then down along a cosine to a hundredth."""
    if step < warm:
        return rate * (step + 1) / warm
    return rate * (0.01 + 0.99 * (0.5 + 0.5 * math.cos(math.pi * min(1.0, step / steps))))


def dice(*seeds: int) -> torch.Generator:
    """A generator for one step: what is drawn depends on the step, not on where a run was resumed."""
    mixed = 0
    for seed in seeds:
        mixed = (mixed * 1_000_003 + seed + 17) % (2**62)
    return torch.Generator().manual_seed(mixed)

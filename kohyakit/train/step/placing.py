"""Models that have left the GPU, brought back for as long as they are needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def brought(modules: Sequence[nn.Module], device: torch.device) -> Iterator[None]:
    """The modules on this device, and afterwards each where it was; what is there already stays."""
    away = [(module, place) for module in modules if (place := next(module.parameters()).device) != device]
    try:
        for module, _ in away:
            module.to(device)
        yield
    finally:
        for module, place in away:
            module.to(place)

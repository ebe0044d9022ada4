"""What a training changes: a LoRA beside a frozen model, or anything else that can be asked the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class Trained(Protocol):
    """All that trainer, optimizer, states and files know of it; `networks.base.Network` is one."""

    def parameters(self) -> Iterator[nn.Parameter]: ...

    def parameter_groups(
        self,
        text_encoder_lr: float | None,
        unet_lr: float | None,
        text_encoder_ratio: float | None = None,
        unet_ratio: float | None = None,
    ) -> tuple[list[dict[str, Any]], list[str]]:
        """The optimizer's groups and their names; ratio: of the rate of what has one of its own (LoRA+)."""

    def train_only(self, parameters: Iterable[nn.Parameter]) -> None:
        """No gradient for the others."""

    def see(self, timesteps: Tensor) -> None:
        """How noisy each image of the batch is that the model is asked about next; it holds until the backward pass."""

    def off(self) -> AbstractContextManager[None]:
        """The model as it is by itself, meanwhile; asked for by preservation_class alone."""

    def train(self, mode: bool = True) -> Any:
        """As torch's modules: with dropout, or as it is used."""

    def state_dict(self) -> dict[str, Any]:
        """What a state folder keeps of it."""

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take back what a state folder kept. Raises ConfigError where that is another's."""

    def save(self, path: Path, dtype: torch.dtype | None, metadata: Mapping[str, str], *, legacy_hash: bool) -> None:
        """Write its file, whole or not at all. Raises RunError."""

    def is_finite(self) -> bool:
        """Whether no weight is NaN or infinite."""

    def limit_norms(self, largest: float) -> tuple[int, float, float]:
        """Shrink what exceeds `largest`: how much was shrunk, the mean norm, the largest one."""

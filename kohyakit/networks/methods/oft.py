"""OFT (Qiu et al. 2023): a layer's outputs are turned block by block; LyCORIS' diag-oft and networks.oft."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from kohyakit.config.arguments.adapters import AdapterSettings
from kohyakit.networks.base import Draw, shrinking
from kohyakit.networks.rebuilt import Beside
from kohyakit.planning.size.layers import Target


class OftLayer(Beside):
    """Blocks of outputs, each turned by its own rotation: (I + Q)(I - Q)⁻¹ of Q = B - Bᵀ (Cayley).

    alpha in the file is how far all blocks together may turn, as a share of the layer's outputs. rescale: a factor for
    each output, learnt beside.
    """

    oft_blocks: Tensor
    rescale: Tensor

    def __init__(self, layer: Any, target: Target, settings: AdapterSettings) -> None:
        super().__init__(layer, target, settings)
        self.limit = settings.constraint * target.layer.outputs
        self.register_buffer("alpha", torch.tensor(float(settings.constraint), device=layer.weight.device))
        if hasattr(self, "rescale"):
            torch.nn.init.ones_(self.rescale)

    def draws(self) -> Iterator[Draw]:
        yield Draw(self.oft_blocks, "zero")

    def rotation(self) -> Tensor:
        """[…, size, size]: one for each block."""
        return rotation(self.oft_blocks.float(), self.limit, native=self.settings.native)

    def turned(self, weight: Tensor, multiplier: float) -> Tensor:
        """How a weight [out, …] is changed by the rotation alone."""
        drop = self.settings.rank_dropout if self.training else 0.0
        return turned(weight, self.rotation(), multiplier, drop)

    def update(self, multiplier: float) -> Tensor:
        """What the weight changes by; in single precision, as a small turn is lost in half of it."""
        base = self.layer.weight.detach().float()
        with torch.autocast(base.device.type, enabled=False):
            change = self.turned(base, multiplier)
            return self.rescale.float() * (base + change) - base if hasattr(self, "rescale") else change

    def forward(self, x: Tensor) -> Tensor | None:
        return None if self.left_out() else self.operation(x, self.update(self.multiplier).to(x.dtype))

    def weight_update(self) -> Tensor:
        return self.update(1.0)

    def limit_norm(self, largest: float) -> tuple[bool, Tensor] | None:
        """LyCORIS limits what the rotations are made of; sd-scripts' own has no limit."""
        if self.settings.native:
            return None
        norm = self.oft_blocks.norm()
        ratio = shrinking(norm, largest)
        self.oft_blocks.mul_(ratio)
        return bool(ratio != 1), norm * ratio


def rotation(blocks: Tensor, limit: float, *, native: bool = False) -> Tensor:
    """A rotation for each block of numbers [count, size, size], or for each of every round.

    limit: how far all blocks together may turn. A limit of 0 is none in LyCORIS; in sd-scripts (native) nothing turns.
    """
    turn = blocks - blocks.transpose(-1, -2)
    norm = turn.norm()
    if native:
        turn = turn * ((norm.clamp(max=limit) + 1e-8) / (norm + 1e-8))
    elif limit:
        turn = turn * torch.where(norm + 1e-8 > limit, limit / (norm + 1e-8), 1.0)
    one = torch.eye(turn.shape[-1], device=turn.device)
    return (one + turn) @ torch.linalg.inv(one - turn)


def turned(weight: Tensor, found: Tensor, multiplier: float = 1.0, drop: float = 0.0) -> Tensor:
    """How rotations [count, size, size] change a weight [out, …]. drop: share of their numbers that are left out."""
    one = torch.eye(found.shape[-1], device=found.device)
    change = F.dropout(found * multiplier, drop) - multiplier * one
    blocks = weight.reshape(*change.shape[:2], -1)
    return torch.einsum("knm,knp->kmp", change, blocks).reshape(weight.shape)

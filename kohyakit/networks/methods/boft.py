"""BOFT (Liu et al. 2024): outputs turned in several rounds, shuffled between them like a butterfly (LyCORIS)."""

from __future__ import annotations

import torch
from torch import Tensor

from kohyakit.networks.methods.oft import OftLayer


class BoftLayer(OftLayer):
    """Rounds of OFT."""

    def turned(self, weight: Tensor, multiplier: float) -> Tensor:
        return turned(weight, self.rotation(), multiplier)


def turned(weight: Tensor, rotations: Tensor, multiplier: float = 1.0) -> Tensor:
    """How rotations [rounds, count, size, size] change a weight [out, …].

    In round r a block takes outputs that lie size / 2 · 2ʳ apart beside each other.
    """
    rounds, blocks, size, _ = rotations.shape
    one = torch.eye(size, device=rotations.device)
    rest = weight.flatten(1).shape[1]
    found = weight
    for number in range(rounds):
        apart = 2**number * (size // 2)
        pairs = found.reshape(-1, 2, apart, rest).transpose(1, 2).reshape(blocks, size, rest)
        turn = (rotations[number] - one) * multiplier + one
        found = (turn @ pairs).reshape(-1, apart, 2, rest).transpose(1, 2)
    return found.reshape(weight.shape) - weight

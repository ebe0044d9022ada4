"""BOFT (Liu et al. 2024): outputs turned in several rounds, shuffled between them like a butterfly (LyCORIS)."""

from __future__ import annotations

import torch
from torch import Tensor

from kohyakit.networks.methods.oft import OftLayer


class BoftLayer(OftLayer):
    """Rounds of OFT. In round r a block takes outputs that lie size / 2 · 2ʳ apart beside each other."""

    def turned(self, weight: Tensor, multiplier: float) -> Tensor:
        rotation = self.rotation()
        rounds, blocks, size, _ = rotation.shape
        one = torch.eye(size, device=rotation.device)
        rest = weight.flatten(1).shape[1]
        found = weight
        for number in range(rounds):
            apart = 2**number * (size // 2)
            pairs = found.reshape(-1, 2, apart, rest).transpose(1, 2).reshape(blocks, size, rest)
            turned = ((rotation[number] - one) * multiplier + one) @ pairs
            found = turned.reshape(-1, apart, 2, rest).transpose(1, 2)
        return found.reshape(weight.shape) - weight

"""LoKr: a Kronecker product of a small matrix and a large one, whole or of low rank (LyCORIS)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from kohyakit.config.arguments.adapters import AdapterSettings
from kohyakit.networks.base import Draw
from kohyakit.networks.rebuilt import Rebuilt
from kohyakit.planning.size.layers import Target
from kohyakit.planning.size.targets import rank_and_alpha


class LokrLayer(Rebuilt):
    """w1 ⊗ w2. Where both are whole there is no rank, and alpha has no say."""

    folded = ("lokr_w1", "lokr_w1_a")

    def __init__(self, layer: Any, target: Target, settings: AdapterSettings) -> None:
        super().__init__(layer, target, settings)
        if hasattr(self, "lokr_w1") and hasattr(self, "lokr_w2"):
            self.set_strength(1.0, float(rank_and_alpha(target, settings)[0]))

    def draws(self) -> Iterator[Draw]:
        own = self.own()
        small = [Draw(own[name]) for name in ("lokr_w1", "lokr_w1_a", "lokr_w1_b") if name in own]
        large = [Draw(own[name]) for name in ("lokr_t2", "lokr_w2_a") if name in own]
        large += self.last(own["lokr_w2"] if "lokr_w2" in own else own["lokr_w2_b"])
        yield from small + large if self.settings.native else large + small

    def matrix(self) -> Tensor:
        return matrix(self.own(), self.layer.weight.shape)

    def shrink(self, ratio: Tensor) -> None:
        """Every factor takes its share."""
        found = [parameter for name, parameter in self.own().items() if name.startswith("lokr_")]
        for parameter in found:
            parameter.mul_(ratio ** (1 / len(found)))


def matrix(tensors: Mapping[str, Tensor], shape: torch.Size | None = None) -> Tensor:
    """The update before its strength, [out, in × kernel] or in the given shape."""
    first = tensors["lokr_w1"] if "lokr_w1" in tensors else tensors["lokr_w1_a"] @ tensors["lokr_w1_b"]
    if "lokr_w2" in tensors:
        second = tensors["lokr_w2"]
    elif "lokr_t2" in tensors:
        second = torch.einsum("ijkl,ip,jr->prkl", tensors["lokr_t2"], tensors["lokr_w2_a"], tensors["lokr_w2_b"])
    else:
        second = tensors["lokr_w2_a"] @ tensors["lokr_w2_b"].flatten(1)
    found = torch.kron(first.reshape(*first.shape, *[1] * (second.ndim - 2)), second.contiguous())
    return found if shape is None else found.reshape(shape)

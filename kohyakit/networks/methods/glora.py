"""GLoRA (Chavan et al. 2023): W A + B in place of B alone, A and B of low rank (LyCORIS)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from kohyakit.networks.base import Draw
from kohyakit.networks.methods.lora import product
from kohyakit.networks.rebuilt import Rebuilt


class GloraLayer(Rebuilt):
    """A = a1 a2 mixes the layer's inputs, B = b1 b2 is a plain LoRA."""

    folded = ("a2.weight", "b2.weight")

    def draws(self) -> Iterator[Draw]:
        own = self.own()
        for name in ("a2", "a1", "b2", "b1"):
            yield Draw(own[f"{name}.weight"], kept=False)
        for name in ("a1", "b1"):
            yield Draw(own[f"{name}.weight"])
        for name in ("a2", "b2"):
            yield from self.last(own[f"{name}.weight"])

    def matrix(self) -> Tensor:
        return matrix(self.own(), self.layer.weight.detach().float())


def matrix(tensors: Mapping[str, Tensor], base: Tensor) -> Tensor:
    """The update before its strength, in the shape of the weight that it is added to."""
    a1, a2, b1, b2 = (tensors[f"{name}.weight"] for name in ("a1", "a2", "b1", "b2"))
    mixed = torch.einsum("oi...,ir->or...", base.to(a1.dtype), a1.flatten(1))
    mixed = torch.einsum("or...,rj->oj...", mixed, a2.flatten(1))
    return mixed + product(b1, b2).reshape(base.shape)

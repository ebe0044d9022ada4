"""LoHa: two products of low rank, multiplied number by number (Hyeon-Woo et al. 2021, LyCORIS)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from kohyakit.networks.base import Draw
from kohyakit.networks.rebuilt import Rebuilt


class LohaLayer(Rebuilt):
    """(w1_a w1_b) ∘ (w2_a w2_b), each with a core tensor where a convolution is decomposed (Tucker)."""

    folded = ("hada_w1_a",)

    def draws(self) -> Iterator[Draw]:
        own = self.own()
        cores = [own[f"hada_t{number}"] for number in (1, 2) if f"hada_t{number}" in own]
        yield from (Draw(core, "normal", 0.1) for core in cores)
        if self.settings.native:
            yield from self._native_draws(own, tucker=bool(cores))
            return
        yield Draw(own["hada_w1_b"], "normal")
        yield Draw(own["hada_w1_a"], "normal", 0.1)
        yield Draw(own["hada_w2_b"], "normal")
        yield Draw(own["hada_w2_a"], "normal" if self.settings.scalar else "zero", 0.1)

    def _native_draws(self, own: Mapping[str, Tensor], *, tucker: bool) -> Iterator[Draw]:
        """sd-scripts' order; with a core tensor it is the first product that begins as 0."""
        zero, other = ("hada_w1_a", "hada_w2_a") if tucker else ("hada_w2_a", "hada_w1_a")
        order = ("hada_w1_b", "hada_w1_a", "hada_w2_b", "hada_w2_a") if tucker else (
            "hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"
        )  # fmt: skip
        for name in order:
            yield Draw(own[name], "zero" if name == zero else "normal", 0.1 if name == other else 1.0)

    def matrix(self) -> Tensor:
        own = self.own()
        found = _crossed(own) if self.settings.as_lycoris and "hada_t1" in own else matrix(own)
        return found.reshape(self.layer.weight.shape)


def matrix(tensors: Mapping[str, Tensor]) -> Tensor:
    """The update before its strength, [out, in × kernel], or [out, in, kernel] with core tensors."""
    first, second = ((tensors[f"hada_w{number}_a"], tensors[f"hada_w{number}_b"]) for number in (1, 2))
    if "hada_t1" not in tensors:
        return _Hadamard.apply(*first, *second)
    halves = (torch.einsum("ijkl,jr,ip->prkl", tensors[f"hada_t{number}"], b, a)
              for number, (a, b) in ((1, first), (2, second)))  # fmt: skip
    return next(halves) * next(halves)


def _crossed(tensors: Mapping[str, Tensor]) -> Tensor:
    """`matrix` with core tensors, and LyCORIS' gradients: those of w1_a and w2_a each by the other's core and b."""
    inner = [torch.einsum("ijkl,jr->irkl", tensors[f"hada_t{n}"], tensors[f"hada_w{n}_b"]) for n in (1, 2)]
    halves = []
    for number, (own, other) in ((1, inner), (2, inner[::-1])):
        a = tensors[f"hada_w{number}_a"]
        half = torch.einsum("irkl,ip->prkl", own, a.detach())
        halves.append(half + torch.einsum("irkl,ip->prkl", other.detach(), a - a.detach()))  # 0 but for its gradient
    return halves[0] * halves[1]


class _Hadamard(torch.autograd.Function):
    """(a b) ∘ (c d). The four factors are kept for the backward pass and not the two products, each as large as
    the layer's weight."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
        ctx.save_for_backward(a, b, c, d)
        return (a @ b) * (c @ d)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        a, b, c, d = ctx.saved_tensors
        gradient = gradient.to(a.dtype)
        first, second = gradient * (c @ d), gradient * (a @ b)
        return first @ b.T, a.T @ first, second @ d.T, c.T @ second

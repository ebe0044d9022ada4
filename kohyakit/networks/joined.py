"""LoRAs of one input, such as those of q, k and v, whose down matrices take it in one product."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

_OF_ONE_INPUT = re.compile(r"(?P<attention>.+?)_(?:(?<!attn2_)to_q|to_k|to_v|q_proj|k_proj|v_proj)")


class Member(Protocol):
    """What takes part: a layer whose `lora_down` is a matrix."""

    lora_down: Any


def of_one_input(names: Iterable[str]) -> list[list[str]]:
    """Kohya's names of layers that are given the same: q, k and v of self-attention, k and v of attention to the text.

    In the order in which they come; a layer that stands alone is left out.
    """
    found: dict[str, list[str]] = {}
    for name in names:
        if match := _OF_ONE_INPUT.fullmatch(name):
            found.setdefault(match["attention"], []).append(name)
    return [group for group in found.values() if len(group) > 1]


class Joined:
    """Layers that are called one after the other with the same input.

    The first to come has the product made for all; each takes its share, and nothing is kept once all have come. Who
    comes twice, or with another input, has it made anew: that is no quicker then, and just as right.
    """

    _input: Tensor | None
    _came: list[Member]
    _shares: dict[Member, Tensor]

    def __init__(self, members: Sequence[Member]) -> None:
        self._members = tuple(members)
        self._forget()

    def low(self, member: Member, x: Tensor, scale: float) -> Tensor:
        """`lora_down` of x, times scale, which is the same for all."""
        if member in self._came:
            self._forget()
        if self._input is not x:
            there = [one for one in self._members if one not in self._came]
            shares = _Down.apply(x, scale, *(one.lora_down.weight for one in there))
            self._input, self._shares = x, dict(zip(there, shares, strict=True))
        share = self._shares.pop(member)
        self._come(member)
        return share

    def left_out(self, member: Member) -> None:
        """It does without in this step: its matrix has no part in the product where that is not made yet."""
        if member in self._came:
            self._forget()
        self._shares.pop(member, None)
        self._come(member)

    def _come(self, member: Member) -> None:
        self._came.append(member)
        if len(self._came) == len(self._members):
            self._forget()

    def _forget(self) -> None:
        self._input, self._came, self._shares = None, [], {}


class _Down(torch.autograd.Function):
    """x times several matrices, one below the other, times a scale; a matrix that is not used has no gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float, *downs: Tensor) -> tuple[Tensor, ...]:
        """Types as autocast has them for a product."""
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        rows, matrix = x.reshape(-1, x.shape[-1]).to(dtype), torch.cat(downs).to(dtype)
        ctx.save_for_backward(rows, matrix)
        ctx.set_materialize_grads(False)
        ctx.scale, ctx.shape, ctx.ranks = scale, x.shape, [len(down) for down in downs]
        ctx.types = x.dtype, downs[0].dtype
        return _scaled(rows, matrix.T, scale).view(*x.shape[:-1], -1).split(ctx.ranks, dim=-1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        rows, matrix = ctx.saved_tensors
        dtype, downs_dtype = ctx.types
        if all(grad is None for grad in grads):
            return (None,) * (2 + len(grads))
        own = [
            rows.new_zeros(len(rows), rank) if grad is None else grad.reshape(len(rows), rank)
            for grad, rank in zip(grads, ctx.ranks, strict=True)
        ]
        low = torch.cat(own, dim=-1)
        of_x = _scaled(low, matrix, ctx.scale).view(ctx.shape).to(dtype) if ctx.needs_input_grad[0] else None
        if not any(ctx.needs_input_grad[2:]):
            return of_x, None, *(None for _ in grads)
        parts = _scaled(low.T, rows, ctx.scale).to(downs_dtype).split(ctx.ranks)
        wanted = zip(parts, grads, ctx.needs_input_grad[2:], strict=True)
        return of_x, None, *(part if needs and grad is not None else None for part, grad, needs in wanted)


def _scaled(a: Tensor, b: Tensor, scale: float) -> Tensor:
    """a times b times a number, in one kernel."""
    return torch.addmm(a.new_empty(()), a, b, beta=0, alpha=scale)

"""LyCORIS' full: the whole difference of a weight and its bias is trained, and written as `diff` and `diff_b`."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from kohyakit.networks.base import Draw
from kohyakit.networks.rebuilt import Beside


class FullLayer(Beside):
    """Of no rank: what a LoRA approximates."""

    diff: Tensor

    def draws(self) -> Iterator[Draw]:
        for parameter in self.parameters():
            yield Draw(parameter, "zero")

    def forward(self, x: Tensor) -> Tensor | None:
        if self.left_out():
            return None
        bias = getattr(self, "diff_b", None)
        weight, kept = self.diff, self.kept_rows(self.diff.shape[0], x.device)
        if kept is not None:
            weight = weight * kept.view(-1, *[1] * (weight.ndim - 1))
            bias = bias if bias is None else bias * kept
        if self.multiplier != 1:
            weight, bias = weight * self.multiplier, bias if bias is None else bias * self.multiplier
        return self.operation(x, weight, bias)

    def weight_update(self) -> Tensor:
        return self.diff

    def bias_update(self) -> Tensor | None:
        return getattr(self, "diff_b", None)

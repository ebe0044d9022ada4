"""Products of thin matrices taken apart without ever being multiplied out: QR of both, then a small SVD."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kohyakit.networks.weights.updates import Factors


@dataclass(frozen=True, slots=True)
class Parts:
    """Singular vectors and values of an update: left [out, k], values [k] falling, right [k, in × kernel]."""

    left: Tensor
    values: Tensor
    right: Tensor
    shape: tuple[int, ...]

    def cut(self, rank: int) -> Factors:
        """The best update of that rank; the values go into `up`, as in sd-scripts."""
        rank = max(1, min(rank, len(self.values)))
        return Factors(self.left[:, :rank] * self.values[:rank], self.right[:rank], self.shape)

    def kept(self, rank: int) -> float:
        """The share of the update's Frobenius norm that its best `rank` directions hold, 0 to 1."""
        whole = float(self.values.square().sum())
        return (float(self.values[:rank].square().sum()) / whole) ** 0.5 if whole else 1.0


def take_apart(factors: Factors) -> Parts:
    """Singular value decomposition of up × down, at the cost of the rank and not of the weight.

    In double precision: single precision would leave noise of 1e-7 of the largest value in the small ones.
    """
    up, down = factors.up.double(), factors.down.double()
    left, upper = torch.linalg.qr(up)
    right, lower = torch.linalg.qr(down.T)
    u, values, v = torch.linalg.svd(upper @ lower.T, full_matrices=False)
    return Parts((left @ u).float(), values.float(), (v @ right.T).float(), factors.shape)


def take_apart_matrix(matrix: Tensor) -> Parts:
    """The same of an update that is no product of thin matrices (LoHa, LoKr, a difference of weights)."""
    u, values, v = torch.linalg.svd(matrix.double().flatten(1), full_matrices=False)
    return Parts(u.float(), values.float(), v.float(), tuple(matrix.shape))


def add(terms: Sequence[tuple[float, Factors]]) -> Factors:
    """The exact weighted sum of updates of one layer: their ranks add up."""
    return Factors(
        torch.cat([factors.up * weight for weight, factors in terms], dim=1),
        torch.cat([factors.down for _, factors in terms]),
        terms[0][1].shape,
    )

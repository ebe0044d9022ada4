"""DoRA (Liu et al. 2024): how long each row, or column, of a weight is, is learnt apart from where it points.

LyCORIS' own, in which the length that is divided by is that of the moved weight.
"""

from __future__ import annotations

import torch
from torch import Tensor


def magnitude(weight: Tensor, *, on_output: bool) -> Tensor:
    """The norm of each row [out, 1, …] (on_output) or of each column [1, in, …] of a weight [out, in, …]."""
    over = [axis for axis in range(weight.ndim) if axis != (0 if on_output else 1)]
    return torch.linalg.vector_norm(weight, dim=over, keepdim=True)


def update(base: Tensor, moved: Tensor, length: Tensor, multiplier: float, *, on_output: bool) -> Tensor:
    """What base + moved, brought to the learnt length, differs from base. length: as `magnitude` gives it.

    multiplier: of the change in length alone, as LyCORIS has it.
    """
    weight = base + moved
    scale = length / (magnitude(weight, on_output=on_output) + torch.finfo(weight.dtype).eps)
    if multiplier != 1:
        scale = multiplier * (scale - 1) + 1
    return weight * scale - base

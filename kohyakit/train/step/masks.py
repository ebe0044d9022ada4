"""Masks: how much each pixel of a picture counts in the loss, from 0 to 1, shrunk to the size of its latents.

They come from the picture's transparency (`alpha_mask`) or from a picture of their own (`conditioning_data_dir`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    import numpy as np

_FACTOR = 8  # pixels a side to one of the latents


def of_alpha(alpha: np.ndarray) -> Tensor:
    """An alpha channel, [H, W] uint8, as a mask."""
    return torch.from_numpy(alpha.copy()).float() / 255.0


def of_picture(pixels: np.ndarray) -> Tensor:
    """A picture's red, [H, W, 3] uint8, as a mask; by way of -1 to 1, as sd-scripts has it, for the last bit."""
    red = torch.from_numpy(pixels[..., 0].copy()).float() / 255.0
    return ((red - 0.5) / 0.5) / 2 + 0.5


def shrunk(mask: Tensor) -> Tensor:
    """The mean of every patch that becomes one place of the latents: [H, W] to [H / 8, W / 8]."""
    size = (mask.shape[0] // _FACTOR, mask.shape[1] // _FACTOR)
    return F.interpolate(mask[None, None], size=size, mode="area")[0, 0]


def stacked(masks: Sequence[Tensor | None], latents: Tensor) -> Tensor | None:
    """Shrunk masks of a batch, [B, 1, h, w], beside its latents [B, C, h, w]; None where no picture of it has one."""
    if all(mask is None for mask in masks):
        return None
    whole = torch.ones(latents.shape[2:])
    found = torch.stack([whole if mask is None else mask for mask in masks])
    return found.unsqueeze(1).to(latents.device)

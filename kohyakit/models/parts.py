"""The parts of a model: built without memory, and filled with the tensors of a file, one at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kohyakit.models.text import TextEncoder
from kohyakit.models.weights import WeightFile


@dataclass(frozen=True, slots=True)
class Origin:
    """Where one tensor of ours lies in a foreign file: its name there, and which third of it (q, k, v).

    transposed: the file has the matrix the other way round.
    """

    key: str
    third: int | None = None
    transposed: bool = False

    def take(self, weights: WeightFile) -> Tensor:
        found = weights.tensor(self.key)
        if self.third is not None:
            found = found.chunk(3)[self.third]
        return found.T if self.transposed else found


def meta_unet(config: dict[str, Any]) -> nn.Module:
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        return _frozen(UNet2DConditionModel.from_config(config))


def meta_vae(config: dict[str, Any]) -> nn.Module:
    from diffusers import AutoencoderKL

    with torch.device("meta"):
        return _frozen(AutoencoderKL.from_config(config))


def meta_text(config: dict[str, Any], *, projection: bool = False) -> TextEncoder:
    from transformers import CLIPTextConfig

    with torch.device("meta"):
        return _frozen(TextEncoder(CLIPTextConfig.from_dict(config), projection=projection))


def _frozen(module: nn.Module) -> Any:
    return module.requires_grad_(False).eval()


def fill(module: nn.Module, tensors: Callable[[str], Tensor], dtype: torch.dtype | None) -> None:
    """Give a module built on the meta device its numbers, one tensor at a time.

    tensors: our name -> tensor; a 1x1 convolution may stand for a linear layer and the other way round.
    """
    state = {}
    for name, wanted in module.state_dict().items():
        tensor = tensors(name)
        if dtype is not None and tensor.is_floating_point():
            tensor = tensor.to(dtype)
        state[name] = tensor.reshape(wanted.shape).contiguous()
    module.load_state_dict(state, strict=True, assign=True)
    for name, buffer in list(module.named_buffers()):
        if buffer.is_meta:  # CLIP's position numbers, which no file needs to hold
            parent, _, leaf = name.rpartition(".")
            numbers = torch.arange(buffer.numel()).reshape(buffer.shape)
            module.get_submodule(parent).register_buffer(leaf, numbers, persistent=False)
    module.requires_grad_(False)

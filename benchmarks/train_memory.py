"""What `check` estimates of a training's memory beside a count of all tensors of the true model, none of them made.

    python benchmarks/train_memory.py            SD 1.5 and SDXL, with and without gradient checkpointing

A step (forward, backward, AdamW) runs on torch's fake tensors, which have a size and no numbers. Each is counted
from its making to its end, and the highest sum is told; beside it the estimate without CUDA's own share and without
what torch's allocator holds on to. Attention is torch's own, as in a training here.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from kohyakit.config.train import TrainConfig
from kohyakit.dataset.buckets import Bucket
from kohyakit.dataset.layout import Dataset
from kohyakit.models import build_meta
from kohyakit.networks.methods.lora import LoraNetwork, LoraSettings
from kohyakit.planning.plan import BucketCount
from kohyakit.planning.size.architecture import Architecture, standard
from kohyakit.planning.size.lora import lora_layers, lora_size
from kohyakit.planning.size.memory import estimate
from kohyakit.registry.families import MODELS
from kohyakit.words import memory

RANK = 16


class Count(TorchDispatchMode):
    """Bytes of all storages that live now, and the most that ever did."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._sizes: dict[int, int] = {}

    def add(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._sizes:
            self._sizes[storage._cdata] = storage.nbytes()
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._end, storage._cdata)

    def _end(self, key: int) -> None:
        self.now -= self._sizes.pop(key, 0)

    def __torch_dispatch__(self, call: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = call(*args, **(kwargs or {}))
        for tensor in tree_leaves(found):
            if isinstance(tensor, torch.Tensor):
                self.add(tensor)
        return found


def counted(family: str, side: int, *, half: bool, checkpointing: bool) -> int:
    """The most bytes of a step that trains the U-Net's LoRA at this side, from latents and text states made ahead."""
    model = build_meta(family)
    dtype = torch.bfloat16 if half else torch.float32
    unet: Any = model.unet.to(dtype).requires_grad_(False)
    network = LoraNetwork.over(model, LoraSettings(RANK, 1.0), None)
    network.attach(text_encoder=False)
    with FakeTensorMode(allow_non_fake_inputs=True):
        for module in (unet, network):
            module.to_empty(device="cpu")
        network.train()
        if checkpointing:
            unet.train().enable_gradient_checkpointing()
        optimizer = torch.optim.AdamW(network.parameters(), foreach=False)
        with Count() as count:
            for tensor in (*unet.parameters(), *unet.buffers(), *network.parameters()):
                count.add(tensor)
            for _ in range(2):
                _step(unet, MODELS[family].context, side, dtype, half=half)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
    return count.peak


def _step(unet: nn.Module, context: int, side: int, dtype: torch.dtype, *, half: bool) -> None:
    told = (torch.empty(1, 4, side // 8, side // 8), torch.zeros(1), torch.empty(1, 77, context, dtype=dtype))
    added = {"text_embeds": torch.empty(1, 1280, dtype=dtype), "time_ids": torch.empty(1, 6)}
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        found = unet(*told, added_cond_kwargs=added).sample
    found.float().square().mean().backward()


def estimated(model: Architecture, side: int, *, half: bool, checkpointing: bool) -> int:
    config = TrainConfig().with_values(
        mixed_precision="bf16" if half else "no", optimizer_type="AdamW", gradient_checkpointing=checkpointing,
        cache_latents=True, cache_text_encoder_outputs=True, network_train_unet_only=True,
    )  # fmt: skip
    loads = [(Dataset((side, side), 1), (BucketCount(Bucket(side, side), 1, 1, 1),))]
    found = estimate(config, model, lora_size(lora_layers(model, text_encoder=False), RANK), loads)
    return found.total - found.runtime - found.allocator


def main() -> None:
    for family, side in (("sd1", 512), ("sdxl", 1024)):
        model = standard(family)
        assert model is not None
        for half in (False, True):
            for checkpointing in (False, True):
                asked = {"half": half, "checkpointing": checkpointing}
                there, told = counted(family, side, **asked), estimated(model, side, **asked)
                words = f"{'bf16' if half else 'float32'}{', checkpointing' if checkpointing else ''}"
                print(f"{family} {side}, {words}: counted {memory(there)}, told {memory(told)}, {told / there:.2f}")


if __name__ == "__main__":
    main()

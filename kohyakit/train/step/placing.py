"""Where the frozen models are and in which numbers, and those that have left the GPU brought back while needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from kohyakit.config.train import TrainConfig
from kohyakit.models import Model
from kohyakit.models.frozen.eight_bits import keep_in_8_bits
from kohyakit.models.frozen.waiting import let_wait, transformer_blocks
from kohyakit.train.step.precision import Precision
from kohyakit.words import count, memory

Echo = Callable[[str], None]


class Frozen:
    """Puts the frozen models in their place, once each, with gradient checkpointing where it is asked for.

    train_text_encoder: whether a gradient flows through the text encoders.
    """

    def __init__(
        self, config: TrainConfig, precision: Precision, device: torch.device, *, as_sd_scripts: bool,
        train_text_encoder: bool,
    ) -> None:  # fmt: skip
        self._precision, self._device = precision, device
        self._scaled = not as_sd_scripts
        self._checkpoint = config.training.gradient_checkpointing
        self._checkpoint_text = self._checkpoint and train_text_encoder
        self._waiting = config.training.blocks_to_swap or 0
        self._compile = config.training.torch_compile and config.training.dynamo_backend != "no"
        self._how = (config.training.dynamo_backend, config.launch.dynamo_mode, config.launch.dynamo_use_fullgraph)
        self._unet_packed = config.model.fp8_base or config.model.fp8_base_unet
        self._text_packed = config.model.fp8_base and not config.model.fp8_base_unet

    def place_unet(self, model: Model, echo: Echo) -> None:
        unet, dtype = model.unet.requires_grad_(False), self._precision.weights
        if self._unet_packed:
            keep_in_8_bits(unet, dtype, scaled=self._scaled, device=self._device)
        if self._waiting:
            waiting = let_wait(unet.to(dtype), self._waiting, self._device)
            here, there = waiting.bytes
            blocks = f"{count(len(waiting), 'transformer block')} of {len(transformer_blocks(unet))}"
            echo(f"{blocks} in main memory ({memory(here)}, {memory(there)} on the GPU)")
        else:
            unet.to(self._device, dtype)
        _set_mode(unet, checkpoint=self._checkpoint)
        if self._compile:
            kinds = compile_blocks(unet, *self._how)
            echo(f"torch_compile: {kinds} transformer blocks are compiled in the first step, which may take minutes")

    def place_text_encoders(self, model: Model) -> None:
        """They stay in float32 on the CPU, as in sd-scripts, which has no 8 bits for them there either."""
        dtype = self._precision.text_encoder
        for encoder in model.text_encoders:
            encoder.requires_grad_(False)
            if self._text_packed and dtype != torch.float32:
                keep_in_8_bits(encoder, dtype, scaled=self._scaled, device=self._device)
            encoder.to(self._device, dtype)
            _set_mode(encoder, checkpoint=self._checkpoint_text)


def _set_mode(module: Any, *, checkpoint: bool) -> None:
    module.train(checkpoint)  # checkpointing works in training mode only; neither model has a dropout of its own
    if checkpoint:
        module.enable_gradient_checkpointing()


def compile_blocks(unet: nn.Module, backend: str, mode: str, whole: bool) -> int:
    """Have every transformer block compiled when it first trains, for any number of pixels; how many there are.

    Blocks of one shape share what is compiled. What brings a block's weights in before it computes stays outside.
    """
    blocks = transformer_blocks(unet)
    chosen = mode if backend == "inductor" and mode != "default" else None
    for block in blocks:
        plain = block.forward
        compiled = torch.compile(plain, dynamic=True, backend=backend, mode=chosen, fullgraph=whole)
        setattr(block, "forward", _while_training(compiled, plain))  # noqa: B010 (a method is replaced)
    return len(blocks)


def _while_training(compiled: Callable[..., Tensor], plain: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Pictures are drawn as before: in another mode all would be compiled once more.

    As it would for tensors that lie otherwise in memory, which come from convolutions.
    """

    def forward(states: Tensor, *rest: Any, **named: Any) -> Tensor:
        if torch.is_grad_enabled():
            return compiled(states.contiguous(), *rest, **named)
        return plain(states, *rest, **named)

    return forward


@contextmanager
def checkpoints_in_main_memory(device: torch.device) -> Iterator[None]:
    """What the backward pass needs is kept in main memory meanwhile (pinned beside a GPU); weights stay."""

    def leave(tensor: Tensor) -> Tensor:
        if not tensor.requires_grad or isinstance(tensor, nn.Parameter):
            return tensor
        there = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=device.type == "cuda")
        return there.copy_(tensor.detach())

    def come_back(tensor: Tensor) -> Tensor:
        return tensor.to(device, non_blocking=True)

    with torch.autograd.graph.saved_tensors_hooks(leave, come_back):
        yield


@contextmanager
def brought(modules: Sequence[nn.Module], device: torch.device) -> Iterator[None]:
    """The modules on this device, and afterwards each where it was; what is there already stays."""
    away = [(module, place) for module in modules if (place := next(module.parameters()).device) != device]
    try:
        for module, _ in away:
            module.to(device)
        yield
    finally:
        for module, place in away:
            module.to(place)

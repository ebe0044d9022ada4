"""Frozen weights kept in 8 bits (float8_e4m3fn), half of what bf16 takes, and unpacked where they compute.

A layer stays the object that it is; only its class changes, to one whose `weight` is unpacked when it is asked for. So
names, hooks and whoever reads a weight (DoRA) go on as before. For the backward pass the 8 bits are kept and unpacked
once more: what autograd keeps by itself, the unpacked weights of all layers, would be as large as if none were packed.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.grad import conv2d_input

_FP8 = torch.float8_e4m3fn
_LARGEST = 448.0  # that it holds
_NUMBERED = re.compile(r"(^|\.)\d+\.")  # in a layer's name: it is one of many
_EXPONENTS = (-24, 15)  # powers of two that fp16 holds


def keep_in_8_bits(module: nn.Module, half: torch.dtype, *, scaled: bool, device: torch.device | None = None) -> None:
    """Pack the linear layers and convolutions of a frozen module's blocks; the rest comes into `half` precision.

    scaled: each row of a weight by a power of two of its own, so that its largest number is near the largest there is.
    Otherwise as sd-scripts does it: every number, biases and norms too, is rounded to 8 bits as it stands. device:
    where that is worked out, a layer at a time; each stays where it was.
    """
    for name, layer in module.named_modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)) and _NUMBERED.search(name) and not isinstance(layer, _Packed):
            _pack(layer, half, scaled=scaled, device=device)
    for parameter in module.parameters():
        parameter.data = (parameter.data if scaled else parameter.data.to(_FP8)).to(half)


def _pack(layer: nn.Linear | nn.Conv2d, half: torch.dtype, *, scaled: bool, device: torch.device | None) -> None:
    weight = layer.weight.detach()
    there = weight.to(device or weight.device)
    scale = powers(there).to(half) if scaled else None
    numbers = there if scale is None else there.float() / scale.float()
    packed = numbers.to(_FP8).view(torch.uint8)
    layer.requires_grad_(False)
    del layer.weight
    layer.__class__ = _PackedLinear if isinstance(layer, nn.Linear) else _PackedConv
    # as whole numbers they keep their bits when the module is put into another precision
    layer.register_buffer("packed", packed.to(weight.device))
    layer.register_buffer("scale", None if scale is None else scale.to(weight.device))
    setattr(layer, "half_precision", half)  # noqa: B010 (no attribute of every layer)


def powers(weight: Tensor) -> Tensor:
    """For each row the least power of two by which its largest number fits, [out, 1, …], float32.

    Powers of two, as they round nothing when they are divided out and multiplied in again.
    """
    largest = weight.detach().flatten(1).float().abs().amax(dim=1)
    mantissa, exponent = torch.frexp(largest / _LARGEST)
    exponent = torch.where(mantissa == 0.5, exponent - 1, exponent).clamp(*_EXPONENTS)
    return torch.ldexp(torch.ones_like(largest), exponent).view(-1, *[1] * (weight.ndim - 1))


def _unpacked(packed: Tensor, scale: Tensor | None, half: torch.dtype) -> Tensor:
    numbers = packed.view(_FP8).to(half)
    return numbers if scale is None else numbers.mul_(scale.to(half))


class _Packed:
    """What both kinds of layers share; their constructors are never called."""

    packed: Tensor
    scale: Tensor | None
    half_precision: torch.dtype

    @property
    def weight(self) -> Tensor:
        """The weight in half precision, made anew each time."""
        return _unpacked(self.packed, self.scale, self.half_precision)


class _PackedLinear(_Packed, nn.Linear):  # type: ignore[misc, override]
    def forward(self, x: Tensor) -> Tensor:
        return _Linear.apply(x, self.packed, self.scale, self.bias, self.half_precision)


class _PackedConv(_Packed, nn.Conv2d):  # type: ignore[misc, override]
    def forward(self, x: Tensor) -> Tensor:
        how = (self.stride, self.padding, self.dilation, self.groups)
        return _Conv.apply(x, self.packed, self.scale, self.bias, self.half_precision, how)


class _Linear(torch.autograd.Function):
    """x W^T + b with a frozen W, whose gradient is g W."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, packed: Tensor, scale: Tensor | None, bias: Tensor | None, half: torch.dtype
    ) -> Tensor:
        ctx.save_for_backward(packed, scale)
        ctx.half, ctx.dtype = half, x.dtype
        return F.linear(x, _unpacked(packed, scale, half), bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        packed, scale = ctx.saved_tensors
        found = gradients[0].to(ctx.half) @ _unpacked(packed, scale, ctx.half)
        return found.to(ctx.dtype), None, None, None, None


class _Conv(torch.autograd.Function):
    """A convolution with frozen weights."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, packed: Tensor, scale: Tensor | None, bias: Tensor | None, half: torch.dtype, how: Any
    ) -> Tensor:
        ctx.save_for_backward(packed, scale)
        ctx.half, ctx.dtype, ctx.shape, ctx.how = half, x.dtype, x.shape, how
        return F.conv2d(x, _unpacked(packed, scale, half), bias, *how)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        packed, scale = ctx.saved_tensors
        weight = _unpacked(packed, scale, ctx.half)
        found = conv2d_input(ctx.shape, weight, gradients[0].to(ctx.half), *ctx.how)
        return found.to(ctx.dtype), None, None, None, None, None

"""Layers as LyCORIS has them: the update is a whole matrix, made anew in each step for the layer's own operation."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kohyakit.config.arguments.adapters import AdapterSettings
from kohyakit.networks.base import Adapter, Draw, shrinking
from kohyakit.networks.methods import dora
from kohyakit.planning.size.layers import Target
from kohyakit.planning.size.shapes import Tensors
from kohyakit.planning.size.targets import rank_and_alpha, tensors_of


class Beside(Adapter):
    """A layer with its settings, module dropout, and the operation of the layer that it stands beside."""

    def __init__(self, layer: Any, target: Target, settings: AdapterSettings) -> None:
        super().__init__(layer)
        self.settings = settings
        self.make(tensors_of(target, settings), layer.weight.device)

    def make(self, shapes: Tensors, device: torch.device) -> None:
        """A parameter for each tensor of the file but scalars."""
        for ending, shape in shapes.items():
            if shape:
                self._parameter(ending, torch.empty(shape, device=device))

    def _parameter(self, ending: str, tensor: Tensor) -> None:
        """`lora_up.weight` becomes a module lora_up with a weight, as networks.lora has it."""
        owner: nn.Module = self
        part, dot, name = ending.partition(".")
        if dot:
            owner = nn.Module()
            self.add_module(part, owner)
        owner.register_parameter(name or part, nn.Parameter(tensor))

    def left_out(self) -> bool:
        """Whether module dropout leaves this layer out of the step."""
        chance = self.settings.module_dropout
        return bool(self.training and chance and torch.rand(1) < chance)

    def operation(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """What the model's layer would make of x with another weight."""
        layer = self.layer
        if isinstance(layer, nn.Conv2d):
            return F.conv2d(x, weight, bias, layer.stride, layer.padding, layer.dilation, layer.groups)
        return F.linear(x, weight, bias)

    def kept_rows(self, rows: int, device: torch.device) -> Tensor | None:
        """Rank dropout, by LyCORIS' own meaning: 0 or 1 for each output of the layer; None where there is none."""
        chance = self.settings.rank_dropout
        if not (self.training and chance):
            return None
        kept = (torch.rand(rows) > chance).float().to(device)
        if not self.settings.scaled_ranks:
            return kept
        return kept / ((1.0 - chance) if self.settings.native else kept.mean())


class Rebuilt(Beside):
    """An update of low rank with alpha, `scalar` and DoRA. Subclasses give `matrix` and `draws`.

    scalar: a learnt strength (use_scalar), which starts at 0; else 1, until a norm is limited. It is written into
    the tensor `folded`.
    """

    folded: ClassVar[tuple[str, ...]] = ()
    scalar: Tensor
    dora_scale: Tensor

    def __init__(self, layer: Any, target: Target, settings: AdapterSettings) -> None:
        super().__init__(layer, target, settings)
        rank, alpha = rank_and_alpha(target, settings)
        alpha = float(alpha or rank)
        root = math.sqrt(rank) if settings.rs_lora else rank
        self.set_strength(alpha / root, alpha * rank / root)
        device = layer.weight.device
        if settings.scalar:
            self.scalar = nn.Parameter(torch.zeros((), device=device))
        else:
            self.register_buffer("scalar", torch.ones((), device=device))
        if settings.dora:
            with torch.no_grad():
                self.dora_scale.copy_(dora.magnitude(layer.weight.float(), on_output=settings.dora_on_output))

    def set_strength(self, scale: float, alpha: float) -> None:
        """scale: on the update. alpha: what the file says, so that alpha / rank is the scale."""
        self.scale = scale
        self.register_buffer("alpha", torch.tensor(alpha, device=self.layer.weight.device))

    def matrix(self) -> Tensor:
        """The update before every strength, in the shape of the layer's weight."""
        raise NotImplementedError

    def update(self) -> Tensor:
        """The update of this step, without the multiplier: rank dropout is in it while training."""
        found = self.matrix() * self.scale
        kept = self.kept_rows(found.shape[0], found.device)
        if kept is not None:
            found = found * kept.view(-1, *[1] * (found.ndim - 1))
        return found * self.scalar

    def forward(self, x: Tensor) -> Tensor | None:
        """The update of the layer's output; None when module dropout leaves it out."""
        if self.left_out():
            return None
        found = self.operation(x, self._moved(self.update(), self.multiplier))
        return F.dropout(found, self.settings.dropout, self.training) if self.settings.dropout else found

    def weight_update(self) -> Tensor:
        return self._moved(self.matrix() * self.scale * self.scalar, 1.0)

    def _moved(self, update: Tensor, multiplier: float) -> Tensor:
        if self.settings.dora and not self.settings.bypass:
            base = self.layer.weight.detach().float()
            return dora.update(base, update, self.dora_scale, multiplier, on_output=self.settings.dora_on_output)
        return update if multiplier == 1 else update * multiplier

    def file_state(self) -> dict[str, Tensor]:
        state = dict(self.state_dict())
        scalar = state.pop("scalar")
        for ending in self.folded:
            if ending in state:
                state[ending] = state[ending] * scalar
        return state

    def limit_norm(self, largest: float) -> tuple[bool, Tensor]:
        norm = (self.matrix() * self.scale * self.scalar).norm()
        ratio = shrinking(norm, largest)
        shrunk = bool(ratio != 1)
        if shrunk:
            self.shrink(ratio)
        return shrunk, norm * ratio

    def shrink(self, ratio: Tensor) -> None:
        """Make the update this many times smaller."""
        self.scalar.mul_(ratio)

    def own(self) -> Mapping[str, Tensor]:
        """Ending -> tensor, as `matrix` of this method takes them."""
        return dict(self.named_parameters())

    def last(self, tensor: Tensor) -> Iterator[Draw]:
        """The factor that makes the first update 0, unless `scalar` does."""
        yield Draw(tensor, "uniform" if self.settings.scalar else "zero")

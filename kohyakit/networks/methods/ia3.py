"""(IA)^3: each output, or each input, of a layer has a factor of its own (Liu et al. 2022, LyCORIS)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from kohyakit.config.arguments.adapters import AdapterSettings
from kohyakit.networks.base import Draw
from kohyakit.networks.rebuilt import Beside
from kohyakit.planning.size.layers import Target
from kohyakit.planning.size.shapes import scales_inputs


class Ia3Layer(Beside):
    """`weight` is the factor less 1. A bias is left as it is."""

    weight: Tensor

    def __init__(self, layer: Any, target: Target, settings: AdapterSettings) -> None:
        super().__init__(layer, target, settings)
        self.scales_inputs = scales_inputs(target, settings)
        self.register_buffer("on_input", torch.tensor(int(self.scales_inputs), device=layer.weight.device))

    def draws(self) -> Iterator[Draw]:
        yield Draw(self.weight, "zero")

    def _add(self, layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if self.left_out():
            return output
        if self.scales_inputs:
            return output + self.operation(inputs[0] * self.factor(), layer.weight.detach())
        plain = output
        if layer.bias is not None:
            plain = plain - layer.bias.detach().view(-1, *[1] * (self.weight.ndim - 2))
        return output + (plain * self.factor()).to(output.dtype)

    def factor(self) -> Tensor:
        return self.weight * self.multiplier

    def weight_update(self) -> Tensor:
        base = self.layer.weight
        if self.scales_inputs:
            return base * self.weight
        return base * self.weight.view(-1, *[1] * (base.ndim - 1))

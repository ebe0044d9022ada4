"""networks.lora_fa: LoRA whose down matrices stay as they were drawn (Zhang et al. 2023)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from torch import Tensor

from kohyakit.config.sections.network import NetworkConfig
from kohyakit.models.base import Model
from kohyakit.networks.base import Draw, Fill, Network
from kohyakit.networks.methods.lora import LoraLayer, LoraNetwork, built


class LoraFaLayer(LoraLayer):
    """Only up is learnt."""

    frozen = ("lora_down.",)

    def draws(self) -> Iterator[Draw]:
        down, up = self.lora_down.weight, self.lora_up.weight
        yield from (Draw(down, kept=False), Draw(up, kept=False))
        yield Draw(down, "normal", math.sqrt(2 / (down.shape[1] + self.dim)))
        yield Draw(up, "zero")


class LoraFaNetwork(LoraNetwork):
    kind = LoraFaLayer


def build(
    model: Model, asked: NetworkConfig, *, fill: Fill, weights: Mapping[str, Tensor], as_sd_scripts: bool
) -> Network:
    """See `networks.base.NetworkBuild`."""
    return built(LoraFaNetwork, model, asked, fill, weights, as_sd_scripts=as_sd_scripts)

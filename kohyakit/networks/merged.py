"""`base_weights`: LoRAs put into a model's own weights, before another one is trained on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kohyakit.errors import ConfigError, Problem
from kohyakit.models.base import Model
from kohyakit.networks.from_file import adapters
from kohyakit.networks.weights import file as lora_file
from kohyakit.networks.weights.file import LoraFile
from kohyakit.planning.size.layers import Target
from kohyakit.registry.families import MODELS

Precision = Callable[[Target], torch.dtype]


def read_for(model: Model, path: Path) -> LoraFile:
    """A LoRA of any layout, its layers called as this model's are. Raises KohyakitError in one sentence."""
    return lora_file.read(path, sdxl=MODELS[model.family.name].original_names)


@torch.no_grad()
def merge(model: Model, found: LoraFile, strength: float, precision: Precision, *, text_encoders: bool = True) -> int:
    """Add a LoRA to the model, times its strength; returns the number of layers that it changed.

    precision: what each changed weight is rounded to, once. text_encoders: theirs too. Raises ConfigError where it is
    another model's or holds what is not built here; then the model may be changed in part.
    """
    count = 0
    for target, layer in adapters(model, found.layers, str(found.path)):
        count += 1
        if target.part and not text_encoders:
            continue
        _add(layer.layer, "weight", layer.weight_update(), strength, precision(target))
        bias = layer.bias_update()
        if bias is not None:
            _add(layer.layer, "bias", bias, strength, precision(target))
    if not count:
        what, cure = "holds none of this model's layers", "give a LoRA of the same model family"
        raise ConfigError(Problem(str(found.path), what, cure, "weights_of_another_model"))
    return count


def _add(layer: Any, name: str, update: Tensor, strength: float, dtype: torch.dtype) -> None:
    weight = getattr(layer, name)
    if weight is not None:
        moved = (weight.float() + strength * update.to(weight.device)).to(dtype)
        setattr(layer, name, nn.Parameter(moved, requires_grad=weight.requires_grad))

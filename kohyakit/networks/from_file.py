"""Adapters as a file has them: each layer with the method, rank and strength that its own tensors tell."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from torch import Tensor

from kohyakit.config.arguments.adapters import AdapterSettings
from kohyakit.errors import ConfigError, Problem
from kohyakit.models.base import Model
from kohyakit.networks.methods.norm import NormLayer
from kohyakit.networks.rebuilt import Beside
from kohyakit.networks.weights.file import Layers
from kohyakit.networks.weights.updates import Tensors, method_of
from kohyakit.planning.size.held import held_settings, scalars
from kohyakit.planning.size.layers import NORM, Target
from kohyakit.registry.networks import ALGORITHMS

_AS_THE_WEIGHT = ("lora_down.weight", "lora_up.weight", "diff", "dora_scale")


def adapters(model: Model, layers: Layers, where: str) -> Iterator[tuple[Target, Beside]]:
    """An adapter beside every layer of the model that the file has one for, in sd-scripts' order, filled, not attached.

    Raises ConfigError for methods that are not built here and for tensors that do not fit the model.
    """
    targets = [target for target in model.family.targets(model) if target.name in layers]
    unknown = [target.name for target in targets if not _is_built(layers[target.name])]
    if unknown:
        what = f"has {len(unknown)} layers of a kind that is not built here (such as {unknown[0]})"
        raise ConfigError(Problem(where, what, "leave it out, or give a LoRA of another kind", "not_built_in"))
    held = {one.name: _fitted(layers[one.name], model.module(one)) for one in targets}
    for target in targets:
        own = _settings(target, held[target.name], where)
        kind: type[Beside] = NormLayer if target.layer.kernel == NORM else ALGORITHMS.load(own.algo)
        made = kind(model.module(target), target, own)
        made.load_state_dict(made.own_state({end: t.float() for end, t in held[target.name].items()}), strict=False)
        yield target, made


def _is_built(tensors: Tensors) -> bool:
    method = method_of(tensors)
    return method is not None and (method.name in ALGORITHMS or method.name in ("norm", "oft"))


def _settings(target: Target, tensors: Tensors, where: str) -> AdapterSettings:
    """What makes an adapter with exactly these tensors. Raises ConfigError where they are for another layer."""
    named = {f"{target.name}.{ending}": tensor for ending, tensor in tensors.items()}
    shapes = {key: tuple(tensor.shape) for key, tensor in named.items()}
    numbers = {key: float(named[key]) for key in scalars(named) if named[key].numel() == 1}
    try:
        found = held_settings(AdapterSettings(), [target], shapes, numbers)
    except ConfigError as error:
        told = (replace(problem, where=where, name="weights_of_another_model") for problem in error.problems)
        raise ConfigError(told) from error
    return (found.held or {})[target.name]


def _fitted(tensors: Tensors, layer: Any) -> dict[str, Tensor]:
    """The tensors, those of 1x1 convolutions and PEFT's magnitudes with as many sides as the layer's weight has."""
    found, sides = dict(tensors), layer.weight.ndim
    for ending in _AS_THE_WEIGHT:
        tensor = found.get(ending)
        if tensor is None or not tensor.ndim:
            continue
        if tensor.ndim < sides:
            found[ending] = tensor.reshape(*tensor.shape, *[1] * (sides - tensor.ndim))
        elif tensor.ndim > sides == 2 and tensor.shape[2:] == (1, 1):
            found[ending] = tensor.flatten(1)
    return found

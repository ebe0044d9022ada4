"""Which layers a network of LyCORIS' kinds adapts, and which tensors each has in its file; without torch.

The network itself is built from the same two lists, so the size told before a training is the file's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from kohyakit.config.arguments.adapters import AdapterSettings
from kohyakit.config.sections.network import NetworkConfig
from kohyakit.planning.size import layers
from kohyakit.planning.size.architecture import Architecture
from kohyakit.planning.size.layers import NORM, Target, named
from kohyakit.planning.size.lora import LoraSize, size_of
from kohyakit.planning.size.shapes import Tensors
from kohyakit.registry.networks import ALGORITHMS

Shapes = Callable[[Target, int, AdapterSettings], Tensors]


def targets(model: Architecture, settings: AdapterSettings) -> Iterator[Target]:
    """The layers that the settings name, text encoders first, each half in sd-scripts' order of creation."""
    return wanted(layers.targets(model), settings)


def wanted(found: Iterable[Target], settings: AdapterSettings) -> Iterator[Target]:
    """Those of the layers that the settings name."""
    return (target for target in found if _wanted(target, settings))


def _wanted(target: Target, settings: AdapterSettings) -> bool:
    preset = settings.preset
    if target.layer.kernel == NORM and not settings.norms:
        return False
    if not named(target, preset):
        return False
    if _matches(target, settings.exclude) and not _matches(target, settings.include):
        return False
    return target.layer.kernel == NORM or rank_and_alpha(target, settings)[0] > 0


def _matches(target: Target, patterns: Iterable[str]) -> bool:
    return any(re.fullmatch(pattern, target.path) for pattern in patterns)


def rank_and_alpha(target: Target, settings: AdapterSettings) -> tuple[int, float]:
    """conv_dim and conv_alpha for convolutions larger than 1x1, network_dim and network_alpha for all else."""
    for pattern, dim in settings.dims:
        if _matches(target, (pattern,)):
            return dim, settings.alpha
    if target.layer.kernel > 1:
        return settings.conv_dim, settings.conv_alpha
    return settings.dim, settings.alpha


def tensors_of(target: Target, settings: AdapterSettings) -> Tensors:
    """Ending -> shape of everything that the file holds of a layer."""
    layer = target.layer
    if layer.kernel == NORM:
        return {"w_norm": (layer.outputs,), "b_norm": (layer.outputs,)}
    shapes: Shapes = ALGORITHMS.load(settings.algo, "shapes")
    found = shapes(target, rank_and_alpha(target, settings)[0], settings)
    if settings.dora:
        side = (1,) * (2 if layer.kernel else 0)
        found["dora_scale"] = (layer.outputs, 1, *side) if settings.dora_on_output else (1, layer.inputs, *side)
    return found


def adapters_size(model: Architecture, settings: AdapterSettings, asked: NetworkConfig, dtype: str) -> LoraSize | None:
    """The size of the file, without the half that is not trained; None where no layer is left."""
    tensors = {
        f"{target.name}.{ending}": shape
        for target in targets(model, settings)
        if not (asked.network_train_unet_only if target.part else asked.network_train_text_encoder_only)
        for ending, shape in tensors_of(target, settings).items()
    }
    return size_of(tensors, dtype) if tensors else None

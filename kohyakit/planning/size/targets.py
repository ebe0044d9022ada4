"""Which layers a network of LyCORIS' kinds adapts, and which tensors each has in its file; without torch.

The network itself is built from the same two lists, so the size told before a training is the file's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from kohyakit.config.arguments.adapters import AdapterSettings
from kohyakit.config.sections.network import NetworkConfig
from kohyakit.errors import Problem
from kohyakit.planning.size import layers
from kohyakit.planning.size.architecture import Architecture
from kohyakit.planning.size.layers import NORM, Target, by_name, named
from kohyakit.planning.size.lora import LoraSize, size_of
from kohyakit.planning.size.shapes import CUTTING, Tensors, fits
from kohyakit.registry.networks import ALGORITHMS

Shapes = Callable[[Target, int, AdapterSettings], Tensors]


def targets(model: Architecture, settings: AdapterSettings) -> Iterator[Target]:
    """The layers that the settings name, text encoders first, each half in sd-scripts' order of creation."""
    return wanted(layers.targets(model), settings)


def wanted(found: Iterable[Target], settings: AdapterSettings) -> Iterator[Target]:
    """Those of the layers that the settings name, under the names that they have in the network's own files."""
    if settings.prefix:
        found = (replace(one, name=f"{settings.prefix}_{one.path.replace('.', '_')}") for one in found if not one.part)
    return (target for target in found if _wanted(target, settings))


def _wanted(target: Target, settings: AdapterSettings) -> bool:
    if settings.held is not None:
        return target.name in settings.held
    if target.layer.kernel == NORM and not settings.norms:
        return False
    if not named(target, settings.preset):
        return False
    if _matches(target, settings.exclude) and not _matches(target, settings.include):
        return False
    return target.layer.kernel == NORM or rank_and_alpha(target, settings_for(target, settings))[0] > 0


def _matches(target: Target, patterns: Iterable[str]) -> bool:
    return any(re.fullmatch(pattern, target.path) for pattern in patterns)


def settings_for(target: Target, settings: AdapterSettings) -> AdapterSettings:
    """What holds for one layer: as the file has it that is gone on from, or as a preset file asks by name or class."""
    if settings.held is not None:
        return settings.held[target.name]
    preset = settings.preset
    if by_name(target, preset):
        asked = next((name for name in preset.by_name if name == target.path), None)
        asked = asked or next((name for name in preset.by_name if preset.matches(target.path, (name,))), None)
        if asked is not None:
            return settings.by_name[asked]
    found = settings
    for _, kind in target.around() if settings.by_class else ():
        found = settings.by_class.get((kind, found.algo), found)
    return found


def rank_and_alpha(target: Target, settings: AdapterSettings) -> tuple[int, float]:
    """conv_dim and conv_alpha for convolutions larger than 1x1, network_dim and network_alpha for all else."""
    for pattern, dim in settings.dims:
        if _matches(target, (pattern,)):
            return dim, settings.alpha
    if target.layer.kernel > 1:
        return settings.conv_dim, settings.conv_alpha
    return settings.dim, settings.alpha


def tensors_of(target: Target, settings: AdapterSettings) -> Tensors:
    """Ending -> shape of everything that the file holds of a layer. settings: those that hold for it."""
    layer = target.layer
    if settings.shapes is not None:
        return dict(settings.shapes)
    if layer.kernel == NORM:
        return {"w_norm": (layer.outputs,), "b_norm": (layer.outputs,)}
    shapes: Shapes = ALGORITHMS.load(settings.algo, "shapes")
    found = shapes(target, rank_and_alpha(target, settings)[0], settings)
    if settings.dora:
        side = (1,) * (2 if layer.kernel else 0)
        found["dora_scale"] = (layer.outputs, 1, *side) if settings.dora_on_output else (1, layer.inputs, *side)
    return found


def misfits(found: Iterable[Target], settings: AdapterSettings) -> Iterator[Problem]:
    """At most one finding: layers whose outputs, or ranks, cannot be cut into the blocks that are asked for."""
    asked = {one.algo for one in (settings, *settings.by_class.values(), *settings.by_name.values())}
    if settings.held is not None or not asked & CUTTING:
        return
    kept = [one for one in wanted(found, settings) if one.layer.kernel != NORM]
    wrong = [(one, own) for one in kept if not fits(one, *_asked(one, own := settings_for(one, settings)))]
    if not wrong:
        return
    target, own = wrong[0]
    rank = rank_and_alpha(target, own)[0]
    cut = f"the {target.layer.outputs} outputs of {target.name} make no blocks with rank {rank}"
    if own.algo == "dylora":
        cut = f"DyLoRA's groups of {own.group} do not divide the rank {rank} of {target.name}"
    good = [str(dim) for dim in range(1, 129) if all(fits(one, dim, settings_for(one, settings)) for one in kept)]
    cure = f"set network_dim (and conv_dim) to {', '.join(good[:3])} or the like" if good else "choose another network"
    yield Problem("network_dim", f"{cut} ({len(wrong)} layers)", cure, "no_blocks")


def _asked(target: Target, own: AdapterSettings) -> tuple[int, AdapterSettings]:
    return rank_and_alpha(target, own)[0], own


def adapters_size(model: Architecture, settings: AdapterSettings, asked: NetworkConfig, dtype: str) -> LoraSize | None:
    """The size of the file, without the half that is not trained; None where no layer is left, or one does not fit."""
    if any(misfits(layers.targets(model), settings)):
        return None
    tensors = {
        f"{target.name}.{ending}": shape
        for target in targets(model, settings)
        if not (asked.network_train_unet_only if target.part else asked.network_train_text_encoder_only)
        for ending, shape in tensors_of(target, settings_for(target, settings)).items()
    }
    return size_of(tensors, dtype) if tensors else None

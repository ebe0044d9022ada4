"""Which layers a network of LyCORIS' kinds adapts, and which tensors each has in its file; without torch.

The network itself is built from the same two lists, so the size told before a training is the file's.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator

from kohyakit.config.arguments.adapters import AdapterSettings
from kohyakit.config.sections.network import NetworkConfig
from kohyakit.planning.size import layers
from kohyakit.planning.size.architecture import Architecture
from kohyakit.planning.size.layers import NORM, Layer, Target, named
from kohyakit.planning.size.lora import LoraSize, size_of

Tensors = dict[str, tuple[int, ...]]


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
    found = _TENSORS[settings.algo](target, rank_and_alpha(target, settings)[0], settings)
    if settings.dora:
        side = (1,) * (2 if layer.kernel else 0)
        found["dora_scale"] = (layer.outputs, 1, *side) if settings.dora_on_output else (1, layer.inputs, *side)
    return found


def _kernel(layer: Layer) -> tuple[int, ...]:
    return (layer.kernel, layer.kernel) if layer.kernel else ()


def _lora(target: Target, rank: int, settings: AdapterSettings) -> Tensors:
    layer, kernel = target.layer, _kernel(target.layer)
    small = (1,) * len(kernel)
    if settings.tucker and layer.kernel > 1:
        return {
            "alpha": (), "lora_down.weight": (rank, layer.inputs, *small),
            "lora_mid.weight": (rank, rank, *kernel), "lora_up.weight": (layer.outputs, rank, *small),
        }  # fmt: skip
    return {
        "alpha": (), "lora_down.weight": (rank, layer.inputs, *kernel), "lora_up.weight": (layer.outputs, rank, *small),
    }  # fmt: skip


def _loha(target: Target, rank: int, settings: AdapterSettings) -> Tensors:
    layer, kernel = target.layer, _kernel(target.layer)
    found: Tensors = {"alpha": ()}
    for number in (1, 2):
        if settings.tucker and layer.kernel > 1:
            found[f"hada_t{number}"] = (rank, rank, *kernel)
            found[f"hada_w{number}_a"] = (rank, layer.outputs)
            found[f"hada_w{number}_b"] = (rank, layer.inputs)
        else:
            found[f"hada_w{number}_a"] = (layer.outputs, rank)
            found[f"hada_w{number}_b"] = (rank, layer.inputs * math.prod(kernel))
    return found


def _lokr(target: Target, rank: int, settings: AdapterSettings) -> Tensors:
    layer, kernel = target.layer, _kernel(target.layer)
    rows, large_rows = factors(layer.outputs, settings.factor)
    if settings.unbalanced:
        rows, large_rows = large_rows, rows
    columns, large_columns = factors(layer.inputs, settings.factor)
    found: Tensors = {"alpha": ()}
    if settings.decompose_both and rank < max(rows, columns) / 2 and not settings.full_matrix:
        found |= {"lokr_w1_a": (rows, rank), "lokr_w1_b": (rank, columns)}
    else:
        found["lokr_w1"] = (rows, columns)
    if settings.full_matrix or rank >= max(large_rows, large_columns) / 2:
        found["lokr_w2"] = (large_rows, large_columns, *kernel)
    elif settings.tucker and layer.kernel > 1:
        found |= {
            "lokr_t2": (rank, rank, *kernel), "lokr_w2_a": (rank, large_rows), "lokr_w2_b": (rank, large_columns),
        }  # fmt: skip
    else:
        found |= {"lokr_w2_a": (large_rows, rank), "lokr_w2_b": (rank, large_columns * math.prod(kernel))}
    return found


def factors(length: int, factor: int) -> tuple[int, int]:
    """Two whole numbers with this product, the smaller first: `factor` where it divides, else the nearest pair.

    A factor of -1 asks for the most even pair. 128: 8, 16; with 4: 4, 32. 250 with 4: 2, 125.
    """
    if factor > 0 and length % factor == 0:
        small, large = sorted((factor, length // factor))
        return small, large
    limit = length if factor < 0 else factor
    small = max(one for one in range(1, math.isqrt(length) + 1) if length % one == 0 and one <= max(1, limit))
    return small, length // small


def _full(target: Target, rank: int, settings: AdapterSettings) -> Tensors:
    layer = target.layer
    found: Tensors = {"diff": (layer.outputs, layer.inputs, *_kernel(layer))}
    return found | ({"diff_b": (layer.outputs,)} if target.bias else {})


def _ia3(target: Target, rank: int, settings: AdapterSettings) -> Tensors:
    layer = target.layer
    length = layer.inputs if scales_inputs(target, settings) else layer.outputs
    return {"weight": (1, length, 1, 1) if layer.kernel else (length,), "on_input": ()}


def scales_inputs(target: Target, settings: AdapterSettings) -> bool:
    """Whether (IA)^3 scales what goes into the layer, and not what comes out."""
    return settings.on_input or target.path.endswith(settings.preset.on_input or ("\0",))


_TENSORS = {"lora": _lora, "loha": _loha, "lokr": _lokr, "full": _full, "ia3": _ia3}


def adapters_size(model: Architecture, settings: AdapterSettings, asked: NetworkConfig, dtype: str) -> LoraSize | None:
    """The size of the file, without the half that is not trained; None where no layer is left."""
    tensors = {
        f"{target.name}.{ending}": shape
        for target in targets(model, settings)
        if not (asked.network_train_unet_only if target.part else asked.network_train_text_encoder_only)
        for ending, shape in tensors_of(target, settings).items()
    }
    return size_of(tensors, dtype) if tensors else None

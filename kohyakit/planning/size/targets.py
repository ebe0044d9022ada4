"""Which layers a network of LyCORIS' kinds adapts, and which tensors each has in its file; without torch.

The network itself is built from the same two lists, so the size told before a training is the file's.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kohyakit.config.arguments.adapters import AdapterSettings, Preset
from kohyakit.config.sections.network import NetworkConfig
from kohyakit.planning.size.architecture import Architecture, UNetShape
from kohyakit.planning.size.lora import Layer, LoraSize, sdxl_name, size_of, text_layers, unet_layers

NORM = -1  # as the kernel of a layer: a normalisation, which has one weight a channel

# The class of sd-scripts' module at a place in the model, by the last word of its name.
_CLASSES = {
    "attentions": "Transformer2DModel", "transformer_blocks": "BasicTransformerBlock", "attn1": "CrossAttention",
    "attn2": "CrossAttention", "ff": "FeedForward", "resnets": "ResnetBlock2D", "downsamplers": "Downsample2D",
    "upsamplers": "Upsample2D", "self_attn": "CLIPAttention", "mlp": "CLIPMLP",
}  # fmt: skip
# sd-scripts' own U-Net registers its parts in this order, and draws first values in it.
_ORDER = {
    name: place
    for names in (
        ("conv_in", "time_embedding", "down_blocks", "up_blocks", "mid_block", "conv_out"),
        ("attentions", "resnets", "downsamplers", "upsamplers"),
        ("norm", "proj_in", "transformer_blocks", "proj_out"),
        ("attn1", "ff", "attn2"),
        ("to_q", "to_k", "to_v", "to_out"),
        ("conv1", "time_emb_proj", "conv2", "conv_shortcut"),
        ("linear_1", "linear_2"),
    )
    for place, name in enumerate(names)
}
_SECTIONS = ("input_blocks", "middle_block", "output_blocks")


@dataclass(frozen=True, slots=True)
class Target:
    """A layer that is adapted. name: in the file. part: 0 for the U-Net, 1 and 2 for the text encoders.

    kernel of the layer: 0 for Linear, NORM for a normalisation. path: its name in sd-scripts' model, with dots.
    """

    name: str
    part: int
    path: str
    layer: Layer

    @property
    def classes(self) -> set[str]:
        """Of the modules around it."""
        return {_CLASSES[word] for word in self.layer.name.split(".") if word in _CLASSES}

    @property
    def bias(self) -> bool:
        """Whether the layer has one: all but those that make query, key and value in the U-Net."""
        return not self.layer.name.endswith(("to_q", "to_k", "to_v"))


Tensors = dict[str, tuple[int, ...]]


def targets(model: Architecture, settings: AdapterSettings) -> Iterator[Target]:
    """The layers that the settings name, text encoders first, each half in sd-scripts' order of creation."""
    for target in _everything(model):
        if _wanted(target, settings):
            yield target


def _wanted(target: Target, settings: AdapterSettings) -> bool:
    preset = settings.preset
    if target.layer.kernel == NORM and not settings.norms:
        return False
    if not _named(target, preset):
        return False
    if _matches(target, settings.exclude) and not _matches(target, settings.include):
        return False
    return target.layer.kernel == NORM or rank_and_alpha(target, settings)[0] > 0


def _matches(target: Target, patterns: Iterable[str]) -> bool:
    return any(re.fullmatch(pattern, target.path) for pattern in patterns)


def _named(target: Target, preset: Preset) -> bool:
    if target.path.endswith(preset.endings):
        return True
    modules = preset.text_modules if target.part else preset.unet_modules
    names = () if target.part else preset.unet_names
    return not target.classes.isdisjoint(modules) or target.path.startswith(names)


def rank_and_alpha(target: Target, settings: AdapterSettings) -> tuple[int, float]:
    """conv_dim and conv_alpha for convolutions larger than 1x1, network_dim and network_alpha for all else."""
    for pattern, dim in settings.dims:
        if _matches(target, (pattern,)):
            return dim, settings.alpha
    if target.layer.kernel > 1:
        return settings.conv_dim, settings.conv_alpha
    return settings.dim, settings.alpha


def _everything(model: Architecture) -> Iterator[Target]:
    """Every layer that a network may adapt."""
    for part, shape in enumerate(model.text_encoders, start=1):
        prefix = "lora_te" if len(model.text_encoders) == 1 else f"lora_te{part}"
        for layer in text_layers(shape):
            yield Target(f"{prefix}_{layer.name.replace('.', '_')}", part, layer.name, layer)
    found = sorted(_unet(model.unet, outer=model.family != "sdxl"), key=lambda layer: _place(layer.name))
    if model.family != "sdxl":
        paths = [(layer.name, layer) for layer in found]
    else:
        paths = sorted(((sdxl_name(layer.name), layer) for layer in found), key=lambda one: _sdxl_place(one[0]))
    for path, layer in paths:
        yield Target(f"lora_unet_{path.replace('.', '_')}", 0, path, layer)


def _unet(shape: UNetShape, *, outer: bool) -> Iterator[Layer]:
    layers = list(unet_layers(shape, convolutions=True))
    yield from layers
    yield from _norms(layers)
    if outer:  # the original U-Net of SDXL has other names for them, which no preset knows
        width = shape.channels[0]
        yield Layer("conv_in", shape.inputs, width, 3)
        yield Layer("conv_out", width, 4, 3)
        yield Layer("time_embedding.linear_1", width, 4 * width)
        yield Layer("time_embedding.linear_2", 4 * width, 4 * width)


def _norms(layers: Iterable[Layer]) -> Iterator[Layer]:
    """The normalisation before each transformer, before each part of its blocks and before each 3x3 of a residual."""
    for layer in layers:
        name, _, last = layer.name.rpartition(".")
        if last == "proj_in":
            yield Layer(f"{name}.norm", layer.inputs, layer.inputs, NORM)
        elif layer.name.endswith("attn1.to_q"):
            block = layer.name.removesuffix(".attn1.to_q")
            for number in (1, 2, 3):
                yield Layer(f"{block}.norm{number}", layer.inputs, layer.inputs, NORM)
        elif last in ("conv1", "conv2"):
            yield Layer(f"{name}.norm{last[-1]}", layer.inputs, layer.inputs, NORM)


def _place(path: str) -> list[int]:
    return [int(word) if word.isdigit() else _ORDER.get(word, 9) for word in path.split(".")]


def _sdxl_place(path: str) -> tuple[int, list[int]]:
    section, *rest = path.split(".")
    count = 1 if section == "middle_block" else 2
    return _SECTIONS.index(section), [int(number) for number in rest[:count]]


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

"""Which layers of a model a network may adapt: names, shapes, order; without torch.

The one list of them. The size told before a training, the network that is trained and the tools for LoRA files all go
by it. Names and order are those of sd-scripts' own models.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kohyakit.config.arguments.presets import Preset
from kohyakit.planning.size.architecture import Architecture, TextShape, UNetShape
from kohyakit.planning.size.around import around
from kohyakit.registry.families import MODELS

NORM = -1  # as the kernel of a layer: a normalisation, which has one weight a channel

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
class Layer:
    """A layer that is adapted.

    name: in diffusers' terms, with dots. kernel: 0 for Linear, NORM for a normalisation, else the convolution's side.
    """

    name: str
    inputs: int
    outputs: int
    kernel: int = 0


@dataclass(frozen=True, slots=True)
class Target:
    """A layer that is adapted. name: in the file. part: 0 for the U-Net, 1 and 2 for the text encoders.

    path: its name in sd-scripts' model, with dots. layer: of the model's own module. within: the class around it that
    presets name, of a family whose names do not tell.
    """

    name: str
    part: int
    path: str
    layer: Layer
    within: str = ""

    @property
    def bias(self) -> bool:
        """Whether the layer has one: all but those that make query, key and value in the U-Net."""
        return not self.layer.name.endswith(("to_q", "to_k", "to_v"))

    @property
    def kind(self) -> str:
        """Its class."""
        if self.layer.kernel == NORM:
            return "LayerNorm" if "transformer_blocks" in self.layer.name else "GroupNorm"
        return "Conv2d" if self.layer.kernel else "Linear"

    def around(self) -> Iterator[tuple[str, str]]:
        """(name, class) of each module around it, the outermost first, and its own."""
        if self.within:
            yield self.path, self.within
        yield from around(self.path, self.layer.name, self.kind)


def adapted(found: Iterable[Target], preset: Preset) -> Iterator[Target]:
    """Those of the layers that a preset names, without normalisations."""
    return (target for target in found if target.layer.kernel != NORM and named(target, preset))


def named(target: Target, preset: Preset) -> bool:
    """Whether a preset names a layer, by its own name or by a module around it."""
    modules, names = (
        (preset.text_modules, preset.text_names) if target.part else (preset.unet_modules, preset.unet_names)
    )
    if by_name(target, preset):
        return True
    return any(kind in modules and not preset.matches(name, names) for name, kind in target.around())


def by_name(target: Target, preset: Preset) -> bool:
    """Whether a preset names a layer by its own name."""
    names = preset.text_names if target.part else preset.unet_names
    return bool(preset.endings and target.path.endswith(preset.endings)) or preset.matches(target.path, names)


def targets(model: Architecture) -> Iterator[Target]:
    """Every layer that a network may adapt, text encoders first, each part in sd-scripts' order of creation."""
    family = MODELS[model.family]
    for part, (text, shape) in enumerate(zip(family.texts, model.text_encoders, strict=True), start=1):
        for layer in text_layers(shape):
            yield _target(text.lora, part, layer.name, layer)
    found = sorted(_unet(model.unet, outer=not family.original_names), key=lambda layer: _place(layer.name))
    if not family.original_names:
        paths = [(layer.name, layer) for layer in found]
    else:
        paths = sorted(((sdxl_name(layer.name), layer) for layer in found), key=lambda one: _sdxl_place(one[0]))
    for path, layer in paths:
        yield _target("lora_unet", 0, path, layer)


def _target(prefix: str, part: int, path: str, layer: Layer) -> Target:
    return Target(f"{prefix}_{path.replace('.', '_')}", part, path, layer)


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


def text_layers(shape: TextShape) -> Iterator[Layer]:
    """The adapted layers of a CLIP text encoder."""
    for layer in range(shape.layers):
        base = f"text_model.encoder.layers.{layer}"
        for name in ("k_proj", "v_proj", "q_proj", "out_proj"):
            yield Layer(f"{base}.self_attn.{name}", shape.hidden, shape.hidden)
        yield Layer(f"{base}.mlp.fc1", shape.hidden, shape.inner)
        yield Layer(f"{base}.mlp.fc2", shape.inner, shape.hidden)


def unet_layers(shape: UNetShape, *, convolutions: bool) -> Iterator[Layer]:
    """The adapted layers of a U-Net; `convolutions`: those outside the Transformers too."""
    levels = len(shape.channels)
    for level, width in enumerate(shape.channels):
        base = f"down_blocks.{level}"
        for place in range(shape.layers_per_block):
            if convolutions:
                before = shape.channels[max(0, level - 1)] if place == 0 else width
                yield from _resnet(f"{base}.resnets.{place}", before, width, shape)
            yield from _transformer(f"{base}.attentions.{place}", width, shape.transformers[level], shape)
        if convolutions and level < levels - 1:
            yield Layer(f"{base}.downsamplers.0.conv", width, width, 3)
    yield from _up_blocks(shape, convolutions=convolutions)
    deepest = shape.channels[-1]
    yield from _transformer("mid_block.attentions.0", deepest, shape.mid_transformers, shape)
    if convolutions:
        for place in (0, 1):
            yield from _resnet(f"mid_block.resnets.{place}", deepest, deepest, shape)


def _up_blocks(shape: UNetShape, *, convolutions: bool) -> Iterator[Layer]:
    widths, attends = shape.channels[::-1], shape.transformers[::-1]
    for level, width in enumerate(widths):
        base = f"up_blocks.{level}"
        for place in range(shape.layers_per_block + 1):
            if convolutions:
                from_below = widths[max(0, level - 1)] if place == 0 else width
                skipped = widths[min(level + 1, len(widths) - 1)] if place == shape.layers_per_block else width
                yield from _resnet(f"{base}.resnets.{place}", from_below + skipped, width, shape)
            yield from _transformer(f"{base}.attentions.{place}", width, attends[level], shape)
        if convolutions and level < len(widths) - 1:
            yield Layer(f"{base}.upsamplers.0.conv", width, width, 3)


def _resnet(name: str, inputs: int, outputs: int, shape: UNetShape) -> Iterator[Layer]:
    yield Layer(f"{name}.conv1", inputs, outputs, 3)
    yield Layer(f"{name}.time_emb_proj", 4 * shape.channels[0], outputs)
    yield Layer(f"{name}.conv2", outputs, outputs, 3)
    if inputs != outputs:
        yield Layer(f"{name}.conv_shortcut", inputs, outputs, 1)


def _transformer(name: str, width: int, blocks: int, shape: UNetShape) -> Iterator[Layer]:
    if not blocks:
        return
    kernel = 0 if shape.linear_projection else 1
    yield Layer(f"{name}.proj_in", width, width, kernel)
    for block in range(blocks):
        base = f"{name}.transformer_blocks.{block}"
        for attention, context in (("attn1", width), ("attn2", shape.context)):
            yield Layer(f"{base}.{attention}.to_q", width, width)
            yield Layer(f"{base}.{attention}.to_k", context, width)
            yield Layer(f"{base}.{attention}.to_v", context, width)
            yield Layer(f"{base}.{attention}.to_out.0", width, width)
        yield Layer(f"{base}.ff.net.0.proj", width, 8 * width)
        yield Layer(f"{base}.ff.net.2", 4 * width, width)
    yield Layer(f"{name}.proj_out", width, width, kernel)


_SDXL_RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
    "conv2": "out_layers.3",
}  # fmt: skip


def sdxl_name(name: str) -> str:
    """diffusers' name -> that of the original SDXL U-Net, which Kohya's SDXL files use."""
    block, level, *rest = name.split(".") if name.startswith(("down", "up")) else ("mid", "0", *name.split(".")[1:])
    kind, place, *inner = rest
    part = int(kind == "attentions")
    if kind == "resnets":
        inner = [_SDXL_RESNET.get(inner[0], "skip_connection")]
    if block == "mid":
        return ".".join(["middle_block", "1" if part else str(2 * int(place)), *inner])
    if block == "down_blocks":
        if kind == "downsamplers":
            return f"input_blocks.{3 * int(level) + 3}.0.op"
        return ".".join(["input_blocks", str(3 * int(level) + int(place) + 1), str(part), *inner])
    if kind == "upsamplers":
        return f"output_blocks.{3 * int(level) + 2}.2.conv"
    return ".".join(["output_blocks", str(3 * int(level) + int(place)), str(part), *inner])

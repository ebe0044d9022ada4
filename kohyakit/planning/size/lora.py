"""How large a LoRA file becomes, to the byte, from the base model's shape alone.

The modules are those that `networks.lora` adapts: in the text encoders every attention and MLP layer; in the U-Net
every Linear and 1x1 convolution inside a Transformer, and with conv_dim the layers of the residual blocks and the
up- and downsamplers too.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from kohyakit.planning.size.architecture import Architecture, TextShape, UNetShape

DTYPE_BYTES = {"F32": 4, "F16": 2, "BF16": 2}


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer that is adapted.

    name: in diffusers' terms, with dots. kernel: 0 for Linear, else the convolution's side.
    """

    name: str
    inputs: int
    outputs: int
    kernel: int = 0


@dataclass(frozen=True, slots=True)
class LoraSize:
    """parameters: trained numbers. data_bytes: all tensors. header_bytes: names and shapes, without metadata."""

    modules: int
    tensors: int
    parameters: int
    data_bytes: int
    header_bytes: int

    def file_bytes(self, metadata_json_bytes: int = 0) -> int:
        """The whole .safetensors file, given the length of its metadata as compact JSON (0 for none)."""
        header = self.header_bytes
        if metadata_json_bytes:
            header += len('"__metadata__":,') + metadata_json_bytes
        return 8 + header + -header % 8 + self.data_bytes


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


def lora_layers(
    model: Architecture, *, text_encoder: bool = True, unet: bool = True, convolutions: bool = False
) -> Iterator[tuple[str, Layer]]:
    """Every adapted layer with its name in a Kohya file (`lora_unet_down_blocks_0_…`)."""
    if text_encoder:
        for number, shape in enumerate(model.text_encoders, start=1):
            prefix = "lora_te" if len(model.text_encoders) == 1 else f"lora_te{number}"
            for layer in text_layers(shape):
                yield f"{prefix}_{layer.name.replace('.', '_')}", layer
    if unet:
        for layer in unet_layers(model.unet, convolutions=convolutions):
            name = sdxl_name(layer.name) if model.family == "sdxl" else layer.name
            yield f"lora_unet_{name.replace('.', '_')}", layer


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


Rank = Callable[[str, Layer], int]


def ranks(dim: int, conv_dim: int | None = None) -> Rank:
    """network_dim, and conv_dim for 3x3 convolutions where there is one."""
    return lambda name, layer: conv_dim if layer.kernel == 3 and conv_dim else dim


def lora_shapes(name: str, layer: Layer, rank: int) -> dict[str, list[int]]:
    """The tensors of one layer in a Kohya file."""
    side = [layer.kernel, layer.kernel] if layer.kernel else []
    return {
        f"{name}.alpha": [],
        f"{name}.lora_down.weight": [rank, layer.inputs, *side],
        f"{name}.lora_up.weight": [layer.outputs, rank, *([1, 1] if layer.kernel else [])],
    }


def lora_size(
    layers: Iterable[tuple[str, Layer]], dim: int | Rank, conv_dim: int | None = None, dtype: str = "F32"
) -> LoraSize:
    """The size of the file that holds these layers. dim: one rank for all, or each layer's own.

    dtype: F32, F16 or BF16, as safetensors names them.
    """
    rank = dim if callable(dim) else ranks(dim, conv_dim)
    tensors: dict[str, list[int]] = {}
    for name, layer in layers:
        tensors |= lora_shapes(name, layer, rank(name, layer))
    return size_of(tensors, dtype)


def size_of(tensors: Mapping[str, Sequence[int]], dtype: str = "F32") -> LoraSize:
    """The size of the file that holds these shapes under these names; all that are no scalars are trained."""
    width = DTYPE_BYTES[dtype]
    offset, entries, parameters = 0, [], 0
    for name in sorted(tensors):
        shape = list(tensors[name])
        count = math.prod(shape)
        entry = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + count * width]}
        entries.append(f'"{name}":{json.dumps(entry, separators=(",", ":"))}')
        offset += count * width
        parameters += count if shape else 0
    header = len(",".join(entries)) + 2
    modules = len({name.partition(".")[0] for name in tensors})
    return LoraSize(modules, len(tensors), parameters, offset, header)

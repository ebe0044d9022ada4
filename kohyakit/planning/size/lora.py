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

from kohyakit.config.arguments.presets import lora_preset
from kohyakit.planning.size.architecture import Architecture
from kohyakit.planning.size.layers import Layer, adapted, targets

DTYPE_BYTES = {"F32": 4, "F16": 2, "BF16": 2}


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


def lora_layers(
    model: Architecture, *, text_encoder: bool = True, unet: bool = True, convolutions: bool = False
) -> Iterator[tuple[str, Layer]]:
    """Every adapted layer with its name in a Kohya file (`lora_unet_down_blocks_0_…`)."""
    for target in adapted(targets(model), lora_preset(convolutions=convolutions)):
        if text_encoder if target.part else unet:
            yield target.name, target.layer


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

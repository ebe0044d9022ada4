"""The shape of a base model, from its configs or a checkpoint's header, without loading a weight.

What it is for: the LoRA's size to the byte, and the memory estimate.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kohyakit.files import read_text
from kohyakit.formats import safetensors_header


@dataclass(frozen=True, slots=True)
class TextShape:
    """A CLIP text encoder: layers, width of its states, width inside the MLP."""

    layers: int
    hidden: int
    inner: int


@dataclass(frozen=True, slots=True)
class UNetShape:
    """A U-Net in diffusers' terms.

    channels: per level. transformers: Transformer blocks per attention, per level; 0 is a level without attention.
    context: width of the text states. linear_projection: whether the Transformers' in and out are Linear, not 1x1
    convolutions.
    """

    channels: tuple[int, ...]
    transformers: tuple[int, ...]
    context: int
    linear_projection: bool
    layers_per_block: int = 2
    mid_transformers: int = 1


@dataclass(frozen=True, slots=True)
class Parameters:
    """How many numbers the parts of a model hold."""

    unet: int
    text: int
    vae: int


@dataclass(frozen=True, slots=True)
class Architecture:
    """family: sd1, sd2 or sdxl. known: the shape was read from the model itself, not assumed."""

    family: str
    unet: UNetShape
    text_encoders: tuple[TextShape, ...]
    parameters: Parameters
    known: bool = False


SD1 = Architecture(
    "sd1",
    UNetShape((320, 640, 1280, 1280), (1, 1, 1, 0), 768, False),
    (TextShape(12, 768, 3072),),
    Parameters(859_520_964, 123_060_480, 83_653_863),
)
SD2 = Architecture(
    "sd2",
    UNetShape((320, 640, 1280, 1280), (1, 1, 1, 0), 1024, True),
    (TextShape(23, 1024, 4096),),
    Parameters(865_910_724, 340_387_840, 83_653_863),
)
SDXL = Architecture(
    "sdxl",
    UNetShape((320, 640, 1280), (0, 2, 10), 2048, True, mid_transformers=10),
    (TextShape(12, 768, 3072), TextShape(32, 1280, 5120)),
    Parameters(2_567_463_684, 123_060_480 + 694_659_840, 83_653_863),
)


class UnknownArchitecture(ValueError):
    """The model at this place is of no family whose LoRA can be worked out; the text says what it looks like."""


def standard(family: str) -> Architecture:
    """The family's usual shape, for a model that is not at hand."""
    return {"sd1": SD1, "sd2": SD2, "sdxl": SDXL}[family]


def read_architecture(path: Path, family: str) -> Architecture:
    """The shape of a diffusers folder or a .safetensors checkpoint.

    A .ckpt cannot be looked into without running it, so it gets the family's usual shape with known=False.
    Raises UnknownArchitecture, OSError or ValueError for what is no such model.
    """
    if path.is_dir():
        return _from_folder(path)
    if path.suffix.lower() != ".safetensors":
        return standard(family)
    tensors = safetensors_header.read(path).tensors
    return _from_header({name: tensor.shape for name, tensor in tensors.items()})


def _json(path: Path) -> dict[str, Any]:
    return json.loads(read_text(path))


def _from_folder(path: Path) -> Architecture:
    unet = _json(path / "unet" / "config.json")
    channels = tuple(unet["block_out_channels"])
    blocks = unet.get("transformer_layers_per_block", 1)
    per_level = tuple(blocks) if isinstance(blocks, list) else (blocks,) * len(channels)
    attends = ["CrossAttn" in kind for kind in unet["down_block_types"]]
    text = [_text_config(path / name) for name in ("text_encoder", "text_encoder_2") if (path / name).is_dir()]
    shape = UNetShape(
        channels,
        tuple(count if has else 0 for count, has in zip(per_level, attends, strict=True)),
        unet["cross_attention_dim"],
        bool(unet.get("use_linear_projection")),
        unet.get("layers_per_block", 2),
        per_level[-1],
    )
    family = "sdxl" if len(text) == 2 else "sd2" if shape.linear_projection else "sd1"
    return Architecture(family, shape, tuple(text), _folder_parameters(path, standard(family).parameters), known=True)


def _folder_parameters(path: Path, usual: Parameters) -> Parameters:
    """Counted from the weights' headers; the usual number for a part whose weights are no .safetensors."""

    def count(*parts: str) -> int:
        files = [file for part in parts for file in sorted((path / part).glob("*.safetensors"))]
        files = [file for file in files if not re.search(r"\.(fp16|non_ema)\b", file.name)] or files
        return sum(t.elements for file in files for t in safetensors_header.read(file).tensors.values())

    unet, text, vae = count("unet"), count("text_encoder", "text_encoder_2"), count("vae")
    return Parameters(unet or usual.unet, text or usual.text, vae or usual.vae)


def _text_config(folder: Path) -> TextShape:
    config = _json(folder / "config.json")
    return TextShape(config["num_hidden_layers"], config["hidden_size"], config["intermediate_size"])


_UNET = "model.diffusion_model."
_TEXT1 = re.compile(r"cond_stage_model\.transformer\.text_model\.encoder\.layers\.(\d+)\.mlp\.fc1\.weight")
_TEXT2 = re.compile(r"cond_stage_model\.model\.transformer\.resblocks\.(\d+)\.mlp\.c_fc\.weight")


def _from_header(shapes: Mapping[str, tuple[int, ...]]) -> Architecture:
    """A single-file checkpoint in the original layout."""
    if any(name.startswith("conditioner.embedders.") for name in shapes):
        return replace(SDXL, known=True)
    try:
        channels = tuple(shapes[f"{_UNET}input_blocks.{block}.0.out_layers.3.weight"][0] for block in (1, 4, 7, 10))
        context = shapes[f"{_UNET}input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"][1]
        linear = len(shapes[f"{_UNET}input_blocks.1.1.proj_in.weight"]) == 2
    except KeyError:
        raise UnknownArchitecture("it holds no Stable Diffusion U-Net in the original layout") from None
    text = _text_shape(shapes, _TEXT1)
    family = "sd1"
    if not text:
        text, family = _text_shape(shapes, _TEXT2), "sd2"
    if not text:
        raise UnknownArchitecture("it holds no CLIP text encoder")
    if family == "sd2":
        text = replace(text, layers=text.layers - 1)  # sd-scripts leaves out OpenCLIP's last layer
    shape = UNetShape(channels, (1, 1, 1, 0), context, linear)
    return Architecture(family, shape, (text,), _file_parameters(shapes), known=True)


def _file_parameters(shapes: Mapping[str, tuple[int, ...]]) -> Parameters:
    def count(prefix: str) -> int:
        return sum(math.prod(shape) for name, shape in shapes.items() if name.startswith(prefix))

    return Parameters(count(_UNET), count("cond_stage_model."), count("first_stage_model."))


def _text_shape(shapes: Mapping[str, tuple[int, ...]], pattern: re.Pattern[str]) -> TextShape | None:
    layers = {int(match[1]): shape for name, shape in shapes.items() if (match := pattern.fullmatch(name))}
    return TextShape(len(layers), layers[0][1], layers[0][0]) if layers else None

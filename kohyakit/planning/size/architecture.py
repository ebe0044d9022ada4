"""The shape of a base model, from its configs or a checkpoint's header, without loading a weight.

What it is for: the LoRA's size to the byte, the memory estimate, and what is missing in a damaged model.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kohyakit.formats.weights import header as weight_header
from kohyakit.formats.weights import model_kind, safetensors_header
from kohyakit.formats.weights.header import Shapes, below
from kohyakit.formats.weights.model_kind import UNET, read_json
from kohyakit.registry.families import MODELS, FamilyEntry, TextPart


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
    inputs: channels of what goes in, 4 unless it fills holes in pictures. added: width of the pooled text and sizes
    that SDXL's is given as well, 0 for the others.
    context: width of the text states. linear_projection: whether the Transformers' in and out are Linear, not 1x1
    convolutions.
    """

    channels: tuple[int, ...]
    transformers: tuple[int, ...]
    context: int
    linear_projection: bool
    layers_per_block: int = 2
    mid_transformers: int = 1
    inputs: int = 4
    added: int = 0


@dataclass(frozen=True, slots=True)
class VaeShape:
    """A VAE: width per level of the encoder, residual blocks a level there, channels of the latents."""

    channels: tuple[int, ...]
    layers: int = 2
    latent: int = 4


@dataclass(frozen=True, slots=True)
class Parameters:
    """How many numbers the parts of a model hold."""

    unet: int
    text: int
    vae: int


@dataclass(frozen=True, slots=True)
class Architecture:
    """family: its name in MODELS. known: the shape was read from the model itself, not assumed."""

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
    UNetShape((320, 640, 1280), (0, 2, 10), 2048, True, mid_transformers=10, added=2816),
    (TextShape(12, 768, 3072), TextShape(32, 1280, 5120)),
    Parameters(2_567_463_684, 123_060_480 + 694_659_840, 83_653_863),
)


class UnknownArchitecture(ValueError):
    """The model at this place is of no family whose LoRA can be worked out; the text says what it looks like."""


_STANDARD = {model.family: model for model in (SD1, SD2, SDXL)}


def standard(family: str) -> Architecture | None:
    """The family's usual shape, for a model that is not at hand; None for one whose layers are not known here."""
    return _STANDARD.get(family)


def read_architecture(path: Path) -> Architecture:
    """The shape of a diffusers folder or of a single file, safetensors or pickle.

    Raises UnknownArchitecture, KohyakitError, OSError or ValueError for what is no such model.
    """
    return _from_folder(path) if path.is_dir() else from_shapes(weight_header.read(path).shapes)


def _from_folder(path: Path) -> Architecture:
    unet = read_json(path / "unet" / "config.json")
    text = [_text_config(path / name) for name in ("text_encoder", "text_encoder_2") if (path / name).is_dir()]
    family = model_kind.of_folder(path).family
    usual = standard(family)
    if usual is None:
        raise UnknownArchitecture("it is not a Stable Diffusion model")
    parameters = _folder_parameters(path, usual.parameters)
    return Architecture(family, unet_of_config(unet), tuple(text), parameters, known=True)


def unet_of_config(unet: Mapping[str, Any]) -> UNetShape:
    """The shape that a U-Net's config.json describes."""
    channels = tuple(unet["block_out_channels"])
    blocks = unet.get("transformer_layers_per_block", 1)
    per_level = tuple(blocks) if isinstance(blocks, list) else (blocks,) * len(channels)
    attends = ["CrossAttn" in kind for kind in unet["down_block_types"]]
    return UNetShape(
        channels,
        tuple(count if has else 0 for count, has in zip(per_level, attends, strict=True)),
        unet["cross_attention_dim"],
        bool(unet.get("use_linear_projection")),
        unet.get("layers_per_block", 2),
        per_level[-1],
        unet.get("in_channels", 4),
        unet.get("projection_class_embeddings_input_dim", 0) if unet.get("addition_embed_type") else 0,
    )


def vae_of_config(vae: Mapping[str, Any]) -> VaeShape:
    """The shape that a VAE's config.json describes."""
    return VaeShape(tuple(vae["block_out_channels"]), vae.get("layers_per_block", 1), vae.get("latent_channels", 4))


def _folder_parameters(path: Path, usual: Parameters) -> Parameters:
    """Counted from the weights' headers; the usual number for a part whose weights are no .safetensors."""

    def count(*parts: str) -> int:
        files = [file for part in parts for file in sorted((path / part).glob("*.safetensors"))]
        files = [file for file in files if not re.search(r"\.(fp16|non_ema)\b", file.name)] or files
        return sum(t.elements for file in files for t in safetensors_header.read(file).tensors.values())

    unet, text, vae = count("unet"), count("text_encoder", "text_encoder_2"), count("vae")
    return Parameters(unet or usual.unet, text or usual.text, vae or usual.vae)


def _text_config(folder: Path) -> TextShape:
    config = read_json(folder / "config.json")
    return TextShape(config["num_hidden_layers"], config["hidden_size"], config["intermediate_size"])


VAE = "first_stage_model."
_LAYER = re.compile(r"(?:text_model\.)?encoder\.layers\.(\d+)\.mlp\.fc1\.weight")
_OPEN_CLIP_LAYER = re.compile(r"transformer\.resblocks\.(\d+)\.mlp\.c_fc\.weight")


def from_shapes(shapes: Shapes) -> Architecture:
    """A single-file checkpoint in the original layout. Raises UnknownArchitecture."""
    kind = model_kind.of_tensors(shapes)
    if standard(kind.family) is None:
        raise UnknownArchitecture(kind.what or f"is {MODELS[kind.family].a_model}")
    family = MODELS[kind.family]
    try:
        unet = unet_of_shapes(below(shapes, UNET))
    except (KeyError, IndexError, ValueError):
        raise UnknownArchitecture(f"holds no whole U-Net of {family.title} in the original layout") from None
    texts = [shape for part in family.texts if (shape := _text_shape(below(shapes, part.prefix), part))]
    if len(texts) < len(family.texts):
        lacking = "one of the two text encoders" if len(family.texts) > 1 else "the text encoder"
        raise UnknownArchitecture(f"lacks {lacking} of {family.title}")
    return Architecture(kind.family, unet, tuple(texts), _file_parameters(shapes, family), known=True)


def unet_of_shapes(shapes: Shapes) -> UNetShape:
    """The shape of a U-Net from its tensors, named below the prefix. Raises KeyError, IndexError or ValueError."""
    downs = sorted(int(m[1]) for name in shapes if (m := re.fullmatch(r"input_blocks\.(\d+)\.0\.op\.weight", name)))
    starts = [1, *(place + 1 for place in downs)]
    channels = tuple(shapes[f"input_blocks.{place}.0.in_layers.2.weight"][0] for place in starts)
    blocks = [_transformer_blocks(shapes, f"input_blocks.{place}.1") for place in starts]
    first = f"input_blocks.{starts[[count > 0 for count in blocks].index(True)]}.1"
    return UNetShape(
        channels,
        tuple(blocks),
        shapes[f"{first}.transformer_blocks.0.attn2.to_k.weight"][1],
        len(shapes[f"{first}.proj_in.weight"]) == 2,
        downs[0] - 1,
        max(1, _transformer_blocks(shapes, "middle_block.1")),
        shapes["input_blocks.0.0.weight"][1],
        shapes["label_emb.0.0.weight"][1] if "label_emb.0.0.weight" in shapes else 0,
    )


def _transformer_blocks(shapes: Shapes, place: str) -> int:
    names = (f"{place}.transformer_blocks.{number}.norm1.weight" for number in range(100))
    return next(number for number, name in enumerate(names) if name not in shapes)


def vae_of_shapes(shapes: Shapes) -> VaeShape:
    """The shape of a VAE from its tensors, original names or diffusers'. Raises KeyError or ValueError."""
    pattern, conv = r"encoder\.down\.(\d+)\.", "encoder.down.{}.block.{}.conv1.weight"
    if any(name.startswith("encoder.down_blocks.") for name in shapes):
        pattern, conv = r"encoder\.down_blocks\.(\d+)\.", "encoder.down_blocks.{}.resnets.{}.conv1.weight"
    levels = 1 + max(int(m[1]) for name in shapes if (m := re.match(pattern, name)))
    channels = tuple(shapes[conv.format(level, 0)][0] for level in range(levels))
    layers = sum(conv.format(0, place) in shapes for place in range(20))
    return VaeShape(channels, layers, shapes["decoder.conv_in.weight"][1])


def _file_parameters(shapes: Shapes, family: FamilyEntry) -> Parameters:
    def count(prefix: str) -> int:
        return sum(math.prod(shape) for name, shape in shapes.items() if name.startswith(prefix))

    texts = {part.prefix.partition(".")[0] for part in family.texts}
    return Parameters(count(UNET), sum(count(f"{start}.") for start in texts), count(VAE))


def _text_shape(shapes: Shapes, part: TextPart) -> TextShape | None:
    pattern = _OPEN_CLIP_LAYER if part.open_clip else _LAYER
    layers = {int(match[1]): shape for name, shape in shapes.items() if (match := pattern.fullmatch(name))}
    first = next(iter(layers.values()), ())
    return TextShape(len(layers) - part.left_out, first[1], first[0]) if len(first) == 2 else None

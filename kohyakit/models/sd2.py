"""Stable Diffusion 2.x: OpenCLIP ViT-H/14 without its last layer, heads 64 wide in the U-Net."""

from __future__ import annotations

import re
from typing import Any

from kohyakit.models.kinds import TextKind
from kohyakit.models.parts import Origin
from kohyakit.models.sd1 import TEXT, UNET, VAE, heads_of
from kohyakit.models.stable_diffusion import StableDiffusion
from kohyakit.models.weights import WeightFile
from kohyakit.registry.families import MODELS

ENTRY = MODELS["sd2"]

_LAYER = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
_PLAIN = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm.weight": "ln_final.weight",
    "final_layer_norm.bias": "ln_final.bias",
}


def text_origin(key: str) -> Origin:
    """Our name of a text encoder tensor -> OpenCLIP's, where q, k and v are thirds of one matrix. Raises KeyError."""
    key = key.removeprefix("text_model.")
    if key in _PLAIN:
        return Origin(_PLAIN[key])
    found = re.fullmatch(r"encoder\.layers\.(\d+)\.(.+)\.(weight|bias)", key)
    if found is None:
        raise KeyError(key)
    number, inner, kind = found.groups()
    block = f"transformer.resblocks.{number}"
    if inner in _LAYER:
        return Origin(f"{block}.{_LAYER[inner]}.{kind}")
    projection = inner.removeprefix("self_attn.")[0]
    if projection == "o":
        return Origin(f"{block}.attn.out_proj.{kind}")
    return Origin(f"{block}.attn.in_proj_{kind}", "qkv".index(projection))


def openclip_config(weights: WeightFile, base: dict[str, Any], *, left_out: int = 0) -> dict[str, Any]:
    """An OpenCLIP text encoder's configuration, read from the shapes in a single file.

    base: what no shape tells. left_out: how many of its last layers the U-Net was taught without.
    """
    vocabulary, hidden = weights.shape("token_embedding.weight")
    layers = {key.split(".")[2] for key in weights if key.startswith("transformer.resblocks.")}
    return base | {
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "projection_dim": hidden,
        "intermediate_size": weights.shape("transformer.resblocks.0.mlp.c_fc.weight")[0],
        "num_hidden_layers": len(layers) - left_out,
        "num_attention_heads": heads_of(hidden),
        "max_position_embeddings": weights.shape("positional_embedding")[0],
    }


def heads_64_wide(channels: tuple[int, ...]) -> list[int]:
    """Attention heads of each level of a U-Net: 64 wide, in a miniature 8."""
    wide = 64 if all(width % 64 == 0 for width in channels) else 8
    return [max(1, width // wide) for width in channels]


def text_config(weights: WeightFile) -> dict[str, Any]:
    """The text encoder's configuration, read from the shapes in a single file (below its prefix)."""
    return openclip_config(weights, SD2_TEXT, left_out=ENTRY.texts[0].left_out)


SD2_TEXT: dict[str, Any] = TEXT | {
    "hidden_size": 1024,
    "projection_dim": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 23,
    "num_attention_heads": 16,
    "hidden_act": "gelu",
}

SD2 = StableDiffusion(
    name="sd2",
    texts=(TextKind(ENTRY.texts[0], SD2_TEXT, 0, text_config, text_origin),),
    unet=UNET | {"cross_attention_dim": 1024, "attention_head_dim": [5, 10, 20, 20], "use_linear_projection": True},
    vae=VAE,
    heads=heads_64_wide,
)

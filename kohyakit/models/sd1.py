"""Stable Diffusion 1.x: CLIP ViT-L/14 text encoder, 8 heads everywhere in the U-Net."""

from __future__ import annotations

from typing import Any

from kohyakit.dataset.captions.tokens import EOS
from kohyakit.models.kinds import TextKind
from kohyakit.models.parts import Origin
from kohyakit.models.stable_diffusion import StableDiffusion
from kohyakit.models.weights import WeightFile
from kohyakit.registry.families import MODELS

ENTRY = MODELS["sd1"]

UNET: dict[str, Any] = {
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (320, 640, 1280, 1280),
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    "layers_per_block": 2,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
    "norm_num_groups": 32,
    "sample_size": 64,
}
VAE: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
    "norm_num_groups": 32,
    "sample_size": 512,
    "scaling_factor": ENTRY.latent.scale,
}
TEXT: dict[str, Any] = {
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "projection_dim": 768,
}


def heads_of(hidden_size: int) -> int:
    """Attention heads of a CLIP text encoder, which no tensor's shape tells.

    Heads are 64 wide in every published one; a miniature too narrow for that is taken to have heads of 8.
    """
    return hidden_size // 64 if hidden_size % 64 == 0 else max(1, hidden_size // 8)


def text_config(weights: WeightFile) -> dict[str, Any]:
    """The text encoder's configuration, read from the shapes in a single file (below its prefix)."""
    vocabulary, hidden = weights.shape("text_model.embeddings.token_embedding.weight")
    layers = {key.split(".")[3] for key in weights if key.startswith("text_model.encoder.layers.")}
    return TEXT | {
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "projection_dim": hidden,
        "intermediate_size": weights.shape("text_model.encoder.layers.0.mlp.fc1.weight")[0],
        "num_hidden_layers": len(layers),
        "num_attention_heads": heads_of(hidden),
        "max_position_embeddings": weights.shape("text_model.embeddings.position_embedding.weight")[0],
    }


SD1 = StableDiffusion(
    name="sd1",
    texts=(TextKind(ENTRY.texts[0], TEXT, EOS, text_config, Origin),),
    unet=UNET,
    vae=VAE,
    heads=lambda channels: 8,
)

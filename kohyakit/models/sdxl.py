"""Stable Diffusion XL: two text encoders (1 is CLIP ViT-L/14, 2 OpenCLIP ViT-bigG/14), sizes as conditions.

Both encoders give the state before their last layer without the final norm; the second also a pooled one. The U-Net
has three levels, and its layers go into a LoRA under the original (SAI) names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from kohyakit.config.sections.model import ModelConfig
from kohyakit.dataset.captions.tokens import EOS
from kohyakit.models import sd2
from kohyakit.models.base import Model
from kohyakit.models.conditioning import Conditioning, joined_states, tokenize
from kohyakit.models.kinds import TextKind
from kohyakit.models.parts import Origin
from kohyakit.models.sd1 import TEXT, UNET, VAE, text_config
from kohyakit.models.stable_diffusion import StableDiffusion
from kohyakit.models.weights import WeightFile
from kohyakit.registry.families import MODELS

ENTRY = MODELS["sdxl"]

TEXT_2: dict[str, Any] = TEXT | {
    "hidden_size": 1280,
    "projection_dim": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "hidden_act": "gelu",
}
_STATES = (11, -2)  # hidden state of encoder 1 counted from the front, of 2 from the back


def text_config_2(weights: WeightFile) -> dict[str, Any]:
    """The second text encoder's configuration, read from the shapes in a single file (below its prefix)."""
    return sd2.openclip_config(weights, TEXT_2) | {"projection_dim": weights.shape("text_projection")[1]}


def text_origin_2(key: str) -> Origin:
    """Our name of a tensor of the second text encoder -> OpenCLIP's."""
    return Origin("text_projection", transposed=True) if key == "text_projection.weight" else sd2.text_origin(key)


class StableDiffusionXL(StableDiffusion):
    """Where it differs: what conditions it."""

    __slots__ = ()

    def condition(
        self, model: Model, captions: Sequence[str], asked: ModelConfig, sizes: Tensor | None
    ) -> Conditioning:
        """clip_skip is not looked at, as in sd-scripts. Long captions: the pooled state is their first chunk's."""
        return self._encode(model, captions, asked, sizes, weighted=asked.weighted_captions)

    def condition_sample(
        self, model: Model, prompts: Sequence[str], asked: ModelConfig, size: tuple[int, int]
    ) -> Conditioning:
        """As captions of uncropped pictures of that size, cut at max_token_length; `(tag:1.3)` always counts."""
        width, height = size
        sizes = torch.tensor([[height, width, 0, 0, height, width]] * len(prompts))
        return self._encode(model, prompts, asked, sizes, weighted=True)

    def _encode(
        self, model: Model, captions: Sequence[str], asked: ModelConfig, sizes: Tensor | None, *, weighted: bool
    ) -> Conditioning:
        states: list[Tensor] = []
        for encoder, kind, layer in zip(model.text_encoders, self.texts, _STATES, strict=True):
            tokens = tokenize(captions, asked.max_token_length, weighted=weighted, pad_token_id=kind.pad_token_id)
            ids = tokens.input_ids.to(encoder.device)
            rows, last = encoder.hidden_states(ids.flatten(0, 1), layer)
            states.append(joined_states(rows.unflatten(0, ids.shape[:2]), tokens.weights))
        first = last.unflatten(0, ids.shape[:2])[:, 0]
        return Conditioning(torch.cat(states, dim=-1), encoder.pooled(first, ids[:, 0]), sizes)

    def predict(self, model: Model, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        added = {"text_embeds": conditioning.pooled, "time_ids": conditioning.sizes}
        return model.unet(noisy, timesteps, conditioning.states, added_cond_kwargs=added).sample


SDXL = StableDiffusionXL(
    name="sdxl",
    texts=(
        TextKind(ENTRY.texts[0], TEXT, EOS, text_config, Origin),
        TextKind(ENTRY.texts[1], TEXT_2, 0, text_config_2, text_origin_2),
    ),
    unet=UNET
    | {
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D",) + ("CrossAttnDownBlock2D",) * 2,
        "up_block_types": ("CrossAttnUpBlock2D",) * 2 + ("UpBlock2D",),
        "cross_attention_dim": 2048,
        "attention_head_dim": [5, 10, 20],
        "transformer_layers_per_block": [1, 2, 10],
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
        "sample_size": 128,
    },
    vae=VAE | {"scaling_factor": ENTRY.latent.scale, "sample_size": 1024},
    heads=sd2.heads_64_wide,
    drawn_when_built=False,
)

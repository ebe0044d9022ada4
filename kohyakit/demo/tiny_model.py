"""A Stable Diffusion 1.x in miniature with random weights: every part is there, and it trains on a CPU in seconds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from kohyakit.resources import clip_vocabulary

UNET = {
    "sample_size": 64,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (16, 32, 32, 32),
    "layers_per_block": 2,
    "cross_attention_dim": 32,
    "attention_head_dim": 8,
    "norm_num_groups": 8,
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
}
VAE = {
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 4,
    "block_out_channels": (8, 16, 16, 16),
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "sample_size": 512,
    "scaling_factor": 0.18215,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
}
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "projection_dim": 32,
    "max_position_embeddings": 77,
    "vocab_size": 49408,
    "hidden_act": "quick_gelu",
}


def write_tiny_model(folder: Path, seed: int = 0, *, layers: int = 2) -> Path:
    """Write the model as a diffusers folder (about 12 MB); the same weights for the same seed.

    layers: in each block of the U-Net, 2 in the true model; with 1 a step takes two thirds of the time.
    """
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        text: dict[str, Any] = dict(TEXT)
        parts: dict[str, Any] = {
            "unet": UNet2DConditionModel(**{**UNET, "layers_per_block": layers}),
            "vae": AutoencoderKL(**VAE),
            "text_encoder": CLIPTextModel(CLIPTextConfig(**text)),
        }
    for name, part in parts.items():
        part.save_pretrained(folder / name)
    write_frame(folder)
    name_as_published(folder / "text_encoder" / "model.safetensors")
    return folder


def name_as_published(file: Path) -> None:
    """Give a text encoder's weights the names that every published Stable Diffusion has.

    transformers 5 reads them, but writes them without the level `text_model`, and transformers 4, which sd-scripts
    asks for, takes such a file for one that holds none of the weights: it goes on with random ones.
    """
    from safetensors.torch import load, save_file

    weights = load(file.read_bytes())  # not mapped into memory: Windows writes over no file that is
    if not any(name.startswith("text_model.") for name in weights):
        save_file({f"text_model.{name}": weight for name, weight in weights.items()}, file, {"format": "pt"})


def write_frame(folder: Path) -> None:
    """What a diffusers folder holds besides weights: the noise schedule, CLIP's vocabulary, the list of parts."""
    from diffusers import DDPMScheduler

    noise = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    scheduler: Any = DDPMScheduler(**noise, steps_offset=1, clip_sample=False)
    scheduler.save_pretrained(folder / "scheduler")
    tokenizer = folder / "tokenizer"
    tokenizer.mkdir(parents=True, exist_ok=True)
    for name in ("vocab.json", "merges.txt"):
        shutil.copyfile(clip_vocabulary() / name, tokenizer / name)
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "pad_token": "<|endoftext|>"}
    (tokenizer / "tokenizer_config.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")
    index = {
        "_class_name": "StableDiffusionPipeline",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", "DDPMScheduler"],
        "safety_checker": [None, None],
        "feature_extractor": [None, None],
        "requires_safety_checker": False,
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2), encoding="utf-8")

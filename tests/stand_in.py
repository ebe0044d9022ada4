"""A base model that is whole by its names and sizes and holds nothing but zeros: what `check` looks at."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kohyakit.planning.inputs import model_tensors
from kohyakit.planning.size import architecture
from kohyakit.planning.size.architecture import TextShape, UNetShape, VaeShape

TEXT = {"num_hidden_layers": 3, "hidden_size": 32, "intermediate_size": 64}
VAE = {"block_out_channels": [16, 16, 16, 16], "layers_per_block": 1, "latent_channels": 4, "norm_num_groups": 8}
UNET = {
    "block_out_channels": [16, 32, 32, 32], "cross_attention_dim": 32, "layers_per_block": 2, "in_channels": 4,
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"], "attention_head_dim": 8,
    "use_linear_projection": False, "norm_num_groups": 8,
}  # fmt: skip
SDXL = {
    "block_out_channels": [16, 32, 64], "transformer_layers_per_block": [1, 2, 2], "cross_attention_dim": 64,
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "attention_head_dim": [2, 4, 8], "use_linear_projection": True, "addition_embed_type": "text_time",
    "projection_class_embeddings_input_dim": 80,
}  # fmt: skip
SD2 = {"attention_head_dim": [2, 4, 4, 4], "use_linear_projection": True}

Shapes = Mapping[str, tuple[int, ...]]


def safetensors(path: Path, shapes: Shapes, metadata: Mapping[str, str] | None = None) -> Path:
    """A .safetensors file of float16 zeros; the zeros are a hole in the file."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    at = 0
    for name, shape in shapes.items():
        end = at + 2 * math.prod(shape)
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + at)
    return path


def folder(path: Path, index: str = "StableDiffusionPipeline", **unet: object) -> Path:
    """A diffusers folder of a small Stable Diffusion; `unet` replaces entries of the U-Net's config."""
    return _folder(path, index, {**UNET, **unet}, {"text_encoder": TEXT})


def sdxl_folder(path: Path, layers: int = 12) -> Path:
    """The same of SDXL. layers: of the first text encoder."""
    texts = {"text_encoder": {**TEXT, "num_hidden_layers": layers}, "text_encoder_2": TEXT}
    return _folder(path, "StableDiffusionXLPipeline", {**UNET, **SDXL}, texts)


def _folder(path: Path, index: str, unet: dict[str, Any], texts: dict[str, dict[str, Any]]) -> Path:
    for part, config in {"unet": unet, **texts, "vae": VAE}.items():
        (path / part).mkdir(parents=True)
        (path / part / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (path / "model_index.json").write_text(json.dumps({"_class_name": index}), encoding="utf-8")
    weights = {
        "unet/diffusion_pytorch_model": model_tensors.unet_tensors(architecture.unet_of_config(unet)),
        "vae/diffusion_pytorch_model": model_tensors.vae_tensors(architecture.vae_of_config(VAE)),
    }
    for part, config in texts.items():
        shape = TextShape(config["num_hidden_layers"], config["hidden_size"], config["intermediate_size"])
        weights[f"{part}/model"] = model_tensors.text_tensors(shape, projection=part == "text_encoder_2")
    for part, wanted in weights.items():
        safetensors(path / f"{part}.safetensors", {name: held or (77, 32) for name, held in wanted})
    return path


def single_file_shapes(*, sd2: bool = False, inputs: int = 4) -> dict[str, tuple[int, ...]]:
    """The names and sizes of a small checkpoint in the original layout, SD 1.x or 2.x."""
    unet = UNetShape((16, 32, 32, 32), (1, 1, 1, 0), 32, sd2, inputs=inputs)
    text, vae = TextShape(3, 32, 64), VaeShape((16, 16, 16, 16), 1)
    if sd2:
        texts = {f"cond_stage_model.model.{name}": held for name, held in model_tensors.open_clip_tensors(text)}
        texts |= {  # OpenCLIP's last layer, which is left out
            name.replace("resblocks.2", "resblocks.3"): held for name, held in texts.items() if "resblocks.2" in name
        }
    else:
        texts = {f"cond_stage_model.transformer.{name}": held for name, held in model_tensors.text_tensors(text)}
    units = {f"{architecture.UNET}{name}": held for name, held in model_tensors.original_unet(unet)}
    vaes = {f"{architecture.VAE}{name}": held for name, held in model_tensors.original_vae(vae)}
    return {name: held or (77, 32) for name, held in (units | texts | vaes).items()}

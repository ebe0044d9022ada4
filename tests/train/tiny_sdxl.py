"""A Stable Diffusion XL in miniature with random weights, as a diffusers folder and as a single file."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from kohyakit.demo.tiny_model import TEXT, UNET, VAE
from kohyakit.resources import clip_vocabulary

TINY_UNET = UNET | {
    "block_out_channels": (16, 32, 64),
    "down_block_types": ("DownBlock2D",) + ("CrossAttnDownBlock2D",) * 2,
    "up_block_types": ("CrossAttnUpBlock2D",) * 2 + ("UpBlock2D",),
    "cross_attention_dim": 56,
    "attention_head_dim": [2, 4, 8],
    "transformer_layers_per_block": [1, 1, 2],
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 32 + 6 * 256,
}
_TEXT_1 = TEXT | {"hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 12, "num_attention_heads": 3}
_TEXT_2 = TEXT | {"num_hidden_layers": 4, "hidden_act": "gelu", "eos_token_id": 49407, "bos_token_id": 49406}


def write_tiny_sdxl(folder: Path, seed: int = 0) -> Path:
    """Write the model as a diffusers folder; the same weights for the same seed."""
    from diffusers import AutoencoderKL, EulerDiscreteScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts = {
            "unet": UNet2DConditionModel(**TINY_UNET),
            "vae": AutoencoderKL(**VAE | {"scaling_factor": 0.13025}),
            "text_encoder": CLIPTextModel(CLIPTextConfig(**_TEXT_1)),
            "text_encoder_2": CLIPTextModelWithProjection(CLIPTextConfig(**_TEXT_2)),
        }
    for name, part in parts.items():
        part.save_pretrained(folder / name)
    EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear").save_pretrained(
        folder / "scheduler"
    )
    for name, pad in (("tokenizer", "<|endoftext|>"), ("tokenizer_2", "!")):
        (folder / name).mkdir(exist_ok=True)
        for file in ("vocab.json", "merges.txt"):
            shutil.copyfile(clip_vocabulary() / file, folder / name / file)
        settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "pad_token": pad}
        (folder / name / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    kinds = {
        name: ["transformers" if "text" in name else "diffusers", type(part).__name__] for name, part in parts.items()
    }
    index = {
        "_class_name": "StableDiffusionXLPipeline",
        **kinds,
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "tokenizer_2": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", "EulerDiscreteScheduler"],
    }
    (folder / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder


def write_single_file(folder: Path, file: Path, **marks: torch.Tensor) -> Path:
    """The same model in the original layout, by renaming text and tensors here and not with kohyakit's rules.

    marks: further tensors, such as an empty `v_pred`.
    """
    state = dict(marks)
    for name, tensor in load_file(folder / "unet/diffusion_pytorch_model.safetensors").items():
        state["model.diffusion_model." + _sgm(name)] = tensor
    for name, tensor in load_file(folder / "vae/diffusion_pytorch_model.safetensors").items():
        state["first_stage_model." + _ldm_vae(name)] = tensor
    for name, tensor in load_file(folder / "text_encoder/model.safetensors").items():
        if not name.startswith("text_model."):
            name = f"text_model.{name}"
        state["conditioner.embedders.0.transformer." + name] = tensor
    state |= _openclip(load_file(folder / "text_encoder_2/model.safetensors"))
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, file)
    return file


_RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
    "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}  # fmt: skip
_ENDS = {
    "conv_in": "input_blocks.0.0", "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2", "conv_norm_out": "out.0",
    "conv_out": "out.2", "mid_block.resnets.0": "middle_block.0", "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
    "down_blocks.0.downsamplers.0.conv": "input_blocks.3.0.op",
    "down_blocks.1.downsamplers.0.conv": "input_blocks.6.0.op",
    "up_blocks.0.upsamplers.0.conv": "output_blocks.2.2.conv",
    "up_blocks.1.upsamplers.0.conv": "output_blocks.5.2.conv",
}  # fmt: skip
_PLACES = _ENDS | {
    f"down_blocks.{level}.{part}.{place}": f"input_blocks.{3 * level + place + 1}.{number}"
    for level in range(3) for place in range(2) for number, part in enumerate(("resnets", "attentions"))
} | {
    f"up_blocks.{level}.{part}.{place}": f"output_blocks.{3 * level + place}.{number}"
    for level in range(3) for place in range(3) for number, part in enumerate(("resnets", "attentions"))
}  # fmt: skip


def _sgm(name: str) -> str:
    start = max((place for place in _PLACES if name.startswith(f"{place}.")), key=len)
    inner = name.removeprefix(f"{start}.")
    for ours, theirs in _RESNET.items():
        if "resnets" in start and inner.startswith(f"{ours}."):
            inner = inner.replace(ours, theirs, 1)
            break
    return f"{_PLACES[start]}.{inner}"


def _ldm_vae(name: str) -> str:
    name = re.sub(r"down_blocks\.(\d)", r"down.\1", name)
    name = re.sub(r"up_blocks\.(\d)", lambda match: f"up.{3 - int(match[1])}", name)
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda match: f"mid.block_{int(match[1]) + 1}", name)
    for ours, theirs in (
        ("mid_block.attentions.0.group_norm", "mid.attn_1.norm"),
        ("mid_block.attentions.0.to_out.0", "mid.attn_1.proj_out"),
        ("mid_block.attentions.0.to_", "mid.attn_1."), (".resnets.", ".block."), ("samplers.0.", "sample."),
        ("conv_shortcut", "nin_shortcut"), ("conv_norm_out", "norm_out"),
    ):  # fmt: skip
        name = name.replace(ours, theirs)
    return name


def _openclip(text: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    text = {name.removeprefix("text_model."): tensor for name, tensor in text.items()}
    new = {
        "token_embedding.weight": text["embeddings.token_embedding.weight"],
        "positional_embedding": text["embeddings.position_embedding.weight"],
        "ln_final.weight": text["final_layer_norm.weight"],
        "ln_final.bias": text["final_layer_norm.bias"],
        "text_projection": text["text_projection.weight"].T,
        "logit_scale": torch.tensor(4.6),
    }
    for layer in {int(match[1]) for name in text if (match := re.match(r"encoder\.layers\.(\d+)\.", name))}:
        here, there = f"transformer.resblocks.{layer}", f"encoder.layers.{layer}"
        for kind in ("weight", "bias"):
            projections = [text[f"{there}.self_attn.{x}_proj.{kind}"] for x in "qkv"]
            new[f"{here}.attn.in_proj_{kind}"] = torch.cat(projections)
            new[f"{here}.attn.out_proj.{kind}"] = text[f"{there}.self_attn.out_proj.{kind}"]
            for ours, theirs in (("ln_1", "layer_norm1"), ("ln_2", "layer_norm2"), ("mlp.c_fc", "mlp.fc1"),
                                 ("mlp.c_proj", "mlp.fc2")):  # fmt: skip
                new[f"{here}.{ours}.{kind}"] = text[f"{there}.{theirs}.{kind}"]
    return {f"conditioner.embedders.1.model.{name}": tensor for name, tensor in new.items()}

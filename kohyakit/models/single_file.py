"""One-file checkpoints in the original (LDM) layout: the architecture from the shapes, the names by rule."""

from __future__ import annotations

import re
from functools import reduce
from math import gcd
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kohyakit.errors import ConfigError, Problem
from kohyakit.formats.weights import model_kind
from kohyakit.models.folder import fill_vae
from kohyakit.models.kinds import Kind, TextKind, check_kind
from kohyakit.models.parts import Origin, fill, meta_text, meta_unet, meta_vae
from kohyakit.models.text import TextEncoder
from kohyakit.models.weights import WeightFile, missing_tensors
from kohyakit.planning.inputs.original_names import unet_origin, vae_origin
from kohyakit.planning.size.architecture import unet_of_shapes

UNET_PREFIX = "model.diffusion_model."
VAE_PREFIX = "first_stage_model."


def read(
    path: Path, family: Kind, *, dtype: torch.dtype | None, mmap: bool, with_vae: bool
) -> tuple[nn.Module, tuple[TextEncoder, ...], nn.Module | None]:
    """U-Net, text encoders and VAE (None without with_vae) of a checkpoint. Raises ConfigError."""
    weights = WeightFile(path, mmap=mmap)
    shapes = {key: weights.shape(key) for key in weights}
    check_kind(path, model_kind.of_tensors(shapes), family)
    unet = read_unet(path, weights.strip(UNET_PREFIX), family, dtype)
    texts = tuple(read_text(path, _text_weights(weights, kind), kind, dtype) for kind in family.texts)
    vae = _vae(path, weights.strip(VAE_PREFIX), family.vae, dtype) if with_vae else None
    return unet, texts, vae


def read_vae(path: Path, usual: dict[str, Any], *, dtype: torch.dtype | None, mmap: bool) -> nn.Module:
    """A VAE from its own file (original or diffusers names) or out of a full checkpoint. Raises ConfigError.

    usual: what no tensor's shape tells.
    """
    weights = WeightFile(path, mmap=mmap)
    if any(key.startswith(VAE_PREFIX) for key in weights):
        weights = weights.strip(VAE_PREFIX)
    if "encoder.conv_in.weight" not in weights or "decoder.conv_in.weight" not in weights:
        what = "holds no VAE (no tensor encoder.conv_in.weight)"
        raise ConfigError(Problem(str(path), what, "give a VAE file or folder as vae, or leave vae out", "wrong_model"))
    return _vae(path, weights, usual, dtype)


def notes(path: Path, prediction_type: str) -> tuple[Problem, ...]:
    """What an empty tensor, by which some checkpoints mark their way of predicting, says against the options given."""
    if path.suffix.lower() != ".safetensors" or prediction_type == "v_prediction":
        return ()
    if "v_pred" not in WeightFile(path):
        return ()
    what = "carries the mark of a v-prediction model, but the training would teach it 'epsilon'"
    return (Problem(str(path), what, "switch v_parameterization on", "prediction_type", "warning"),)


# --- U-Net ---------------------------------------------------------------------------------------


def unet_config(weights: WeightFile, family: Kind) -> dict[str, Any]:
    """The U-Net's configuration, read from tensor shapes (names below UNET_PREFIX)."""
    shape = unet_of_shapes({key: weights.shape(key) for key in weights})
    crossed = [count > 0 for count in shape.transformers]
    return family.unet | {
        "in_channels": shape.inputs,
        "out_channels": weights.shape("out.2.weight")[0],
        "block_out_channels": shape.channels,
        "down_block_types": tuple("CrossAttnDownBlock2D" if c else "DownBlock2D" for c in crossed),
        "up_block_types": tuple("CrossAttnUpBlock2D" if c else "UpBlock2D" for c in reversed(crossed)),
        "layers_per_block": shape.layers_per_block,
        "cross_attention_dim": shape.context,
        "attention_head_dim": family.heads(shape.channels),
        "norm_num_groups": groups_of(shape.channels),
        "use_linear_projection": shape.linear_projection,
        "transformer_layers_per_block": [max(1, count) for count in shape.transformers],  # as diffusers counts
        **({"projection_class_embeddings_input_dim": shape.added} if shape.added else {}),
    }


def groups_of(channels: tuple[int, ...]) -> int:
    """Groups of the group norms, which no tensor's shape tells.

    32 in every published model; a miniature whose channels do not divide by 32 is taken to have 8 (or fewer).
    """
    common = reduce(gcd, channels)
    return 32 if common % 32 == 0 else gcd(common, 8)


def read_unet(path: Path, weights: WeightFile, family: Kind, dtype: torch.dtype | None) -> nn.Module:
    try:
        config = unet_config(weights, family)
    except (KeyError, IndexError, ValueError) as error:
        raise missing_tensors(path, "U-Net", [str(error).strip("'")]) from error
    unet = meta_unet(config)
    origins = {name: Origin(unet_origin(name, config)) for name in unet.state_dict()}
    return _filled(path, "U-Net", unet, weights, origins, dtype)


# --- text encoder --------------------------------------------------------------------------------


def _text_weights(weights: WeightFile, kind: TextKind) -> WeightFile:
    """A text encoder's tensors; very old checkpoints lack the level `text_model`."""
    text = weights.strip(kind.part.prefix)
    return text.add("text_model.") if "embeddings.token_embedding.weight" in text else text


def read_text(path: Path, weights: WeightFile, kind: TextKind, dtype: torch.dtype | None) -> TextEncoder:
    try:
        config = kind.read_config(weights)
    except (KeyError, ValueError) as error:
        raise missing_tensors(path, "text encoder", [str(error).strip("'")]) from error
    text = meta_text(config, projection=kind.part.projection)
    origins = {name: kind.origin(name) for name in text.state_dict() if not name.endswith("position_ids")}
    return _filled(path, "text encoder", text, weights, origins, dtype)


# --- VAE -----------------------------------------------------------------------------------------


def vae_config(weights: WeightFile, usual: dict[str, Any]) -> dict[str, Any]:
    """The VAE's configuration, read from tensor shapes (original names)."""
    blocks = 1 + max(int(m[1]) for key in weights if (m := re.match(r"encoder\.down\.(\d+)\.", key)))
    layers = len([key for key in weights if re.fullmatch(r"encoder\.down\.0\.block\.\d+\.conv1\.weight", key)])
    channels = tuple(weights.shape(f"encoder.down.{b}.block.0.conv1.weight")[0] for b in range(blocks))
    return usual | {
        "in_channels": weights.shape("encoder.conv_in.weight")[1],
        "out_channels": weights.shape("decoder.conv_out.weight")[0],
        "block_out_channels": channels,
        "down_block_types": ("DownEncoderBlock2D",) * blocks,
        "up_block_types": ("UpDecoderBlock2D",) * blocks,
        "layers_per_block": layers,
        "latent_channels": weights.shape("decoder.conv_in.weight")[1],
        "norm_num_groups": groups_of(channels),
    }


def _vae(path: Path, weights: WeightFile, usual: dict[str, Any], dtype: torch.dtype | None) -> nn.Module:
    if any(key.startswith("encoder.down_blocks.") for key in weights):
        return fill_vae(path, weights, usual, dtype)
    try:
        config = vae_config(weights, usual)
    except (KeyError, ValueError) as error:
        raise missing_tensors(path, "VAE", [str(error).strip("'")]) from error
    vae = meta_vae(config)
    blocks = len(config["block_out_channels"])
    origins = {name: Origin(vae_origin(name, blocks)) for name in vae.state_dict()}
    return _filled(path, "VAE", vae, weights, origins, dtype)


def _filled(
    path: Path, part: str, module: nn.Module, weights: WeightFile, origins: dict[str, Origin], dtype: torch.dtype | None
) -> Any:
    """The module with every tensor taken from its origin. Raises ConfigError naming the ones that are missing."""
    missing = {origin.key for origin in origins.values() if origin.key not in weights}
    if missing:
        raise missing_tensors(path, part, missing)

    try:
        fill(module, lambda name: origins[name].take(weights), dtype)
    except RuntimeError as error:
        what = f"the {part}'s tensors do not fit together ({str(error).splitlines()[0]})"
        raise ConfigError(Problem(str(path), what, "download it again", "broken_weight_file")) from error
    return module

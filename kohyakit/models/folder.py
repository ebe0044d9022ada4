"""Diffusers folders: model_index.json with unet/, text_encoder/ and vae/ beside it, read without the hub."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kohyakit.errors import ConfigError, KohyakitError, Problem
from kohyakit.files import read_text
from kohyakit.formats.weights import model_kind
from kohyakit.formats.weights.model_kind import ModelKind
from kohyakit.formats.weights.part_files import forms, stem
from kohyakit.models.kinds import Kind, TextKind, check_kind
from kohyakit.models.parts import fill, meta_text, meta_unet, meta_vae
from kohyakit.models.text import TextEncoder
from kohyakit.models.weights import WeightFile, missing_tensors

_OLD_VAE = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def read(
    path: Path, family: Kind, *, dtype: torch.dtype | None, mmap: bool, with_vae: bool
) -> tuple[nn.Module, tuple[TextEncoder, ...], nn.Module | None]:
    """U-Net, text encoders and VAE (None without with_vae) of a folder. Raises ConfigError with all problems."""
    if (kind := _kind(path)) is not None:
        check_kind(path, kind, family)
    _check_parts(path, ("unet", *(kind.part.folder for kind in family.texts), *(("vae",) if with_vae else ())))
    unet = meta_unet(_config(path / "unet"))
    _fill(path / "unet", "U-Net", unet, _weights(path / "unet", mmap), dtype)
    texts = tuple(_read_text(path / kind.part.folder, kind, dtype=dtype, mmap=mmap) for kind in family.texts)
    return unet, texts, read_vae(path, family.vae, dtype=dtype, mmap=mmap) if with_vae else None


def _kind(path: Path) -> ModelKind | None:
    """What kind of model it is; None for a folder that is not whole, which `_check_parts` says."""
    try:
        return model_kind.of_folder(path)
    except KohyakitError:
        return None


def _read_text(path: Path, kind: TextKind, *, dtype: torch.dtype | None, mmap: bool) -> TextEncoder:
    encoder = meta_text(_config(path), projection=kind.part.projection)
    text = _weights(path, mmap)
    if not any(key.startswith("text_model.") for key in text):
        text = text.rename(lambda key: key if key.startswith("text_projection.") else f"text_model.{key}")
    _fill(path, "text encoder", encoder, text, dtype)
    return encoder


def read_vae(path: Path, usual: dict[str, Any], *, dtype: torch.dtype | None, mmap: bool) -> nn.Module:
    """A VAE from its own folder or from the vae/ of a whole model. usual: for one without a configuration."""
    place = path / "vae" if (path / "vae").is_dir() else path
    return fill_vae(place, _weights(place, mmap), _config(place) or usual, dtype)


def fill_vae(path: Path, weights: WeightFile, config: dict[str, Any], dtype: torch.dtype | None) -> nn.Module:
    """A VAE with diffusers' names."""
    vae = meta_vae(config)
    _fill(path, "VAE", vae, weights.rename(_new_attention_name), dtype)
    return vae


def _new_attention_name(key: str) -> str:
    """Folders from before diffusers 0.18 name the VAE's attention layers query, key, value, proj_attn."""
    match = re.fullmatch(r"(.*\.attentions\.\d+\.)(query|key|value|proj_attn)(\.(?:weight|bias))", key)
    return f"{match[1]}{_OLD_VAE[match[2]]}{match[3]}" if match else key


def notes(path: Path, prediction_type: str) -> tuple[Problem, ...]:
    """What the folder's own scheduler says against the options given."""
    file = path / "scheduler" / "scheduler_config.json"
    if not file.is_file():
        return ()
    said = _json(file).get("prediction_type", "epsilon")
    if said == prediction_type:
        return ()
    what = f"says the model predicts '{said}', but the training would teach it '{prediction_type}'"
    wanted = "on" if said == "v_prediction" else "off"
    return (Problem(str(file), what, f"switch v_parameterization {wanted}", "prediction_type", "warning"),)


def _check_parts(path: Path, parts: tuple[str, ...]) -> None:
    """Is everything in it? Raises ConfigError."""
    missing = [part for part in parts if not (path / part / "config.json").is_file()]
    if len(missing) == len(parts):
        found = sorted(file.name for pattern in ("*.safetensors", "*.ckpt") for file in path.glob(pattern))
        cure = f"did you mean the file {found[0]} in it?" if found else "give the folder that holds model_index.json"
        raise ConfigError(Problem(str(path), "is a folder, but not a diffusers model", cure, "wrong_model"))
    if missing:
        raise ConfigError(
            Problem(str(path / part / "config.json"), "is missing", "download the model again", "incomplete_model")
            for part in missing
        )


def _config(path: Path) -> dict[str, Any]:
    return _json(path / "config.json")


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(read_text(path))
    except FileNotFoundError:
        cure = "give a folder with config.json and its weights"
        raise ConfigError(Problem(str(path), "is missing", cure, "incomplete_model")) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(Problem(str(path), f"is not JSON ({error})", "download it again", "broken_file")) from None
    return value


def _weights(path: Path, mmap: bool) -> WeightFile:
    """The weights of one part."""
    for name, index in forms(path.name):
        if index and (path / name).is_file():
            shards = sorted(map(str, set(_json(path / name).get("weight_map", {}).values())))
            return WeightFile(*(path / shard for shard in shards), mmap=mmap)
        if (path / name).is_file():
            return WeightFile(path / name, mmap=mmap)
    what = f"holds no weights ({stem(path.name)}.safetensors)"
    raise ConfigError(Problem(str(path), what, "download the model again", "incomplete_model"))


def _fill(path: Path, part: str, module: nn.Module, weights: WeightFile, dtype: torch.dtype | None) -> None:
    missing = [name for name in module.state_dict() if name not in weights]
    if missing:
        raise missing_tensors(path, part, missing)
    try:
        fill(module, weights.tensor, dtype)
    except RuntimeError as error:
        what = f"the {part}'s weights do not fit its config.json ({str(error).splitlines()[0]})"
        raise ConfigError(Problem(str(path), what, "download the model again", "broken_weight_file")) from error

"""What kind of model a file or a diffusers folder is, by its tensors' names and its configs: nothing is loaded."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kohyakit.errors import KohyakitError, Problem
from kohyakit.formats.weights.header import Shapes
from kohyakit.registry.families import MODELS

UNET = "model.diffusion_model."
_LARGEST_CONFIG = 8_000_000  # bytes
_FULL = "give the full checkpoint as the base model"
_INDEX = "give the folder that holds model_index.json"
# What a tensor's name begins with, what such a file is, what to do.
_NO_MODEL = (
    ("conditioner.embedders.", "is a part of a Stable Diffusion XL model without its U-Net", _FULL),
    ("lora_", "is a LoRA, not a base model", "give the model it was trained on, and this file as network_weights"),
    ("lycoris_", "is a LoRA, not a base model", "give the model it was trained on, and this file as network_weights"),
    ("unet.", "is a LoRA, not a base model", "give the model it was trained on"),
    ("control_model.", "is a ControlNet, not a base model", "give the model it was made for"),
    ("emb_params", "is a textual inversion embedding, not a base model", _FULL),
    ("string_to_param", "is a textual inversion embedding, not a base model", _FULL),
    ("down_blocks.", "is the U-Net of a diffusers folder alone", _INDEX),
    ("text_model.", "is the text encoder of a diffusers folder alone", _INDEX),
    ("encoder.", "is a VAE alone", "give it as vae, and a full checkpoint as the base model"),
)


@dataclass(frozen=True, slots=True)
class ModelKind:
    """family: its name in MODELS, or "" for what is none of them.

    what, cure: for what is no base model, or one of no known family; empty else. channels: that the U-Net takes.
    refiner: SDXL's second model, which no trainer takes.
    """

    family: str = ""
    what: str = ""
    cure: str = ""
    channels: int = 4
    refiner: bool = False


def of_tensors(shapes: Shapes) -> ModelKind:
    """The kind of a single file."""
    if any(name.startswith(UNET + "input_blocks.") for name in shapes):
        return _of_checkpoint(shapes)
    family = _transformer(shapes)
    if family:
        return ModelKind(family)
    if any(name.startswith(("double_blocks.", UNET + "double_blocks.")) for name in shapes):
        return ModelKind("", "is a Flux model or a relative of it", "train it with the script of its family")
    for start, what, cure in _NO_MODEL:
        if any(name.startswith(start) for name in shapes):
            return ModelKind("", what, cure)
    return ModelKind("", f"holds no model that is known here (no tensor begins with {UNET}input_blocks)", _FULL)


def _of_checkpoint(shapes: Shapes) -> ModelKind:
    entry = shapes.get(UNET + "input_blocks.0.0.weight", ())
    channels = entry[1] if len(entry) == 4 else 4
    if any(name.startswith("conditioner.embedders.") for name in shapes):
        refiner = not any(name.startswith("conditioner.embedders.1.") for name in shapes) and any(
            name.startswith("conditioner.embedders.0.model.") for name in shapes
        )
        return ModelKind("sdxl", channels=channels, refiner=refiner)
    open_clip = any(name.startswith("cond_stage_model.model.") for name in shapes)
    return ModelKind("sd2" if open_clip else "sd1", channels=channels)


def _transformer(shapes: Shapes) -> str:
    for prefix in (UNET, ""):
        if any(name.startswith(f"{prefix}joint_blocks.") for name in shapes):
            return "sd3"
        if f"{prefix}double_blocks.0.img_attn.norm.key_norm.scale" in shapes:
            return "flux"
        if any(name.startswith(f"{prefix}noise_refiner.") for name in shapes):
            return "lumina"
    return ""


_PIPELINES = {entry.pipeline: name for name, entry in MODELS.items() if entry.pipeline}


def of_folder(path: Path) -> ModelKind:
    """The kind of a diffusers folder. Raises KohyakitError for one that is none, or whose configs do not read."""
    pipeline = str(read_json(path / "model_index.json").get("_class_name", "")) if _has_index(path) else ""
    family = next((family for start, family in _PIPELINES.items() if pipeline.startswith(start)), "")
    if family and family != "sdxl":
        return ModelKind(family)
    if pipeline and not pipeline.startswith("StableDiffusion"):
        return ModelKind("", f"is a model for {pipeline}", "give a Stable Diffusion model")
    if not (path / "unet" / "config.json").is_file():
        _no_folder(path)
    unet = read_json(path / "unet" / "config.json")
    channels = unet.get("in_channels", 4)
    refiner = "text_encoder" not in _folders(path) and "text_encoder_2" in _folders(path)
    if family == "sdxl" or unet.get("addition_embed_type") or "text_encoder_2" in _folders(path):
        return ModelKind("sdxl", channels=channels, refiner=refiner)
    return ModelKind("sd2" if is_sd2(unet) else "sd1", channels=channels)


def is_sd2(unet: dict[str, Any]) -> bool:
    """Stable Diffusion 2.x has as many heads a block as its channels need; 1.x has 8 throughout."""
    return isinstance(unet.get("attention_head_dim", 8), list)


def family_at(place: Any) -> str:
    """The family of a diffusers folder or .safetensors file, "" where that cannot be told soon. Never raises."""
    from kohyakit.formats.weights import header as weight_header

    try:
        path = Path(place)
        if path.is_dir():
            return of_folder(path).family
        return of_tensors(weight_header.read(path).shapes).family if path.suffix == ".safetensors" else ""
    except (KohyakitError, OSError, ValueError, TypeError, AttributeError):
        return ""


def read_json(path: Path) -> dict[str, Any]:
    """A config of a model's folder. Raises KohyakitError."""
    if not path.is_file() or path.stat().st_size > _LARGEST_CONFIG:
        what = "is no config of a model" if path.exists() else "is missing"
        raise KohyakitError(Problem(str(path), what, "download the model again"))
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise KohyakitError(
            Problem(str(path), f"cannot be read ({error.strerror})", "download the model again")
        ) from None
    except ValueError as error:
        raise KohyakitError(Problem(str(path), f"is not JSON ({error})", "download it again")) from None
    if not isinstance(value, dict):
        raise KohyakitError(Problem(str(path), "is no config of a model", "download it again"))
    return value


def _has_index(path: Path) -> bool:
    return (path / "model_index.json").is_file()


def _folders(path: Path) -> set[str]:
    return {name for name in ("text_encoder", "text_encoder_2") if (path / name).is_dir()}


def _no_folder(path: Path) -> None:
    if (path / "unet").is_dir() or _has_index(path):
        missing = str(path / "unet" / "config.json")
        raise KohyakitError(Problem(missing, "is missing", "download the model again"))
    found = sorted(file.name for pattern in ("*.safetensors", "*.ckpt") for file in path.glob(pattern))
    cure = f"did you mean the file {found[0]} in it?" if found else _INDEX
    raise KohyakitError(Problem(str(path), "is a folder, but not a diffusers model", cure))

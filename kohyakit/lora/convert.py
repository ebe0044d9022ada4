"""A LoRA under other programs' names: Kohya's, diffusers', PEFT's. Renamed, and computed only where need be."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kohyakit.errors import ConfigError, Problem
from kohyakit.lora.merge import plain_layer
from kohyakit.networks.weights import file as lora_file
from kohyakit.networks.weights.factors import take_apart_matrix
from kohyakit.networks.weights.file import LoraFile
from kohyakit.networks.weights.updates import method_of
from kohyakit.planning.size.lora_names import PARTS, split_name


@dataclass(frozen=True, slots=True)
class Converted:
    """One layer that had to be computed anew. error: what its rank leaves out, as a share of the update's norm."""

    name: str
    method: str
    rank: int
    error: float


def convert(
    path: Path,
    target: Path,
    to: str,
    *,
    rank: int = 32,
    fold_alpha: bool = False,
    dtype: torch.dtype | None = None,
    overwrite: bool = False,
) -> list[Converted]:
    """Write a LoRA in another layout: kohya or diffusers into a file, peft into a folder with one adapter a part.

    LoHa, LoKr and full layers, which diffusers and PEFT do not load, become plain ones of `rank`. fold_alpha:
    multiply alpha over rank into `up` (for programs that look at no alpha); otherwise it is kept beside the tensors,
    which stay byte for byte. Raises ConfigError for layers that cannot be had without the base model.
    """
    lora_file.check_free(target, overwrite=overwrite)
    found = lora_file.read(path)
    done = [] if to == "kohya" else _flatten(found, rank)
    if fold_alpha:
        for layer in found.layers.values():
            _fold(layer)
    if to == "kohya":
        lora_file.write(target, found, dtype=dtype, overwrite=overwrite)
    elif to == "diffusers":
        _write_diffusers(found, target, dtype)
    else:
        _write_peft(found, target, dtype)
    return done


def _flatten(found: LoraFile, rank: int) -> list[Converted]:
    """Turn every layer into a plain one. Raises ConfigError naming how many cannot be."""
    done, lost = [], []
    for name, layer in found.layers.items():
        method = method_of(layer)
        if method is None or method.update is None:
            lost.append(name)
        elif method.name != "lora":
            parts = take_apart_matrix(method.update(layer))
            cut = parts.cut(rank)
            found.layers[name] = plain_layer(cut)
            done.append(Converted(name, method.name, cut.rank, max(0.0, 1.0 - parts.kept(cut.rank) ** 2) ** 0.5))
    if lost:
        what = f"has {len(lost)} layers that no plain LoRA stands for without the base model (such as {lost[0]})"
        raise ConfigError(Problem(str(found.path), what, "keep it in Kohya's layout", "not_a_sum"))
    return done


def _fold(layer: dict[str, Tensor]) -> None:
    if "lora_down.weight" in layer and "alpha" in layer:
        scale = float(layer.pop("alpha")) / len(layer["lora_down.weight"])
        up = layer["lora_up.weight"]
        layer["lora_up.weight"] = (up.float() * scale).to(up.dtype)


_ENDINGS = {
    "lora_down.weight": "lora_A.weight",
    "lora_up.weight": "lora_B.weight",
    "dora_scale": "lora_magnitude_vector",
}


def _by_part(found: LoraFile) -> dict[str, dict[str, dict[str, Tensor]]]:
    """unet, text_encoder, text_encoder_2 -> path of the layer -> its tensors by Kohya's endings."""
    parts: dict[str, dict[str, dict[str, Tensor]]] = {}
    unknown = []
    for name, layer in found.layers.items():
        place = split_name(name)
        if place is None:
            unknown.append(name)
            continue
        parts.setdefault(PARTS[place[0]], {})[place[1]] = layer
    if unknown:
        what = f"has {len(unknown)} layers of no known model (such as {unknown[0]})"
        cure = "give a LoRA of Stable Diffusion 1.x, 2.x or XL"
        raise ConfigError(Problem(str(found.path), what, cure, "unknown_layer"))
    return parts


def _settings(layers: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Any]:
    """peft's configuration of one part: the commonest rank and alpha, and by layer where they differ.

    Layers are named by the end of their path, as transformers 5 has no level `text_model` and 4 has it.
    """
    layers = {path.removeprefix("text_model."): layer for path, layer in layers.items()}
    ranks = {path: len(layer["lora_down.weight"]) for path, layer in layers.items()}
    alphas = {path: float(layer["alpha"]) if "alpha" in layer else float(ranks[path]) for path, layer in layers.items()}
    rank, alpha = (Counter(values.values()).most_common(1)[0][0] for values in (ranks, alphas))
    return {
        "r": rank,
        "lora_alpha": alpha if alpha % 1 else int(alpha),
        "rank_pattern": {path: own for path, own in ranks.items() if own != rank},
        "alpha_pattern": {path: own for path, own in alphas.items() if own != alpha},
        "target_modules": sorted(layers),
        "use_dora": any("dora_scale" in layer for layer in layers.values()),
        "lora_bias": False,
    }


def _tensors(layers: Mapping[str, Mapping[str, Tensor]], prefix: str) -> dict[str, Tensor]:
    return {
        f"{prefix}{path}.{_ENDINGS[ending]}": tensor
        for path, layer in layers.items()
        for ending, tensor in layer.items()
        if ending in _ENDINGS
    }


def _write_diffusers(found: LoraFile, target: Path, dtype: torch.dtype | None) -> None:
    parts = _by_part(found)
    tensors = {name: tensor for part, layers in parts.items() for name, tensor in _tensors(layers, f"{part}.").items()}
    stored = {f"{part}.{key}": value for part, layers in parts.items() for key, value in _settings(layers).items()}
    metadata = {key: value for key, value in found.metadata.items() if not key.startswith("sshs_")}
    metadata |= {"format": "pt", "lora_adapter_metadata": json.dumps(stored, indent=2, sort_keys=True)}
    lora_file.write_tensors(target, tensors, metadata, dtype=dtype)


def _write_peft(found: LoraFile, target: Path, dtype: torch.dtype | None) -> None:
    from peft import LoraConfig

    for part, layers in _by_part(found).items():
        config = LoraConfig(**_settings(layers))
        folder = target / part
        folder.mkdir(parents=True, exist_ok=True)
        tensors = _tensors(layers, "base_model.model.")
        lora_file.write_tensors(folder / "adapter_model.safetensors", tensors, {"format": "pt"}, dtype=dtype)
        config.save_pretrained(str(folder))

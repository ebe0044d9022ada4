"""A LoRA under other programs' names: Kohya's, diffusers', PEFT's. Renamed, and computed only where need be."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kohyakit.errors import ConfigError, Problem
from kohyakit.lora.merge import plain_layer
from kohyakit.lora.readers import READ, readings
from kohyakit.networks.weights import file as lora_file
from kohyakit.networks.weights import model as whole_model
from kohyakit.networks.weights.factors import take_apart_matrix
from kohyakit.networks.weights.file import LoraFile
from kohyakit.networks.weights.updates import can_be_placed, is_plain, is_sum, method_of, update_of, update_on
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
    base: Path | None = None,
    fold_alpha: bool = False,
    dtype: torch.dtype | None = None,
    overwrite: bool = False,
) -> list[Converted]:
    """Write a LoRA in another layout: kohya, comfy or diffusers into a file, peft into a folder, an adapter a part.

    Layers that the target's programs do not load, or compute otherwise, become plain ones of `rank`: all but LoRA and
    DoRA for diffusers and peft; for comfy, which has Kohya's names, what `readers` says of ComfyUI. base: the model
    that the LoRA is for, on whose weights DoRA, OFT, BOFT, GLoRA, iA3 and T-LoRA are worked out; with it they become
    plain in every layout. fold_alpha: multiply alpha over rank into `up` (for programs that look at no alpha);
    otherwise it is kept beside the tensors, which stay byte for byte. Raises ConfigError for layers that cannot be had.
    """
    lora_file.check_free(target, overwrite=overwrite)
    found = lora_file.read(path)
    weights = whole_model.layers(whole_model.load(base), convolutions=True) if base else {}
    done = _flatten(found, _foreign(found, to, with_base=bool(base)), rank, weights)
    if fold_alpha:
        for layer in found.layers.values():
            _fold(layer)
    if to in ("kohya", "comfy"):
        found.metadata |= _described(done, found)
        lora_file.write(target, found, dtype=dtype, overwrite=overwrite)
    elif to == "diffusers":
        _write_diffusers(found, target, dtype)
    else:
        _write_peft(found, target, dtype)
    return done


def _foreign(found: LoraFile, to: str, *, with_base: bool) -> list[str]:
    """The layers that are to become plain ones."""
    if to == "comfy":
        as_written = replace(found, layout="kohya", spelled={}, alphas_aside=set(), is_adapter=False)
        (reading,) = readings(as_written, _family(found), ["ComfyUI"])
        unread = {name for name, state, _ in reading.verdicts if state != READ}
        return [name for name, layer in found.layers.items() if name in unread and not _is_simple(layer)]
    if to == "kohya" and not with_base:
        return []
    return [name for name, layer in found.layers.items() if not _is_simple(layer, dora=not with_base)]


def _is_simple(layer: Mapping[str, Tensor], *, dora: bool = False) -> bool:
    """Whether it is a LoRA's pair of matrices. dora: with DoRA's sizes too."""
    return is_plain(layer) and "lora_mid.weight" not in layer and (dora or "dora_scale" not in layer)


def _flatten(found: LoraFile, names: Sequence[str], rank: int, weights: Mapping[str, nn.Module]) -> list[Converted]:
    """Turn layers into plain ones. Raises ConfigError naming how many cannot be."""
    done: list[Converted] = []
    layers: lora_file.Layers = {}
    lost = []
    for name, layer in found.layers.items():
        own = name.replace("oft_unet_", "lora_unet_", 1)
        update = _update(name, layer, weights.get(own)) if name in names else None
        if update is None:
            lost += [name] if name in names else []
            layers[name] = layer
            continue
        parts = take_apart_matrix(update)
        cut = parts.cut(rank)
        layers[own] = plain_layer(cut)
        method = method_of(layer)
        error = max(0.0, 1.0 - parts.kept(cut.rank) ** 2) ** 0.5
        done.append(Converted(own, "dora" if "dora_scale" in layer else method.name if method else "", cut.rank, error))
    if lost:
        what = f"has {len(lost)} layers that no plain LoRA stands for without the base model (such as {lost[0]})"
        cure = "name the model with --base" if not weights else "keep it in Kohya's layout"
        raise ConfigError(Problem(str(found.path), what, cure, "not_a_sum"))
    found.layers = layers
    return done


def _update(name: str, layer: Mapping[str, Tensor], module: nn.Module | None) -> Tensor | None:
    """What a layer adds to its weight; None where nothing tells. Raises ConfigError for a weight of another size."""
    if is_sum(layer):
        return update_of(layer)
    if module is None or not can_be_placed(layer):
        return None
    weight = whole_model.weight(module)
    try:
        return update_on(layer, weight, native=name.startswith("oft_unet_"))
    except ValueError:
        what = f"does not fit a weight of {tuple(weight.shape)} of the base model"
        raise ConfigError(Problem(name, what, "give the model that it was trained on", "shapes_differ")) from None


def _family(found: LoraFile) -> str:
    return "sdxl" if found.is_sdxl else ""


def _described(done: Sequence[Converted], found: LoraFile) -> dict[str, str]:
    """What the metadata say of a file in Kohya's layout that has become a plain LoRA."""
    if not done:
        return {}
    dims = {str(len(layer["lora_down.weight"])) for layer in found.layers.values() if "lora_down.weight" in layer}
    dim = dims.pop() if len(dims) == 1 else "Dynamic"
    if not all(is_plain(layer) for layer in found.layers.values()):
        return {}
    return {"ss_network_module": "networks.lora", "ss_network_dim": dim, "ss_network_alpha": "Dynamic",
            "ss_network_args": "{}"}  # fmt: skip


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

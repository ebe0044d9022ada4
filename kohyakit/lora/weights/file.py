"""A LoRA file in memory: its layers under Kohya's names, whatever names it came with."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kohyakit.errors import ConfigError, Problem
from kohyakit.files import read_text
from kohyakit.formats.weights import safetensors_header
from kohyakit.lora.weights.names import PARTS, join_name, split_name
from kohyakit.lora.weights.updates import is_sound
from kohyakit.models.weights import WeightFile
from kohyakit.networks.file import save_lora, to_file_tensors, write_whole

Layers = dict[str, dict[str, Tensor]]

# Endings of other programs -> Kohya's.
_ENDINGS = {
    "lora_A.weight": "lora_down.weight",
    "lora_B.weight": "lora_up.weight",
    "lora_A.default.weight": "lora_down.weight",
    "lora_B.default.weight": "lora_up.weight",
    "lora.down.weight": "lora_down.weight",
    "lora.up.weight": "lora_up.weight",
    "lora_linear_layer.down.weight": "lora_down.weight",
    "lora_linear_layer.up.weight": "lora_up.weight",
    "lora_magnitude_vector": "dora_scale",
    "lora_magnitude_vector.weight": "dora_scale",
    "alpha": "alpha",
}
_KOHYA = ("lora_", "oft_unet_")
_FOREIGN = re.compile(rf"(.+?)\.({'|'.join(map(re.escape, sorted(_ENDINGS, key=len, reverse=True)))})")


def dtype_of(precision: str | None) -> torch.dtype | None:
    """The type that Kohya's words float, fp16 and bf16 stand for; None for None."""
    return {None: None, "float": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[precision]


@dataclass(slots=True)
class LoraFile:
    """layers: Kohya name -> ending (`lora_up.weight`) -> tensor, as the file has it. layout: kohya, diffusers or peft.

    rest: tensors that belong to no layer, such as an embedding bundled with it. spelled: of other layouts, layer ->
    its name and an ending as the file has them. alphas_aside: layers whose alpha stands in a configuration alone.
    is_adapter: it came as PEFT's folders.
    """

    path: Path
    layers: Layers
    metadata: dict[str, str] = field(default_factory=dict)
    layout: str = "kohya"
    rest: dict[str, Tensor] = field(default_factory=dict)
    spelled: dict[str, tuple[str, str]] = field(default_factory=dict)
    alphas_aside: set[str] = field(default_factory=set)
    is_adapter: bool = False

    def tensors(self) -> dict[str, Tensor]:
        """Everything under Kohya's names, as it is written."""
        named = {f"{name}.{ending}": tensor for name, layer in self.layers.items() for ending, tensor in layer.items()}
        return named | self.rest

    @property
    def is_sdxl(self) -> bool:
        return looks_like_sdxl(self.layers)

    @property
    def dtype(self) -> torch.dtype:
        """Of most of its tensors."""
        kinds = [tensor.dtype for layer in self.layers.values() for tensor in layer.values() if tensor.ndim]
        return max(set(kinds), key=kinds.count) if kinds else torch.float32


def looks_like_sdxl(names: Iterable[str]) -> bool:
    """Whether layers belong to SDXL, by their names: two text encoders, or its U-Net's original names."""
    marks = ("lora_te2_", "lora_unet_input_", "lora_unet_output_", "text_encoder_2.")
    return any(name.startswith(marks) for name in names)


def read(path: Path | str, *, broken: bool = False) -> LoraFile:
    """A LoRA of any layout: Kohya's, diffusers' or PEFT's, .safetensors or a pickle opened weights-only.

    A PEFT adapter may be given as its folder. broken: take layers too whose tensors do not fit each other. Raises
    KohyakitError in one sentence for what is none.
    """
    path = Path(path)
    config: dict[str, Any] = {}
    if path.is_dir():
        if parts := [part for part in ("unet", "text_encoder", "text_encoder_2") if (path / part).is_dir()]:
            return _adapters(path, parts)
        config, path = _adapter(path)
    weights = WeightFile(path)
    metadata = dict(safetensors_header.read(path).metadata) if path.suffix.lower() == ".safetensors" else {}
    tensors = {name: weights.tensor(name) for name in weights}
    if any(name.startswith(_KOHYA) for name in tensors):
        layers, rest = _kohya(tensors)
        found = LoraFile(path, layers, metadata, "kohya", rest)
    else:
        found = _foreign(path, tensors, metadata, config or _stored_config(metadata))
    found.is_adapter = bool(config)
    if not found.layers:
        what = "holds no layer of a LoRA"
        raise ConfigError(Problem(str(path), what, "give a LoRA file, of Kohya's, diffusers' or PEFT's", "not_a_lora"))
    if not broken:
        _check_layers(found)
    return found


def _check_layers(found: LoraFile) -> None:
    wrong = [name for name, layer in found.layers.items() if not is_sound(layer)]
    if wrong:
        what = f"has {len(wrong)} layers whose tensors do not fit each other (such as {wrong[0][:80]})"
        cure = "fetch it again; `kohyakit lora check` names them all"
        raise ConfigError(Problem(str(found.path), what, cure, "layers_broken"))


def _adapter(folder: Path) -> tuple[dict[str, Any], Path]:
    """A PEFT adapter's configuration and its weights."""
    try:
        config = json.loads(read_text(folder / "adapter_config.json"))
    except (OSError, ValueError) as error:
        what, cure = "is a folder without a readable adapter_config.json", "give a LoRA file or a PEFT adapter"
        raise ConfigError(Problem(str(folder), what, cure, "not_a_lora")) from error
    names = ("adapter_model.safetensors", "adapter_model.bin")
    return config, next((folder / name for name in names if (folder / name).is_file()), folder / names[0])


def _adapters(folder: Path, parts: list[str]) -> LoraFile:
    """One PEFT adapter for each part of a pipeline."""
    tensors: dict[str, Tensor] = {}
    config: dict[str, Any] = {}
    for part in parts:
        own, path = _adapter(folder / part)
        config |= {f"{part}.{key}": value for key, value in own.items()}
        weights = WeightFile(path)
        tensors |= {f"{part}.{name.removeprefix('base_model.model.')}": weights.tensor(name) for name in weights}
    found = _foreign(folder, tensors, {}, config)
    found.is_adapter = True
    return found


def _kohya(tensors: Mapping[str, Tensor]) -> tuple[Layers, dict[str, Tensor]]:
    layers: Layers = {}
    rest: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        name, dot, ending = key.partition(".")
        if dot and name.startswith(_KOHYA):
            layers.setdefault(name, {})[ending] = tensor
        else:
            rest[key] = tensor
    return layers, rest


def _stored_config(metadata: Mapping[str, str]) -> dict[str, Any]:
    """What diffusers notes of an adapter in the file's metadata."""
    try:
        found = json.loads(metadata.get("lora_adapter_metadata", "{}"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _foreign(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str], config: dict[str, Any]) -> LoraFile:
    names = [name.removeprefix("base_model.model.") for name in tensors]
    sdxl = any(name.startswith("text_encoder_2.") for name in names) or any("add_embedding" in name for name in names)
    sdxl = sdxl or _context(tensors) in (2048, 56)
    found = LoraFile(path, {}, metadata, "peft" if any("lora_A" in name for name in names) else "diffusers")
    for (name, tensor), plain in zip(tensors.items(), names, strict=True):
        match = _FOREIGN.fullmatch(plain.replace(".processor.", ".").replace("_lora.", ".lora."))
        part, dot, layer = match[1].partition(".") if match else ("", "", "")
        if match is None or not dot or part not in ("unet", "text_encoder", "text_encoder_2"):
            found.rest[name] = tensor
            continue
        kohya = join_name(part, layer, sdxl=sdxl)
        found.layers.setdefault(kohya, {})[_ENDINGS[match[2]]] = tensor
        found.spelled[kohya] = (name[: -len(match[2]) - 1], match[2])
    for kohya, layer in found.layers.items():
        if "lora_down.weight" in layer and "alpha" not in layer and (alpha := _alpha(config, kohya)) is not None:
            layer["alpha"] = torch.tensor(float(alpha), dtype=layer["lora_down.weight"].dtype)
            found.alphas_aside.add(kohya)
    return found


def _context(tensors: Mapping[str, Tensor]) -> int:
    """The width of the text states that cross attention takes; 0 where none is adapted."""
    marks = ("attn2.to_k.lora_A.weight", "attn2.to_k.lora.down.weight")
    return next((tensor.shape[1] for name, tensor in tensors.items() if name.endswith(marks)), 0)


def _alpha(config: Mapping[str, Any], name: str) -> Any:
    """lora_alpha of an adapter's configuration, which diffusers stores by part (`unet.lora_alpha`)."""
    prefix, path = split_name(name) or ("", "")
    part, path = PARTS.get(prefix, ""), path.removeprefix("text_model.")
    own = config.get(f"{part}.alpha_pattern", config.get("alpha_pattern"))
    if isinstance(own, dict) and path in own:
        return own[path]
    return config.get(f"{part}.lora_alpha", config.get("lora_alpha"))


def write(path: Path, file: LoraFile, *, dtype: torch.dtype | None = None, overwrite: bool = False) -> int:
    """Write under Kohya's names with true hashes, whole or not at all; returns the bytes.

    dtype of None keeps each tensor's own. Raises ConfigError where a file is there already and may not be replaced.
    """
    check_free(path, overwrite=overwrite)
    metadata = {key: value for key, value in file.metadata.items() if not key.startswith("sshs_")}
    return save_lora(path, file.tensors(), dtype, metadata)


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], *, dtype: torch.dtype | None = None
) -> None:
    """Write tensors as they are named, whole or not at all. Raises RunError naming the file and the cause."""
    from safetensors.torch import save

    write_whole(path, save(to_file_tensors(tensors, dtype), dict(metadata)))


def check_free(path: Path, *, overwrite: bool) -> None:
    """Raises ConfigError where `path` is there already and may not be replaced."""
    if path.exists() and not overwrite:
        raise ConfigError(Problem(str(path), "is there already", "choose another name, or add --overwrite", "exists"))

"""A LoRA file in memory: its layers under Kohya's names, whatever names it came with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kohyakit.errors import ConfigError, Problem
from kohyakit.formats.weights import safetensors_header
from kohyakit.models.weights import WeightFile
from kohyakit.networks.file import save_lora, to_file_tensors, write_whole
from kohyakit.networks.weights.updates import is_sound
from kohyakit.planning.inputs import lora_layout
from kohyakit.planning.size.lora_names import KOHYA, foreign_key, name_in_model

Layers = dict[str, dict[str, Tensor]]


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


def read(path: Path | str, *, broken: bool = False, sdxl: bool | None = None) -> LoraFile:
    """A LoRA of any layout: Kohya's, diffusers' or PEFT's, .safetensors or a pickle opened weights-only.

    A PEFT adapter may be given as its folder, or as a folder with one for each part of a pipeline. broken: take layers
    too whose tensors do not fit each other. sdxl: whether it is for a model of that family; None asks the file.
    Raises KohyakitError in one sentence for what is none.
    """
    path = Path(path)
    found_in = lora_layout.places(path)
    tensors: dict[str, Tensor] = {}
    config: dict[str, Any] = {}
    for place in found_in:
        weights = WeightFile(place.file)
        tensors |= {lora_layout.below_part(name, place.part): weights.tensor(name) for name in weights}
        config |= {f"{place.part}.{key}" if place.part else key: value for key, value in place.config.items()}
    file = path if found_in[0].part else found_in[0].file
    metadata = dict(safetensors_header.read(file).metadata) if file.suffix.lower() == ".safetensors" else {}
    if any(name.startswith(KOHYA) for name in tensors):
        layers, rest = _kohya(tensors, sdxl=sdxl)
        found = LoraFile(file, layers, metadata, "kohya", rest)
    else:
        found = _foreign(file, tensors, metadata, config or lora_layout.stored_config(metadata), sdxl)
    found.is_adapter = bool(config)
    if not found.layers:
        what = "holds no layer of a LoRA"
        raise ConfigError(Problem(str(file), what, "give a LoRA file, of Kohya's, diffusers' or PEFT's", "not_a_lora"))
    if not broken:
        _check_layers(found)
    return found


def _check_layers(found: LoraFile) -> None:
    wrong = [name for name, layer in found.layers.items() if not is_sound(layer)]
    if wrong:
        what = f"has {len(wrong)} layers whose tensors do not fit each other (such as {wrong[0][:80]})"
        cure = "fetch it again; `kohyakit lora check` names them all"
        raise ConfigError(Problem(str(found.path), what, cure, "layers_broken"))


def _kohya(tensors: Mapping[str, Tensor], *, sdxl: bool | None) -> tuple[Layers, dict[str, Tensor]]:
    """Layers and the rest. Only for a model that is known are its layers called as sd-scripts calls them."""
    layers: Layers = {}
    rest: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        name, dot, ending = key.partition(".")
        if dot and name.startswith(KOHYA):
            layers.setdefault(name_in_model(name, sdxl=bool(sdxl)), {})[ending] = tensor
        else:
            rest[key] = tensor
    return layers, rest


def _foreign(
    path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str], config: dict[str, Any], sdxl: bool | None
) -> LoraFile:
    if sdxl is None:
        names = [name.removeprefix("base_model.model.") for name in tensors]
        sdxl = any(name.startswith("text_encoder_2.") or "add_embedding" in name for name in names)
        sdxl = sdxl or _context(tensors) in (2048, 56)
    layout = "peft" if any("lora_A" in name for name in tensors) else "diffusers"
    found = LoraFile(path, {}, metadata, layout)
    for name, tensor in tensors.items():
        key = foreign_key(name, sdxl=sdxl)
        if key is None:
            found.rest[name] = tensor
            continue
        found.layers.setdefault(key.layer, {})[key.ending] = tensor
        found.spelled[key.layer] = (key.stem, key.spelled)
    for kohya, layer in found.layers.items():
        down = layer.get("lora_down.weight")
        if down is None or "alpha" in layer:
            continue
        alpha = lora_layout.alpha_in(config, kohya, down.shape[0])
        if alpha is not None:
            layer["alpha"] = torch.tensor(alpha, dtype=down.dtype)
            found.alphas_aside.add(kohya)
    return found


def _context(tensors: Mapping[str, Tensor]) -> int:
    """The width of the text states that cross attention takes; 0 where none is adapted."""
    marks = ("attn2.to_k.lora_A.weight", "attn2.to_k.lora.down.weight")
    return next((tensor.shape[1] for name, tensor in tensors.items() if name.endswith(marks)), 0)


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

"""A LoRA file of any layout as its header tells it: Kohya's, diffusers', PEFT's, under Kohya's names; without torch."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kohyakit.errors import ConfigError, Problem
from kohyakit.files import read_text
from kohyakit.formats.weights import header as weight_header
from kohyakit.formats.weights import safetensors_header
from kohyakit.formats.weights.header import Shapes
from kohyakit.planning.size.lora_names import KOHYA, PARTS, foreign_key, name_in_model, split_name

DOWN, _ALPHA = ".lora_down.weight", ".alpha"
_FORMATS = {"F32": "<f", "F16": "<e", "F64": "<d"}
_CONFIG = "adapter_config.json"
_ADAPTER = ("adapter_model.safetensors", "adapter_model.bin")
_FOLDERS = ("unet", "text_encoder", "text_encoder_2")


@dataclass(frozen=True, slots=True)
class Place:
    """A file of a LoRA. part: of the pipeline, where an adapter of PEFT is one part's. config: the adapter's own."""

    file: Path
    part: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LoraHeader:
    """shapes: of all tensors under Kohya's names. alphas: by layer, where they can be told. kohya: that is its layout.

    bytes: of all its files.
    """

    shapes: Shapes
    alphas: Mapping[str, float]
    kohya: bool = True
    bytes: int = 0


def places(path: Path) -> list[Place]:
    """The files of a LoRA: itself, or those in a folder of PEFT. Raises KohyakitError for a folder of another kind."""
    if not path.is_dir():
        return [Place(path)]
    if parts := [part for part in _FOLDERS if (path / part).is_dir()]:
        return [_adapter(path / part, part) for part in parts]
    return [_adapter(path, "")]


def _adapter(folder: Path, part: str) -> Place:
    try:
        config = json.loads(read_text(folder / _CONFIG))
        if not isinstance(config, dict):
            raise ValueError(config)
    except (OSError, ValueError, RecursionError) as error:
        what, cure = f"is a folder without a readable {_CONFIG}", "give a LoRA file or a PEFT adapter"
        raise ConfigError(Problem(str(folder), what, cure, "weights_unreadable")) from error
    file = next((folder / name for name in _ADAPTER if (folder / name).is_file()), folder / _ADAPTER[0])
    return Place(file, part, config)


def read(path: Path, *, sdxl: bool) -> LoraHeader:
    """What a LoRA holds, for a model of SDXL or another one. Raises KohyakitError in one sentence."""
    shapes: dict[str, tuple[int, ...]] = {}
    alphas: dict[str, float] = {}
    kohya, size = True, 0
    for place in places(path):
        header = weight_header.read(place.file)
        names = in_kohyas_words(header.shapes, place.part, sdxl=sdxl)
        kohya = kohya and not place.config and any(key.startswith(KOHYA) for key in header.shapes)
        shapes |= {names.get(key, key): shape for key, shape in header.shapes.items()}
        config = place.config or stored_config(header.metadata)
        downs = {name.removesuffix(DOWN): header.shapes[key] for key, name in names.items() if name.endswith(DOWN)}
        told = {layer: alpha_in(config, layer, shape[0]) for layer, shape in downs.items() if len(shape) > 1}
        alphas |= {layer: alpha for layer, alpha in told.items() if alpha is not None}
        alphas |= _alphas(place.file, names)
        size += place.file.stat().st_size
    return LoraHeader(shapes, alphas, kohya, size)


def in_kohyas_words(keys: Iterable[str], part: str = "", *, sdxl: bool) -> dict[str, str]:
    """Key in the file -> Kohya's, for all that belong to a layer."""
    found = {}
    for key in keys:
        if key.startswith(KOHYA) and not part:
            name, dot, ending = key.partition(".")
            if dot:
                found[key] = f"{name_in_model(name, sdxl=sdxl)}.{ending}"
            continue
        foreign = foreign_key(below_part(key, part), sdxl=sdxl)
        if foreign:
            found[key] = f"{foreign.layer}.{foreign.ending}"
    return found


def below_part(key: str, part: str) -> str:
    """A key of one part's adapter, with the part before it."""
    return f"{part}.{key.removeprefix('base_model.model.')}" if part else key


def stored_config(metadata: Mapping[str, str]) -> dict[str, Any]:
    """What diffusers notes of an adapter in the file's metadata."""
    try:
        found = json.loads(metadata.get("lora_adapter_metadata", "{}"))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def alpha_in(config: Mapping[str, Any], name: str, rank: int) -> float | None:
    """lora_alpha of an adapter's configuration, which diffusers stores by part (`unet.lora_alpha`).

    With use_rslora it is divided by the root of the rank, and Kohya's alpha, divided by the rank, is larger for it.
    """
    prefix, path = split_name(name) or ("", "")
    part, path = PARTS.get(prefix, ""), path.removeprefix("text_model.")
    own = config.get(f"{part}.alpha_pattern", config.get("alpha_pattern"))
    found = own[path] if isinstance(own, dict) and path in own else config.get(
        f"{part}.lora_alpha", config.get("lora_alpha")
    )  # fmt: skip
    if not isinstance(found, (int, float)):
        return None
    return found * math.sqrt(rank) if config.get(f"{part}.use_rslora", config.get("use_rslora")) else float(found)


def _alphas(path: Path, names: Mapping[str, str]) -> Iterator[tuple[str, float]]:
    """Layer and number of every `alpha`, read straight from a .safetensors file."""
    if path.suffix.lower() != ".safetensors":
        return
    header = safetensors_header.read(path)
    with path.open("rb") as file:
        for key, name in names.items():
            tensor = header.tensors[key]
            if name.endswith(_ALPHA) and tensor.elements == 1 and tensor.dtype in (*_FORMATS, "BF16"):
                file.seek(header.data_start + tensor.offsets[0])
                raw = file.read(tensor.bytes)
                padded = b"\0\0" + raw if tensor.dtype == "BF16" else raw
                yield name.removesuffix(_ALPHA), struct.unpack(_FORMATS.get(tensor.dtype, "<f"), padded)[0]

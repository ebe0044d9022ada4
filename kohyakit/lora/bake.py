"""LoRAs baked into a base model: a single file or a diffusers folder, written anew in its own layout and precision.

Tensor by tensor from the old file into the new one, so that memory stays at the size of the largest tensor.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from kohyakit import files
from kohyakit.errors import ConfigError, Problem
from kohyakit.formats.weights import model_kind, safetensors_header
from kohyakit.formats.weights.safetensors_header import TensorInfo
from kohyakit.lora.merge import Source, check_sum
from kohyakit.lora.relabel import entries_of, header_bytes
from kohyakit.models.parts import Origin
from kohyakit.models.single_file import UNET_PREFIX, unet_config
from kohyakit.models.stable_diffusion import StableDiffusion
from kohyakit.models.weights import WeightFile
from kohyakit.networks.file import unwritable
from kohyakit.networks.weights import file as lora_file
from kohyakit.networks.weights.updates import can_be_placed, is_sum, update_of, update_on
from kohyakit.planning.inputs.original_names import unet_origin
from kohyakit.planning.size.lora_names import PARTS, split_name
from kohyakit.registry.families import MODELS

_DTYPES = {
    "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "F64": torch.float64,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
}  # fmt: skip
_BLOCK = 1 << 22
_PARTS = ("unet", "text_encoder", "text_encoder_2")

Term = tuple[float, Mapping[str, Tensor]]


@dataclass(frozen=True, slots=True)
class Baked:
    """layers: how many of the LoRAs' went in. missing: those for which the model has no place."""

    layers: int
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Edit:
    """What is added to one tensor of a file, or to a third of it. name: the layer's, for messages."""

    name: str
    origin: Origin
    terms: tuple[Term, ...]


def bake(sources: Sequence[Source], model: Path, target: Path, *, overwrite: bool = False) -> Baked:
    """Write the model with the LoRAs' updates added to its weights, each times its strength.

    model: a .safetensors file in the original layout or a diffusers folder; target becomes the same. What no LoRA
    touches stays byte for byte. DoRA, OFT, BOFT, GLoRA, iA3 and T-LoRA are worked out on the model's own weights,
    as they were before any of the LoRAs. Raises ConfigError for layers that nobody knows, for LoRAs that fit nowhere in
    the model or have other sizes, and where the target is there already; then nothing is written.
    """
    lora_file.check_free(target, overwrite=overwrite and not target.is_dir())
    if target.exists() and target.resolve() == model.resolve():
        raise ConfigError(Problem(str(target), "is the model itself", "choose another name", "exists"))
    files = [lora_file.read(source.path) for source in sources]
    check_sum(sources, files, fits=can_be_placed)
    terms: dict[str, tuple[Term, ...]] = {}
    for source, found in zip(sources, files, strict=True):
        for name, layer in found.layers.items():
            terms[name] = (*terms.get(name, ()), (source.weight(name), layer))
    edits = _in_folder(model, terms) if model.is_dir() else {model: _in_file(model, terms)}
    placed = {edit.name for of_file in edits.values() for edit in of_file}
    missing = tuple(name for name in terms if name not in placed)
    if not placed:
        what = "has a place for none of the LoRAs' layers"
        raise ConfigError(Problem(str(model), what, "give the model family that they were trained on", "wrong_model"))
    made_from = ", ".join([model.stem, *(f"{source.path.stem}:{source.strength:g}" for source in sources)])
    if model.is_dir():
        _write_folder(model, target, edits, made_from)
    else:
        _write_file(model, target, edits[model], made_from)
    return Baked(len(placed), missing)


# --- where the layers lie --------------------------------------------------------------------------


def _in_file(model: Path, terms: Mapping[str, tuple[Term, ...]]) -> list[Edit]:
    _must_be_safetensors(model)
    weights = WeightFile(model)
    family: StableDiffusion = MODELS.load(model_kind.family_at(model) or "sd1")
    try:
        config = unet_config(weights.strip(UNET_PREFIX), family)
    except (KeyError, IndexError, ValueError) as error:
        what = "is no Stable Diffusion checkpoint in the original layout"
        cure = "give a full checkpoint, or a diffusers folder"
        raise ConfigError(Problem(str(model), what, cure, "wrong_model")) from error
    found = []
    for name, own in terms.items():
        origin = _origin_in_file(name, family, config)
        if origin is not None and origin.key not in weights:  # very old checkpoints lack the level text_model
            origin = replace(origin, key=origin.key.replace(".text_model.", ".", 1))
        if origin is not None and origin.key in weights:
            found.append(Edit(name, origin, own))
    return found


def _origin_in_file(name: str, family: StableDiffusion, config: Mapping[str, object]) -> Origin | None:
    prefix, path = split_name(name) or ("", "")
    if PARTS.get(prefix) == "unet":
        if path.startswith(("time_embed.", "label_emb.", "input_blocks.", "out.")):
            return Origin(f"{UNET_PREFIX}{path}.weight")
        try:
            return Origin(UNET_PREFIX + unet_origin(f"{path}.weight", dict(config)))
        except (AttributeError, KeyError, IndexError):
            return None
    kind = next((kind for kind in family.texts if kind.part.lora == prefix), None)
    try:
        origin = kind.origin(f"{path}.weight") if kind else None
    except KeyError:  # a name that no encoder has
        return None
    return replace(origin, key=kind.part.prefix + origin.key) if kind and origin else None


def _in_folder(model: Path, terms: Mapping[str, tuple[Term, ...]]) -> dict[Path, list[Edit]]:
    """Every weight file of every part, variants of other precision too."""
    edits: dict[Path, list[Edit]] = {}
    pickled = [path for part in _PARTS for path in sorted((model / part).glob("*.bin"))]
    for path in pickled:
        _must_be_safetensors(path)
    for part in _PARTS:
        for path in sorted((model / part).glob("*.safetensors")):
            names = safetensors_header.read(path).tensors
            found = [Edit(name, Origin(key), own) for name, own in terms.items()
                     if (key := _key_in_folder(name, part, names))]  # fmt: skip
            if found:
                edits[path] = found
    return edits


def _key_in_folder(name: str, part: str, names: Mapping[str, TensorInfo]) -> str | None:
    prefix, path = split_name(name) or ("", "")
    if PARTS.get(prefix) != part:
        return None
    keys = (f"{path}.weight", f"{path.removeprefix('text_model.')}.weight")
    return next((key for key in keys if key in names), None)


def _must_be_safetensors(path: Path) -> None:
    if path.suffix.lower() != ".safetensors":
        what = "is a pickle, which cannot be written tensor by tensor"
        raise ConfigError(Problem(str(path), what, "save the model as .safetensors first", "not_safetensors"))


# --- writing ---------------------------------------------------------------------------------------


def _write_folder(model: Path, target: Path, edits: Mapping[Path, list[Edit]], made_from: str) -> None:
    skipped = {path.relative_to(model).as_posix() for path in edits}

    def left_out(folder: str, names: list[str]) -> list[str]:
        inner = Path(folder).relative_to(model)
        return [name for name in names if (inner / name).as_posix() in skipped]

    try:
        with files.folder_in_place_of(target) as fresh:
            shutil.copytree(model, fresh, ignore=left_out, dirs_exist_ok=True)
            for path, own in edits.items():
                _write_file(path, fresh / path.relative_to(model), own, made_from)
    except OSError as error:
        raise unwritable(target, error) from error


def _write_file(path: Path, target: Path, edits: Sequence[Edit], made_from: str) -> None:
    header = safetensors_header.read(path)
    metadata = {key: text for key, text in header.metadata.items() if "hash" not in key}
    metadata |= {"modelspec.merged_from": made_from}
    by_key: dict[str, list[Edit]] = {}
    for edit in edits:
        by_key.setdefault(edit.origin.key, []).append(edit)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with path.open("rb") as source, files.writing(target, draft=files.part_of(target)) as out:
            out.write(header_bytes(entries_of(path), metadata))
            for key, info in sorted(header.tensors.items(), key=lambda one: one[1].offsets):
                source.seek(header.data_start + info.offsets[0])
                if key in by_key:
                    out.write(_edited(path, source.read(info.bytes), info, by_key[key]))
                else:
                    for block in _blocks(source, info.bytes):
                        out.write(block)
    except OSError as error:
        raise unwritable(target, error) from error


def _blocks(source: BinaryIO, count: int) -> Iterator[bytes]:
    while count > 0:
        block = source.read(min(_BLOCK, count))
        count -= len(block)
        yield block


def _edited(path: Path, data: bytes, info: TensorInfo, edits: Sequence[Edit]) -> bytes:
    """The tensor's bytes with the updates added in single precision, rounded once."""
    if info.dtype not in _DTYPES:
        what = f"has weights of type {info.dtype}, to which nothing can be added"
        raise ConfigError(Problem(path.name, what, "give the model in float, fp16 or bf16", "wrong_model"))
    weight = torch.frombuffer(bytearray(data), dtype=_DTYPES[info.dtype]).reshape(info.shape).float()
    sums = all(is_sum(layer) for edit in edits for _, layer in edit.terms)
    before = weight if sums else weight.clone()
    for edit in edits:
        place, old = (one if edit.origin.third is None else one.chunk(3)[edit.origin.third] for one in (weight, before))
        for strength, layer in edit.terms:
            update = update_of(layer) if is_sum(layer) else _on(path, edit, layer, old)
            update = update.T if edit.origin.transposed else update
            if update.numel() != place.numel() or update.shape[0] != place.shape[0]:
                what = f"{edit.name} changes a weight of {tuple(update.shape)}, the model has {tuple(place.shape)}"
                raise ConfigError(Problem(path.name, what, "give the model that it was trained on", "shapes_differ"))
            place += strength * update.reshape(place.shape)
    return weight.to(_DTYPES[info.dtype]).contiguous().flatten().view(torch.uint8).numpy().tobytes()


def _on(path: Path, edit: Edit, layer: Mapping[str, Tensor], old: Tensor) -> Tensor:
    """The update of a layer that is worked out on the weight itself, turned as the layer has it."""
    try:
        return update_on(layer, old.T if edit.origin.transposed else old, native=edit.name.startswith("oft_unet_"))
    except ValueError as error:
        what = f"{edit.name} does not fit a weight of {tuple(old.shape)}"
        raise ConfigError(Problem(path.name, what, "give the model that it was trained on", "shapes_differ")) from error

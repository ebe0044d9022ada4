"""The base model against the settings, from headers and configs alone: its kind, its family, what is missing in it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from kohyakit.config.scripts import FAMILIES, FINETUNE_SCRIPTS, LORA_SCRIPTS, SCRIPTS, TI_SCRIPTS
from kohyakit.config.train import TrainConfig
from kohyakit.dataset.images import shown
from kohyakit.errors import KohyakitError, Problem
from kohyakit.formats.weights import header as weight_header
from kohyakit.formats.weights import model_kind
from kohyakit.formats.weights.header import Shapes, WeightHeader, below
from kohyakit.formats.weights.model_kind import ModelKind
from kohyakit.formats.weights.part_files import forms, stem
from kohyakit.planning.inputs import model_tensors
from kohyakit.planning.inputs.model_tensors import Wanted
from kohyakit.planning.size import architecture as arch
from kohyakit.planning.size.architecture import Architecture
from kohyakit.registry.families import MODELS, TextPart, group_of, in_group, is_unet

AGAIN = "take the full model, or download it again"
_SDXL_LAYER = 11  # of the first text encoder, whose state is taken
_UNREADABLE = "name a diffusers folder, or a .safetensors or .ckpt file"
_PREDICTIONS = {"v_prediction": "v_prediction", "v": "v_prediction", "epsilon": "epsilon", "eps": "epsilon"}


def look(config: TrainConfig, path: Path) -> tuple[Architecture | None, tuple[Problem, ...]]:
    """The shape of the model at a path that exists, and what is wrong with it for this training.

    The shape is None where the script's family is none whose layers are known, or where nothing fits.
    """
    where = shown(config.model.pretrained_model_name_or_path or "")
    try:
        header = None if path.is_dir() else weight_header.read(path)
        kind = model_kind.of_folder(path) if header is None else model_kind.of_tensors(header.shapes)
        wrong = _wrong_kind(config, kind, where)
        if wrong is not None:
            return None, (wrong,)
        if not is_unet(FAMILIES.get(config.launch.script, "")):
            return None, ()
        model = arch.read_architecture(path) if header is None else arch.from_shapes(header.shapes)
        problems = [*_missing(config, path, header, model, where), *_settings(config, path, header, model, where)]
    except KohyakitError as error:
        return None, tuple(replace(p, where=where, name="model_unreadable", severity="error") for p in error.problems)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, OSError) as error:
        what = str(error) if isinstance(error, arch.UnknownArchitecture) else "it is not a Stable Diffusion model"
        return None, (Problem(where, what, _UNREADABLE, "model_unreadable"),)
    return model, tuple(problems)


def _wrong_kind(config: TrainConfig, kind: ModelKind, where: str) -> Problem | None:
    """Another kind or family than this training is for, whatever trains it."""
    script, wanted = config.launch.script, FAMILIES.get(config.launch.script, "")
    found = group_of(kind.family)
    if not wanted:
        return None
    if not found:
        foreign = is_unet(wanted) or "not a base model" in kind.what or "alone" in kind.what
        return Problem(where, kind.what, kind.cure, "wrong_model") if foreign else None
    if found != wanted:
        other = _script_for(found, script)
        cure = f"use {other}" if other else "name a model of that family"
        if config.source is not None and config.source.format == "gui-json":
            cure += ", in a preset the box of the model's family" if other else ""
        what = f"is {MODELS[kind.family].a_model}, but {script} trains {MODELS[in_group(wanted)].trained}"
        return Problem(where, what, cure, "model_of_another_family")
    entry = MODELS[kind.family]
    if kind.family != in_group(wanted, v2=config.model.v2):
        what = f"is {entry.a_model}, but v2 is {'on' if config.model.v2 else 'off'}"
        return Problem(where, what, f"set v2 = {str(not config.model.v2).lower()}", "model_of_another_family")
    usual = entry.latent.channels
    if not entry.flow and kind.channels != usual:
        what = f"takes {kind.channels} channels, as inpainting models do; training needs the usual {usual}"
        return Problem(where, what, "give the model that makes whole pictures", "wrong_model")
    if kind.refiner:
        return Problem(where, "is SDXL's refiner, which nothing trains", "give the base model", "wrong_model")
    return None


def _script_for(group: str, script: str) -> str:
    """The script that does for another group of families what this one does."""
    kind = next(kind for kind in (LORA_SCRIPTS, FINETUNE_SCRIPTS, TI_SCRIPTS) if script in kind)
    return next((other for other in SCRIPTS if other in kind and FAMILIES[other] == group), "")


def _settings(
    config: TrainConfig, path: Path, header: WeightHeader | None, model: Architecture, where: str
) -> Iterator[Problem]:
    """What the model says about itself against v_parameterization and clip_skip."""
    said = _prediction(path, header)
    asked = "v_prediction" if config.model.v_parameterization else "epsilon"
    if said and said != asked:
        what = f"says that it predicts '{said}', but the training would teach it '{asked}'"
        cure = f"switch v_parameterization {'on' if said == 'v_prediction' else 'off'}"
        yield Problem(where, what, cure, "prediction_type", "warning")
    if header is not None and "ztsnr" in header.shapes and not config.model.zero_terminal_snr:
        what = "is marked (ztsnr) as taught with a noise schedule of zero terminal SNR, and the training has another"
        yield Problem(where, what, "switch zero_terminal_snr on", "noise_schedule", "warning")
    layers, family = model.text_encoders[0].layers, MODELS[model.family]
    two = len(family.texts) > 1
    if two and (layers < _SDXL_LAYER or model.text_encoders[1].layers < 1):
        what = f"its text encoder has {layers} layers, but {family.short} takes the state after layer {_SDXL_LAYER}"
        yield Problem(where, what, "give a model of this family", "wrong_model")
    skip = config.model.skip
    if not two and skip > layers:
        cure = f"choose 1 to {layers}; 2 is usual for anime models"
        yield Problem("clip_skip", f"is {skip}, but the text encoder has {layers} layers", cure, "clip_skip_too_deep")


def _prediction(path: Path, header: WeightHeader | None) -> str:
    """epsilon or v_prediction as the model's own scheduler or metadata tell; empty where nothing does."""
    if header is not None:
        if "v_pred" in header.shapes:  # a mark that some SDXL checkpoints carry
            return "v_prediction"
        return _PREDICTIONS.get(header.metadata.get("modelspec.prediction_type", ""), "")
    file = path / "scheduler" / "scheduler_config.json"
    if not file.is_file():
        return ""
    return _PREDICTIONS.get(str(model_kind.read_json(file).get("prediction_type", "epsilon")), "")


# --- what is missing -----------------------------------------------------------------------------


def _missing(
    config: TrainConfig, path: Path, header: WeightHeader | None, model: Architecture, where: str
) -> Iterator[Problem]:
    with_vae = not config.model.vae
    if header is not None:
        yield from _missing_in_file(header.shapes, model, where, with_vae=with_vae)
        return
    yield from _groups(path, ("unet", "vae") if with_vae else ("unet",), where)
    yield from compared(where, "U-Net", model_tensors.unet_tensors(model.unet), folder_tensors(path / "unet"))
    for part, shape in zip(MODELS[model.family].texts, model.text_encoders, strict=False):
        wanted = model_tensors.text_tensors(shape, projection=part.projection)
        yield from compared(where, _text(part), wanted, folder_tensors(path / part.folder))
    if with_vae:
        yield from missing_in_vae_folder(path, where)


def _text(part: TextPart) -> str:
    return "second text encoder" if part.folder == "text_encoder_2" else "text encoder"


def _groups(path: Path, parts: Iterable[str], where: str) -> Iterator[Problem]:
    """The norms of a part work in groups of channels, which must come out even."""
    for part in parts:
        config = model_kind.read_json(path / part / "config.json")
        groups = config.get("norm_num_groups", 32)
        if any(width % groups for width in config.get("block_out_channels", ())):
            what = f"{part}/config.json: norm_num_groups {groups} does not divide block_out_channels"
            yield Problem(where, what, "download the model again", "model_unreadable")


def _missing_in_file(shapes: Shapes, model: Architecture, where: str, *, with_vae: bool) -> Iterator[Problem]:
    yield from compared(where, "U-Net", model_tensors.original_unet(model.unet), counted(below(shapes, arch.UNET)))
    for part, shape in zip(MODELS[model.family].texts, model.text_encoders, strict=True):
        held = below(shapes, part.prefix)
        if "embeddings.token_embedding.weight" in held:  # very old checkpoints lack the level `text_model`
            held = {f"text_model.{name}": shape for name, shape in held.items()}
        tensors = model_tensors.open_clip_tensors if part.open_clip else model_tensors.text_tensors
        yield from compared(where, _text(part), tensors(shape, projection=part.projection), counted(held))
    if with_vae:
        yield from missing_in_vae(below(shapes, arch.VAE), where)


def missing_in_vae(shapes: Shapes, where: str) -> Iterator[Problem]:
    """What a VAE's tensors, original names or diffusers', lack."""
    if "encoder.conv_in.weight" not in shapes or "decoder.conv_in.weight" not in shapes:
        what = "holds no VAE (no tensor encoder.conv_in.weight)"
        yield Problem(where, what, "give a VAE file or folder as vae, or another base model", "no_vae")
        return
    try:
        shape = arch.vae_of_shapes(shapes)
    except (KeyError, ValueError, IndexError):
        yield Problem(where, "tensors of the VAE are missing", AGAIN, "incomplete_model")
        return
    diffusers = any(name.startswith("encoder.down_blocks.") for name in shapes)
    wanted = model_tensors.vae_tensors(shape) if diffusers else model_tensors.original_vae(shape)
    yield from compared(where, "VAE", wanted, counted(new_names(shapes)))
    yield from _other_latents(shape.latent, where)


def _other_latents(channels: int, where: str) -> Iterator[Problem]:
    usual = MODELS["sd1"].latent.channels  # and of all that are looked at here
    if channels != usual:
        what = f"is a VAE of {channels} channels, but Stable Diffusion's has {usual}"
        yield Problem(where, what, "give a VAE of the model's own family", "wrong_model")


def missing_in_vae_folder(path: Path, where: str) -> Iterator[Problem]:
    """The same of a diffusers folder: its vae/, or itself. Raises KohyakitError for what does not read."""
    place = path / "vae" if (path / "vae").is_dir() else path
    config = model_kind.read_json(place / "config.json")
    if "block_out_channels" not in config or "cross_attention_dim" in config:
        yield Problem(where, "is no VAE's folder", "name the folder with the VAE's config.json", "no_vae")
        return
    shape = arch.vae_of_config(config)
    yield from compared(where, "VAE", model_tensors.vae_tensors(shape), folder_tensors(place))
    yield from _other_latents(shape.latent, where)


_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def new_names(shapes: Shapes) -> Shapes:
    """Folders from before diffusers 0.18 name the VAE's attention layers query, key, value, proj_attn."""
    found = {}
    for name, shape in shapes.items():
        parent, _, kind = name.rpartition(".")
        before, _, leaf = parent.rpartition(".")
        old = ".attentions." in name and leaf in _OLD_ATTENTION
        found[f"{before}.{_OLD_ATTENTION[leaf]}.{kind}" if old else name] = shape
    return found


def folder_tensors(folder: Path) -> dict[str, int]:
    """The tensors of one part of a diffusers folder, by name, with how many numbers each holds.

    Raises KohyakitError.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for file in _weight_files(folder):
        shapes |= weight_header.read(file).shapes
    if folder.name.startswith("text_encoder") and not any(name.startswith("text_model.") for name in shapes):
        shapes = {name if _projects(name) else f"text_model.{name}": shape for name, shape in shapes.items()}
    return counted(new_names(shapes))


def _projects(name: str) -> bool:
    return name.startswith("text_projection.")


def _weight_files(folder: Path) -> list[Path]:
    for name, index in forms(folder.name):
        if index and (folder / name).is_file():
            parts: Mapping[str, Any] = model_kind.read_json(folder / name).get("weight_map", {})
            return [folder / part for part in sorted(set(map(str, parts.values())))]
        if (folder / name).is_file():
            return [folder / name]
    what = f"{folder.name} holds no weights ({stem(folder.name)}.safetensors)"
    raise KohyakitError(Problem(str(folder), what, "download the model again"))


def counted(shapes: Shapes) -> dict[str, int]:
    return {name: math.prod(shape) for name, shape in shapes.items()}


def compared(where: str, part: str, wanted: Wanted, held: Mapping[str, int]) -> Iterator[Problem]:
    missing, other = model_tensors.lacking(wanted, held)
    if missing:
        names = ", ".join(sorted(missing)[:3]) + (" …" if len(missing) > 3 else "")
        yield Problem(where, f"{len(missing)} tensors of the {part} are missing ({names})", AGAIN, "incomplete_model")
    elif other:
        what = f"{len(other)} tensors of the {part} have another size than the rest of it ({sorted(other)[0]})"
        yield Problem(where, what, "download it again", "incomplete_model")

"""LoRA files that are merged into the base model before a training (`base_weights`), looked at before it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import replace
from pathlib import Path

from kohyakit.config.rules.reading import trains_lora
from kohyakit.config.train import TrainConfig
from kohyakit.dataset.images import shown
from kohyakit.errors import KohyakitError, Problem
from kohyakit.planning.inputs import lora_layout
from kohyakit.planning.inputs.lora_layout import DOWN, LoraHeader
from kohyakit.planning.inputs.missing import exists
from kohyakit.planning.size.architecture import Architecture
from kohyakit.planning.size.held import algorithm
from kohyakit.planning.size.layers import Target, targets
from kohyakit.registry.families import MODELS

_FAMILY = "give a LoRA of the same model family"


def base_weights_problems(config: TrainConfig, model: Architecture | None, backend: str) -> Iterator[Problem]:
    """What keeps a file from being merged. One that is not there is missing_files' finding."""
    if not trains_lora(config):
        return
    for name in config.network.base_weights or ():
        if not exists(name):
            continue
        where = shown(name)
        try:
            header = lora_layout.read(Path(name), sdxl=_is_sdxl(model))
        except KohyakitError as error:
            yield from (replace(p, where=where, name="weights_unreadable", severity="error") for p in error.problems)
            continue
        if backend == "sd-scripts" and (problem := _not_for_sd_scripts(config, where, header)):
            yield problem
        elif model is not None and model.known:
            yield from _fitting(where, header, {target.name: target for target in targets(model)})
    given, strengths = config.network.base_weights or (), config.network.base_weights_multiplier or ()
    if given and len(strengths) > len(given):
        what = f"has {len(strengths)} numbers for {len(given)} files in base_weights"
        yield Problem("base_weights_multiplier", what, "give one for each file", "too_many_multipliers", "warning")


def _is_sdxl(model: Architecture | None) -> bool:
    return model is not None and MODELS[model.family].original_names


def _not_for_sd_scripts(config: TrainConfig, where: str, header: LoraHeader) -> Problem | None:
    """networks.lora merges plain LoRAs under Kohya's names, and stops at anything else."""
    plain = any(key.endswith(DOWN) for key in header.shapes)
    if header.kohya and (plain or config.network.module != "networks.lora"):
        return None
    what = "is no LoRA that sd-scripts merges: it takes plain ones under Kohya's names"
    cure = "train with kohyakit's own trainer, or convert it with `kohyakit lora convert`"
    return Problem(where, what, cure, "weights_of_another_layout")


def _fitting(where: str, header: LoraHeader, layers: Mapping[str, Target]) -> Iterator[Problem]:
    """A LoRA of another model, or layers in it that this one does not have."""
    held = {key.partition(".")[0] for key in header.shapes if "." in key}
    held = {name for name in held if name.startswith(("lora_", "oft_unet_"))}
    missing = sorted(held.difference(layers))
    if not held or len(missing) == len(held):
        yield Problem(where, "holds none of this model's layers", _FAMILY, "weights_of_another_model")
        return
    for key, shape in header.shapes.items():
        target = layers.get(key.removesuffix(DOWN))
        if key.endswith(DOWN) and target is not None and len(shape) > 1 and shape[1] != target.layer.inputs:
            what = f"{key} is {shape}, but this model's layer takes {target.layer.inputs} numbers"
            yield Problem(where, what, _FAMILY, "weights_of_another_model")
            return
    if (problem := _not_merged(where, header, held.intersection(layers))) is not None:
        yield problem
    elif missing:
        what = f"has {len(missing)} layers that this model has not (such as {missing[0]}); they are left out"
        yield Problem(where, what, "", "weights_left_out", "warning")


def _not_merged(where: str, header: LoraHeader, held: Set[str]) -> Problem | None:
    """Layers of a kind that nothing here makes, or whose two matrices are of two ranks."""
    layers: dict[str, dict[str, tuple[int, ...]]] = {}
    for key, shape in header.shapes.items():
        name, _, ending = key.partition(".")
        if name in held:
            layers.setdefault(name, {})[ending] = shape
    for name, tensors in layers.items():
        up, down = tensors.get("lora_up.weight"), tensors.get("lora_down.weight")
        if not algorithm(tensors) or (up is None) != (down is None):
            what = f"has layers of a kind that is not built here (such as {name})"
            return Problem(where, what, "leave it out, or give a LoRA of another kind", "not_built_in")
        if up and down and (len(up) < 2 or up[1] != down[0]):
            what = f"has layers whose tensors do not fit each other (such as {name})"
            return Problem(where, what, "fetch it again; `kohyakit lora check` names them all", "layers_broken")
    return None

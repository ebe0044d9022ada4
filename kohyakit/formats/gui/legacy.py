"""Keys of older presets -> the keys of today's form, those that the GUI itself loses included."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kohyakit.config.train import Note
from kohyakit.formats.gui.fields import Field
from kohyakit.formats.text import shorten

# old key -> today's, and whether the GUI still knows of it
_RENAMED = {
    "lora_network_weights": ("network_weights", True),
    "conv_dims": ("conv_block_dims", False),
    "conv_alphas": ("conv_block_alphas", False),
    "stop_text_encoder_training_pct": ("stop_text_encoder_training", False),
    "generate_caption_database": ("create_caption", False),
    "generate_image_buckets": ("create_buckets", False),
    "sdxl": ("sdxl_checkbox", False),
    "sdxl_checkbox": ("sdxl", False),
}


OLD_KEYS = frozenset({*_RENAMED, "use_8bit_adam", "use_wandb"} - {"sdxl", "sdxl_checkbox"})


def rename_old_keys(preset: Mapping[str, Any], known: Mapping[str, Field]) -> tuple[dict[str, Any], list[Note]]:
    """The preset with today's keys and a note for each that was renamed. known: the tab's fields."""
    new = dict(preset)
    notes: list[Note] = []
    for old, (key, gui_knows) in _RENAMED.items():
        if old not in preset or old in known or key not in known:
            continue
        value = new.pop(old)
        if value in (None, "") or new.get(key) not in (None, "", False, 0):
            notes.append(Note(old, "dropped", f"{key} today; empty" if value in (None, "") else f"{key} is given too"))
            continue
        new[key] = value
        notes.append(Note(old, "mapped", key if gui_knows else f"{key}; the GUI would lose it"))
    if "optimizer" in known and preset.get("optimizer") is None:
        new["optimizer"] = "AdamW8bit" if _yes(preset.get("use_8bit_adam")) else "AdamW"
        origin = "use_8bit_adam" if "use_8bit_adam" in preset else "optimizer"
        notes.append(
            Note(origin, "mapped" if origin == "use_8bit_adam" else "defaulted", f"optimizer = {new['optimizer']}")
        )
    elif "use_8bit_adam" in preset:
        notes.append(Note("use_8bit_adam", "dropped", f"optimizer {shorten(preset.get('optimizer'))} decides"))
    if preset.get("LoRA_type") == "LoCon":
        new["LoRA_type"] = "LyCORIS/LoCon"
        notes.append(Note("LoRA_type", "repaired", "LoCon is LyCORIS/LoCon today"))
    if isinstance(preset.get("xformers"), bool):
        new["xformers"] = "xformers" if preset["xformers"] else "none"
        notes.append(Note("xformers", "repaired", f"a check box once; {new['xformers']} today"))
    if "use_wandb" in preset:
        _wandb(preset, new, notes)
    _file_kind(preset, known, new, notes)
    return new, notes


def _yes(value: Any) -> bool:
    return (
        value is True or value == 1 or (isinstance(value, str) and value.strip().lower() in ("true", "1", "yes", "on"))
    )


def _wandb(preset: Mapping[str, Any], new: dict[str, Any], notes: list[Note]) -> None:
    new.pop("use_wandb")
    if not _yes(preset["use_wandb"]):
        notes.append(Note("use_wandb", "dropped", "off"))
    elif preset.get("log_with") in (None, "", "wandb"):
        new["log_with"] = "wandb"
        lost = "" if preset["use_wandb"] == "True" else "; the GUI would lose it"
        notes.append(Note("use_wandb", "mapped", f"log_with = wandb{lost}"))
    else:
        notes.append(Note("use_wandb", "dropped", f"log_with {shorten(preset['log_with'])} decides"))


def _file_kind(preset: Mapping[str, Any], known: Mapping[str, Field], new: dict[str, Any], notes: list[Note]) -> None:
    """A LoRA or an embedding is saved as safetensors or ckpt; whole-model kinds in such a preset are leftovers."""
    kinds = known["save_model_as"].choices or ()
    given = preset.get("save_model_as")
    if isinstance(given, str) and given and given not in kinds and "diffusers" not in kinds:
        new["save_model_as"] = "safetensors"
        notes.append(Note("save_model_as", "repaired", f"{shorten(given)} is for whole models; safetensors"))

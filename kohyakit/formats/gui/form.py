"""A preset as it stands in the GUI's form after a fresh page has loaded it: old names renamed, gaps filled with the
page's defaults, what the browser and the page's own events do to the values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kohyakit.config.train import Note
from kohyakit.errors import Problem
from kohyakit.formats.gui.fields import Field, fields
from kohyakit.formats.gui.keys import FLAGS
from kohyakit.formats.text import names, shorten

_SDXL_NAMES = frozenset({"stabilityai/stable-diffusion-xl-base-1.0", "stabilityai/stable-diffusion-xl-refiner-1.0"})
_SD2_NAMES = frozenset(
    {
        "stabilityai/stable-diffusion-2-1-base/blob/main/v2-1_512-ema-pruned",
        "stabilityai/stable-diffusion-2-1-base",
        "stabilityai/stable-diffusion-2-base",
    }
)
_SD2_V_NAMES = frozenset(
    {
        "stabilityai/stable-diffusion-2-1/blob/main/v2-1_768-ema-pruned",
        "stabilityai/stable-diffusion-2-1",
        "stabilityai/stable-diffusion-2",
    }
)
_SD1_NAMES = frozenset({"CompVis/stable-diffusion-v1-4", "runwayml/stable-diffusion-v1-5"})

# Old presets: keys read as whole or real numbers, with what unreadable text becomes.
_WHOLE = {
    **dict.fromkeys(
        names("""clip_skip epoch gradient_accumulation_steps keep_tokens lr_warmup max_data_loader_n_workers
            max_train_epochs save_every_n_epochs seed max_train_steps caption_dropout_every_n_epochs"""),
        0,
    ),
    "lr_scheduler_num_cycles": 1,
    "max_token_length": 75,
}
_REAL = {
    **dict.fromkeys(("adaptive_noise_scale", "noise_offset", "learning_rate", "text_encoder_lr", "unet_lr"), 0.0),
    "lr_scheduler_power": 1.0,
}


class GuiStops(Exception):
    """The GUI goes no further; the text says why."""


@dataclass(slots=True)
class Form:
    """A tab's form: every field's value, the families whose boxes are ticked, and what was said on the way.

    refusals: what the form itself would refuse on screen. notes: what the GUI did to the preset.
    """

    tab: str
    values: dict[str, Any]
    families: set[str] = field(default_factory=set)
    refusals: list[Problem] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    def __getitem__(self, key: str) -> Any:
        return self.values[key]


def migrate(preset: Mapping[str, Any]) -> tuple[dict[str, Any], list[Note]]:
    """Old names and loose numbers as the GUI reads them, silent zeros included. Raises GuiStops."""
    new = dict(preset)
    notes: list[Note] = []
    if "optimizer" not in new:
        new["optimizer"] = "AdamW8bit" if new.get("use_8bit_adam") else "AdamW"
        notes.append(Note("optimizer", "repaired", f"not given, so {new['optimizer']} (from use_8bit_adam)"))
    for table, number in ((_WHOLE, int), (_REAL, float)):
        for key, fallback in table.items():
            value = new.get(key)
            if value is None:
                continue
            try:
                new[key] = number(value)
            except ValueError:
                new[key] = number(fallback)
                notes.append(Note(key, "repaired", f"{shorten(value)} is no number to the GUI; it takes {new[key]}"))
            except (TypeError, OverflowError):
                raise GuiStops(f"{key} is {shorten(value)}, at which the GUI's loading fails") from None
    if new.get("LoRA_type", "Standard") == "LoCon":
        new["LoRA_type"] = "LyCORIS/LoCon"
        notes.append(Note("LoRA_type", "repaired", "LoCon is LyCORIS/LoCon now"))
    network = new.get("LoRA_type") or new.get("num_vectors_per_token")
    if "save_model_as" in new and network and new["save_model_as"] not in ("safetensors", "ckpt"):
        notes.append(Note("save_model_as", "repaired", f"{shorten(new['save_model_as'])} is safetensors now"))
        new["save_model_as"] = "safetensors"
    if isinstance(new.get("xformers"), bool):
        new["xformers"] = "xformers" if new["xformers"] else "none"
        notes.append(Note("xformers", "repaired", f"a check box once; {new['xformers']} now"))
    if new.pop("use_wandb", None) == "True":
        new["log_with"] = "wandb"
        notes.append(Note("use_wandb", "mapped", "log_with = wandb"))
    if new.get("lora_network_weights") is not None:
        new["network_weights"] = new.pop("lora_network_weights")
        notes.append(Note("lora_network_weights", "mapped", "network_weights"))
    return new, notes


def open_preset(preset: Mapping[str, Any], tab: str) -> Form:
    """The form after a fresh page has loaded the preset. Raises GuiStops."""
    migrated, notes = migrate(preset)
    form = Form(tab, {}, notes=notes)
    for key, about in fields(tab).items():
        value = migrated.get(key)
        form.values[key] = _through_browser(about, about.default if value is None else value)
    _events(form)
    form.families = {family for family, keys in FLAGS.items() if any(form.values.get(key) for key in keys)}
    form.refusals = [problem for key, about in fields(tab).items() if (problem := _refusal(about, form[key]))]
    return form


def _through_browser(about: Field, value: Any) -> Any:
    """What comes back from the page for a value put into the field: text boxes hold text, 1.0 is 1."""
    if about.kind == "text":
        return value if isinstance(value, str) else str(value)
    if about.kind == "check":
        return bool(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if about.precision == 0 and about.kind in ("number", "slider"):
        try:
            return round(value)
        except (TypeError, ValueError, OverflowError):
            raise GuiStops(f"{about.key} is {shorten(value)}, which its field cannot show") from None
    return value


def _refusal(about: Field, value: Any) -> Problem | None:
    """What the form says on screen to a value out of bounds or off the list."""
    wanted = ""
    if about.kind in ("number", "slider"):
        try:
            if about.minimum is not None and value < about.minimum:
                wanted = f"at least {about.minimum:g}"
            elif about.maximum is not None and value > about.maximum:
                wanted = f"at most {about.maximum:g}"
        except TypeError:
            wanted = "a number"
    elif about.kind == "list" and about.choices is not None and value not in about.choices:
        wanted = "one of " + ", ".join(repr(choice) for choice in about.choices)
    if not wanted:
        return None
    what = f"the GUI's form would refuse {shorten(value)}; it wants {wanted}"
    return Problem(about.key, what, name="gui_refuses", severity="warning")


def _events(form: Form) -> None:
    """What the page's own change events do; an event fires only where the value is not the fresh page's."""
    known = fields(form.tab)

    def changed(key: str) -> bool:
        return key in known and form[key] != _through_browser(known[key], known[key].default)

    def put(key: str, value: Any, why: str) -> None:
        if key in known and form[key] != value:
            form.notes.append(Note(key, "repaired", f"{shorten(form[key])} became {shorten(value)}: {why}"))
            form.values[key] = value

    if changed("pretrained_model_name_or_path"):
        flags = model_flags(form["pretrained_model_name_or_path"])
        for key, value in flags.items():
            put(key, value, "the model's name or contents decide")
    families = ("v2", *(key for keys in FLAGS.values() for key in keys))
    if form.values.get("v_parameterization") and not any(form.values.get(key) for key in families):
        put("v_parameterization", False, "no family is ticked")
    if form.values.get("lr_scheduler") == "constant" and changed("lr_scheduler"):
        put("lr_warmup", 0, "the scheduler is constant")
        put("lr_warmup_steps", 0, "the scheduler is constant")
    if form.values.get("color_aug"):
        put("cache_latents", False, "colour augmentation is on")
    if form.values.get("train_inpainting"):
        put("cache_latents", False, "inpainting is on")
        put("cache_latents_to_disk", False, "inpainting is on")
    if form.tab == "lora" and form["model_type"] == "chroma":
        put("guidance_scale", 0, "the model type is chroma")
        put("apply_t5_attn_mask", True, "the model type is chroma")
        put("timestep_sampling", "sigmoid", "the model type is chroma")


def model_flags(name: Any) -> dict[str, bool]:
    """The family boxes that the GUI sets on a model's name or contents; none where it leaves them alone.

    A `.safetensors` file that is not there would clear the boxes too, but the GUI does not start without it
    either, so the preset's own boxes stand.
    """
    everything = ("v2", "v_parameterization", *(key for keys in FLAGS.values() for key in keys))
    if not isinstance(name, str):
        return {}
    if name in _SDXL_NAMES:
        return dict.fromkeys(everything, False) | {"sdxl": True, "sdxl_checkbox": True}
    if name in _SD2_NAMES:
        return dict.fromkeys(everything, False) | {"v2": True}
    if name in _SD2_V_NAMES:
        return dict.fromkeys(everything, False) | {"v2": True, "v_parameterization": True}
    if name in _SD1_NAMES:
        return dict.fromkeys(everything, False)
    if not name.lower().endswith(".safetensors") or not _is_file(name):
        return {}
    family = _family_of_file(Path(name))
    return {
        key: family == told
        for told, keys in (("v2", ("v2",)), *FLAGS.items())
        if told in ("v2", "sdxl", "sd3", "flux1")
        for key in keys
    }


def _is_file(name: str) -> bool:
    try:
        return Path(name).is_file()
    except (OSError, ValueError):
        return False


def _family_of_file(path: Path) -> str:
    """v2, sdxl, sd3, flux1, or "" for SD 1 and anything else, by the names of the tensors."""
    from kohyakit.errors import KohyakitError
    from kohyakit.formats.weights import safetensors_header

    try:
        names = safetensors_header.read(path).tensors.keys()
    except (KohyakitError, OSError, ValueError):
        return ""
    flux = "double_blocks.0.img_attn.norm.key_norm.scale"
    if "model.diffusion_model.x_embedder.proj.weight" in names:
        return "sd3"
    if flux in names or f"model.diffusion_model.{flux}" in names:
        return "flux1"
    if any(name.startswith("conditioner.") for name in names):
        return "sdxl"
    return "v2" if any(name.startswith("cond_stage_model.model.") for name in names) else ""

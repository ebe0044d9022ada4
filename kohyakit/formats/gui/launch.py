"""Exactly what a fresh session of the kohya_ss GUI hands to sd-scripts for a preset, its faults included.

Facts of GUI 26.0.0, each checked against recordings of the real program. For what a preset *means*, see gui_json.
"""

from __future__ import annotations

import math
import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kohyakit.config.train import Note
from kohyakit.errors import Problem
from kohyakit.formats.gui import keys as gui_keys
from kohyakit.formats.gui.form import Form, GuiStops, open_preset
from kohyakit.formats.gui.network import family_problem, network
from kohyakit.formats.text import shorten

_CONFIG_NAMES = {"lora": "lora", "dreambooth": "dreambooth", "finetune": "finetune", "ti": "textual_inversion"}
_KEY_VALUES = re.compile(r"(\S+=\S+( \S+=\S+)*)?")
_COUNTED = (".jpg", ".jpeg", ".png", ".webp")


@dataclass(frozen=True, slots=True)
class GuiResult:
    """What the GUI hands over: the TOML's keys, the script and the command line.

    toml, script and command are empty where the GUI would not start; then a refusal named `gui_stops` says why.
    Other refusals are values that the form would refuse on screen: the TOML shows what they give all the same.
    """

    tab: str
    toml: Mapping[str, Any]
    script: str
    command: tuple[str, ...]
    refusals: tuple[Problem, ...]
    notes: tuple[Note, ...]


class Folders:
    """Counts images as the GUI does; a folder that is not there holds none."""

    def images(self, folder: str) -> int:
        """Pictures directly in a folder, of the four endings that the GUI knows."""
        try:
            return sum(entry.name.lower().endswith(_COUNTED) for entry in os.scandir(str(folder)))
        except (OSError, ValueError):
            return 0

    def weighted_images(self, parent: str) -> int:
        """Sum over the subfolders of repeats (the number before the first underscore) times pictures."""
        try:
            names = [entry.name for entry in os.scandir(str(parent)) if entry.is_dir()]
        except (OSError, ValueError):
            return 0
        total = 0
        for name in names:
            try:
                total += int(name.split("_")[0]) * self.images(os.path.join(parent, name))
            except ValueError:
                continue
        return total


def as_gui(
    preset: Mapping[str, Any],
    tab: str,
    *,
    folders: Folders | None = None,
    sd_scripts: str = "sd-scripts",
    config: str = "",
) -> GuiResult:
    """The TOML and the command line that a fresh GUI session makes of a preset on a tab.

    folders: who counts the images (the disk). sd_scripts: the folder of the scripts. config: the TOML's path in
    the command; `<output_dir>/config_<tab>.toml` without one (the GUI puts a time into the name).
    """
    try:
        form = open_preset(preset, tab)
        _start_checks(form)
        toml = _toml(form, folders or Folders())
        script = script_of(form)
        path = config or _join(form["output_dir"], f"config_{_CONFIG_NAMES[tab]}.toml")
        command = (
            *_accelerate(form),
            f"{sd_scripts}/{script}",
            "--config_file",
            path,
            *_words(form["additional_parameters"]),
        )
    except GuiStops as stop:
        return _stopped(tab, str(stop))
    except (TypeError, ValueError, OverflowError, ZeroDivisionError, AttributeError) as error:
        return _stopped(tab, f"a value has the wrong type or size, and the GUI fails ({error})")
    return GuiResult(tab, toml, script, command, tuple(form.refusals), tuple(form.notes))


def _stopped(tab: str, why: str) -> GuiResult:
    return GuiResult(tab, {}, "", (), (Problem("", f"the GUI would not start: {why}", name="gui_stops"),), ())


def _start_checks(form: Form) -> None:
    """What the start button checks, paths aside. Raises GuiStops."""
    for key in ("lr_scheduler_args", "optimizer_args"):
        if not _KEY_VALUES.fullmatch(form[key]):
            raise GuiStops(
                f"{key} is {shorten(form[key])}, but name=value pairs with one space between them were wanted"
            )
    if form.tab == "lora":
        if why := family_problem(form["LoRA_type"], form.families):
            raise GuiStops(why)
        if int(form["bucket_reso_steps"]) < 1:
            raise GuiStops(f"bucket_reso_steps is {shorten(form['bucket_reso_steps'])}, but it must be above 0")
        if not 0 <= float(form["noise_offset"]) <= 1:
            raise GuiStops(f"noise_offset is {shorten(form['noise_offset'])}, but it must lie between 0 and 1")
    if "anima" in form.families and form["anima_compile"] and form["anima_torch_compile"]:
        raise GuiStops("both kinds of compiling are ticked for Anima")
    if form.tab == "ti":
        for key in ("token_string", "init_word"):
            if form[key] == "":
                raise GuiStops(f"{key} is missing")


def toml_keys(form: Form, steps: int) -> dict[str, Any]:
    """Every key that the tab makes of its form, empty ones too. steps: the length, 0 where it stays open."""
    tab = form.tab
    found: dict[str, Any] = {gui_keys.RENAMED.get(key, key): form[key] for key in gui_keys.PLAIN[tab]}
    found |= {key: int(form[key]) for key in gui_keys.WHOLE[tab]}
    found |= {key: form[key] if form[key] != 0 else None for key in gui_keys.OFF_AT_ZERO}
    found |= {key: int(form[key]) or None for key in gui_keys.WHOLE_OFF_AT_ZERO}
    found |= {
        "max_train_steps": steps or None,
        "lr_warmup_steps": _warmup(form, steps),
        "max_data_loader_n_workers": _workers(form),
    }
    found |= {key: _by_family(form, key, choices) for key, choices in gui_keys.BY_FAMILY[tab].items()}
    found |= _shared_rules(form) | _noise(form)
    return found | {"lora": _lora, "dreambooth": _dreambooth, "finetune": _finetune, "ti": _ti}[tab](form, steps)


def script_of(form: Form) -> str:
    """The sd-scripts program that the tab starts for the ticked families."""
    return next(name for family, name in gui_keys.SCRIPTS[form.tab].items() if not family or family in form.families)


def _toml(form: Form, folders: Folders) -> dict[str, Any]:
    # The LoRA and TI tabs drop what *equals* "", false or nothing, every 0 with it; the others only those three.
    keep_zero = form.tab in ("dreambooth", "finetune")
    kept = {
        key: value
        for key, value in toml_keys(form, _max_train_steps(form, folders)).items()
        if value is not None
        and value is not False
        and value != ""
        and (keep_zero or isinstance(value, (str, list)) or value != 0)
    }
    kept["max_data_loader_n_workers"] = _workers(form)
    if "flux1" in form.families and form.tab == "lora" and _is_chroma(form):
        kept |= {"apply_t5_attn_mask": True, "guidance_scale": float(form["guidance_scale"])}
    return dict(sorted(kept.items()))


def _workers(form: Form) -> int:
    return int(form["max_data_loader_n_workers"] or 0)


def _is_chroma(form: Form) -> bool:
    return str(form["model_type"] or "").lower() == "chroma"


def _by_family(form: Form, key: str, choices: tuple[tuple[str, str], ...]) -> Any:
    for family, name in choices:
        wanted, _, unless = family.partition("!")
        if (wanted and wanted not in form.families) or (unless and _is_chroma(form)):
            continue
        value = form[name]
        if key in gui_keys.WHOLE_BY_FAMILY or (key == "t5xxl_max_token_length" and form.tab == "lora"):
            return int(value) or (None if key.startswith("gemma2") else 0)
        return float(value) if name in gui_keys.FLOAT_FIELDS[form.tab] else value
    return None


def _shared_rules(form: Form) -> dict[str, Any]:
    """Keys that every tab makes by a rule of its own."""
    families, tab = form.families, form.tab
    transformer = families & {"flux1", "sd3", "anima", "lumina"}
    inpainting = (
        tab != "ti" and form["train_inpainting"] and not families & {"flux1", "sd3", "hunyuan_image", "anima", "lumina"}
    )
    encoder_outputs = {family: "sdxl" if family == "sdxl" else family for family in families}
    found = {
        "clip_skip": form["clip_skip"] if form["clip_skip"] != 0 and not _without_clip(form) else None,
        "xformers": True if form["xformers"] == "xformers" else None,
        "sdpa": True if form["xformers"] == "sdpa" else None,
        "wandb_run_name": form["wandb_run_name"] if form["wandb_run_name"] != "" else form["output_name"],
        "sample_prompts": _join(form["output_dir"], "sample/prompt.txt"),
        "lr_scheduler_args": str(form["lr_scheduler_args"]).replace('"', "").split(),
        "optimizer_args": str(form["optimizer_args"]).replace('"', "").split(),
        "train_inpainting": inpainting or None,
        **{
            f"cache_text_encoder_outputs{end}": any(
                form.values.get(f"{name}_cache_text_encoder_outputs{end}") for name in encoder_outputs.values()
            )
            or None
            for end in ("", "_to_disk")
        },
    }
    if inpainting:
        found |= {"cache_latents": False, "cache_latents_to_disk": False}
    if tab != "ti" and transformer and form["show_timesteps"]:
        found |= {key: form[key] for key in ("show_timesteps", "show_timesteps_resolution")}
    if "anima" in families and tab in ("lora", "finetune"):
        found |= _anima(form)
    return found


def _without_clip(form: Form) -> bool:
    """Families to which the LoRA and Finetune tabs send no CLIP options."""
    return bool(
        form.families
        & {"lora": {"hunyuan_image", "anima", "lumina"}, "finetune": {"anima", "lumina"}}.get(form.tab, set())
    )


def _anima(form: Form) -> dict[str, Any]:
    chunk = form["anima_vae_chunk_size"]
    found = {
        "attn_mode": form["anima_attn_mode"] if form["anima_attn_mode"] != "torch" else None,
        "vae_chunk_size": int(chunk) if chunk else None,
    }
    if form["anima_compile"]:
        dynamic, limit = form["anima_compile_dynamic"], form["anima_compile_cache_size_limit"]
        found |= {f"compile_{key}": form[f"anima_compile_{key}"] for key in ("backend", "mode", "fullgraph")}
        found |= {
            "compile_dynamic": dynamic if dynamic != "auto" else None,
            "compile_cache_size_limit": int(limit) if limit else None,
        }
    return found


def _noise(form: Form) -> dict[str, Any]:
    """The LoRA tab writes the chosen kind of noise; the others write whatever both groups of fields hold."""
    original = form.tab != "lora" or form["noise_offset_type"] == "Original"
    multires = form.tab != "lora" or form["noise_offset_type"] == "Multires"
    return {
        "noise_offset": form["noise_offset"] if form["noise_offset"] != 0 and original else None,
        "adaptive_noise_scale": form["adaptive_noise_scale"]
        if form["adaptive_noise_scale"] != 0 and original
        else None,
        "noise_offset_random_strength": form["noise_offset_random_strength"] if original else None,
        "multires_noise_iterations": form["multires_noise_iterations"] or None if multires else None,
        "multires_noise_discount": form["multires_noise_discount"] if multires else None,
    }


def _max_train_steps(form: Form, folders: Folders) -> int:
    steps = form["max_train_steps"]
    if form["dataset_config"]:
        return int(steps or 0)
    batch = int(form["train_batch_size"]), int(form["gradient_accumulation_steps"])
    if form.tab == "finetune":
        images = folders.images(form["image_folder"]) * int(form["dataset_repeats"])
        steps = math.ceil(float(images) / batch[0] / batch[1] * int(form["epoch"])) if steps == 0 else steps
        return math.ceil(float(steps) / 2) if form["flip_aug"] and steps else int(steps)
    if steps == 0:
        images = folders.weighted_images(form["train_data_dir"])
        doubled = 1 if form["reg_data_dir"] == "" else 2
        steps = math.ceil(float(images) / batch[0] / batch[1] * int(form["epoch"]) * doubled)
    return int(steps)


def _number(value: Any) -> float:
    try:
        return float(value) if value not in ("", None) else 0.0
    except (TypeError, ValueError):
        return 0.0


def _warmup(form: Form, steps: int) -> int | float:
    """Absolute steps win; else the percentage as a fraction, which sd-scripts takes of all steps."""
    percent, absolute = _number(form["lr_warmup"]), _number(form["lr_warmup_steps"])
    if form["dataset_config"]:
        if form.tab in ("lora", "ti") and steps <= 0:
            absolute = 0.0
        elif form.tab == "lora" and absolute <= 0 and percent:
            percent, absolute = 0.0, round(percent * steps / 100)
    if absolute > 0:
        return int(absolute)
    return percent / 100 if percent else 0


def _lora(form: Form, steps: int) -> dict[str, Any]:
    families = form.families
    text_encoder, unet, t5 = (float(form[key]) for key in ("text_encoder_lr", "unet_lr", "t5xxl_lr"))
    if text_encoder == 0 and t5 > 0:
        raise GuiStops("t5xxl_lr is set, but text_encoder_lr is 0")
    if text_encoder == unet == float(form["learning_rate"]) == 0:
        raise GuiStops("every learning rate is 0")
    try:
        module, args = network(form.values, families)
    except KeyError:
        raise GuiStops(f"LoRA_type is {shorten(form['LoRA_type'])}, which the GUI does not know") from None
    stop = 0 if form["stop_text_encoder_training"] > 0 else form["stop_text_encoder_training"]
    if stop and not (form["dataset_config"] and steps <= 0):
        stop = math.ceil(float(steps) / 100 * int(stop))
    hunyuan = "hunyuan_image" in families
    found = {
        "learning_rate": float(form["learning_rate"]),
        "unet_lr": unet,
        "text_encoder_lr": [text_encoder, t5 if t5 > 0 else text_encoder] if text_encoder > 0 else None,
        "network_module": module,
        "network_args": args,
        "network_train_unet_only": hunyuan or (text_encoder == 0 and unet != 0),
        "network_train_text_encoder_only": not hunyuan and text_encoder != 0 and unet == 0,
        "no_half_vae": "sdxl" in families and form["sdxl_no_half_vae"],
        "v2": form["v2"] if not hunyuan else None,
        "max_token_length": None if _without_clip(form) or "flux1" in families else int(form["max_token_length"]),
        "model_type": "chroma" if "flux1" in families and _is_chroma(form) else None,
        "stop_text_encoder_training": stop or None,
    }
    if hunyuan and "anima" not in families:
        chunk = form["hunyuan_vae_chunk_size"]
        found |= {"vae_chunk_size": int(chunk) if chunk else None}
    if hunyuan and ("anima" not in families or form["anima_attn_mode"] == "torch"):
        found["attn_mode"] = form["hunyuan_attn_mode"]
    return found


def _dreambooth(form: Form, steps: int) -> dict[str, Any]:
    sdxl = "sdxl" in form.families
    return {
        **_encoder_rates(form),
        "train_text_encoder": sdxl and (form["learning_rate_te1"] > 0 or form["learning_rate_te2"] > 0),
        "no_half_vae": sdxl and form["sdxl_no_half_vae"],
        "stop_text_encoder_training": form["stop_text_encoder_training"] or None,
        "optimizer_args": str(form["optimizer_args"]).replace('"', "").split()
        if form["optimizer_args"] != ""
        else None,
    }


def _finetune(form: Form, steps: int) -> dict[str, Any]:
    name = form["latent_metadata_filename"] if form["use_latent_files"] == "Yes" else form["caption_metadata_filename"]
    return {
        **_encoder_rates(form),
        "no_half_vae": "sdxl" in form.families and form["sdxl_no_half_vae"],
        "enable_bucket": True,
        "in_json": f"{form['train_dir']}/{name}",
        "train_data_dir": form["image_folder"],
        "max_token_length": None if _without_clip(form) else int(form["max_token_length"]),
    }


def _encoder_rates(form: Form) -> dict[str, Any]:
    sdxl, groups = "sdxl" in form.families, form["fused_optimizer_groups"]
    return {
        "learning_rate_te": None if sdxl else form["learning_rate_te"],
        "learning_rate_te1": form["learning_rate_te1"] if sdxl else None,
        "learning_rate_te2": form["learning_rate_te2"] if sdxl else None,
        "fused_optimizer_groups": int(groups) if groups > 0 else None,
    }


def _ti(form: Form, steps: int) -> dict[str, Any]:
    return {
        "no_half_vae": form["sdxl_no_half_vae"],
        "use_object_template": form["template"] == "object template",
        "use_style_template": form["template"] == "style template",
    }


def _join(folder: Any, name: str) -> str:
    folder = str(folder)
    return f"{folder}{name}" if not folder or folder.endswith(("/", "\\")) else f"{folder}/{name}"


def _words(text: Any) -> list[str]:
    """Free text as arguments: quotes out, split at spaces, each quoted for a shell that is never used."""
    return [shlex.quote(word) for word in str(text).replace('"', "").split()]


def _accelerate(form: Form) -> list[str]:
    command = ["accelerate", "launch"]
    for key in ("dynamo_backend", "dynamo_mode"):
        command += [f"--{key}", form[key]] if form[key] else []
    command += [f"--{key}" for key in ("dynamo_use_fullgraph", "dynamo_use_dynamic") if form[key]]
    command += _words(form["extra_accelerate_launch_args"])
    command += ["--gpu_ids", shlex.quote(form["gpu_ids"])] if form["gpu_ids"] != "" else []
    command += ["--main_process_port", str(int(form["main_process_port"]))] if form["main_process_port"] > 0 else []
    command += ["--mixed_precision", shlex.quote(form["mixed_precision"])] if form["mixed_precision"] else []
    command += ["--multi_gpu"] if form["multi_gpu"] else []
    for key in ("num_processes", "num_machines", "num_cpu_threads_per_process"):
        command += [f"--{key}", str(int(form[key]))] if int(form[key]) > 0 else []
    return command

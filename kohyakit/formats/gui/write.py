"""A config -> a preset that the kohya_ss GUI opens: the tab's own keys, types and menus.

What no field of the tab holds goes into the free text of "additional parameters", as people do by hand.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kohyakit.config.param import Spec
from kohyakit.config.scripts import reads
from kohyakit.config.train import SPECS, Note, TrainConfig
from kohyakit.files import read_text
from kohyakit.formats import command
from kohyakit.formats.gui import keys as gui_keys
from kohyakit.formats.gui import network as gui_network
from kohyakit.formats.gui.fields import Field, fields
from kohyakit.formats.gui.launch import Folders, as_gui
from kohyakit.formats.gui.read import LAUNCH_FIELDS
from kohyakit.formats.gui.read import read as read_preset
from kohyakit.formats.text import shorten, write_text
from kohyakit.formats.train_toml import is_prompt_text

# Keys that only look different on both sides, that no training reads, or whose meaning another field holds.
_NOT_COMPARED = frozenset(
    ("sample_prompts", "wandb_run_name", "dynamo_backend", "use_8bit_adam", "use_lion_optimizer")
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Preset:
    """A preset written: its tab, its keys in the GUI's order (by name), and what it could not hold."""

    tab: str
    values: dict[str, Any]
    notes: tuple[Note, ...]


def write_file(config: TrainConfig, path: Path | str, tab: str | None = None, *, keep_secrets: bool = False) -> None:
    """Write the config as a preset that the GUI opens. tab: by the script without one."""
    preset = write(config, tab, keep_secrets=keep_secrets)
    write_text(Path(path), json.dumps(preset.values, indent=2) + "\n")


def tab_of(config: TrainConfig) -> str:
    """The tab of the GUI that starts the config's script."""
    script = config.launch.script
    fitting = [tab for tab, scripts in gui_keys.SCRIPTS.items() if script in scripts.values()]
    if set(fitting) >= {"dreambooth", "finetune"}:
        return "finetune" if config["in_json"] else "dreambooth"
    return fitting[0] if fitting else "lora"


def write(config: TrainConfig, tab: str | None = None, *, keep_secrets: bool = False) -> Preset:
    """The config as a preset of a tab (by the script without one). Secrets are left empty unless keep_secrets."""
    tab = tab or tab_of(config)
    script = config.launch.script
    family = next((family for family, name in gui_keys.SCRIPTS[tab].items() if name == script), "")
    values = {key: about.default for key, about in fields(tab).items()}
    values |= _fields(config, tab, family)
    if not keep_secrets:
        values |= {key: "" for key in values if key in SPECS() and SPECS()[key].about.secret}
    notes = _complete(config, values, tab)
    if script not in gui_keys.SCRIPTS[tab].values():
        notes.append(Note("script", "dropped", f"the {tab} tab does not start {script}"))
    return Preset(tab, dict(sorted(values.items())), tuple(notes))


def _fields(config: TrainConfig, tab: str, family: str) -> dict[str, Any]:
    known = fields(tab)
    values: dict[str, Any] = {}
    listed = (
        *gui_keys.PLAIN[tab],
        *gui_keys.WHOLE[tab],
        *gui_keys.OFF_AT_ZERO,
        *gui_keys.WHOLE_OFF_AT_ZERO,
        *LAUNCH_FIELDS,
    )
    for key in listed:
        name = gui_keys.RENAMED.get(key, key)
        if key in known and name in SPECS():
            values[key] = _field(known[key], config[name])
    for name, choices in gui_keys.BY_FAMILY[tab].items():
        for wanted, key in choices:
            if wanted.partition("!")[0] in ("", family) and name in SPECS():
                values[key] = _field(known[key], config[name])
                break
    for key in gui_keys.FLAGS.get(family, ()):
        values |= {key: True} if key in known else {}
    values |= _common(config, tab, family, known)
    values |= {"lora": _lora, "dreambooth": _tune, "finetune": _tune, "ti": _ti}[tab](config, family)
    return {key: value for key, value in values.items() if key in known}


def _field(about: Field, value: Any) -> Any:
    """A parameter's value in the field's own type; not given is what the GUI writes for that."""
    if about.kind == "check":
        return bool(value)
    if about.kind == "text":
        return "" if value is None else " ".join(value) if isinstance(value, tuple) else str(value)
    if value is None:
        if about.kind == "list":
            return "" if about.choices is None or "" in about.choices else about.default
        return 0 if (about.minimum or 0) <= 0 else about.default
    if isinstance(value, tuple):
        return " ".join(str(item) for item in value)
    return _plain(value)


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _common(config: TrainConfig, tab: str, family: str, known: Mapping[str, Field]) -> dict[str, Any]:
    epochs, warmup = config["max_train_epochs"], config["lr_warmup_steps"]
    share = (isinstance(warmup, float) and warmup < 1) or (warmup == 1.0 and isinstance(warmup, float))
    percent = _plain(round(warmup * 100, 6)) if share else 0
    values: dict[str, Any] = {
        "epoch": epochs or config["epoch"] or _number(config.extras.get("epoch")) or 1,
        "max_train_steps": 0 if epochs else config["max_train_steps"],
        "lr_warmup": percent if isinstance(percent, int) else 0,
        "lr_warmup_steps": 0 if share else int(warmup),
        "xformers": "xformers" if config["xformers"] else "sdpa" if config["sdpa"] else "none",
        "noise_offset_type": "Multires" if config["multires_noise_iterations"] else "Original",
        "noise_offset": _plain(config["noise_offset"] or 0),
        "adaptive_noise_scale": _plain(config["adaptive_noise_scale"] or 0),
        "noise_offset_random_strength": config["noise_offset_random_strength"],
        "multires_noise_iterations": config["multires_noise_iterations"] or 0,
        "multires_noise_discount": config["multires_noise_discount"],
        "max_token_length": config.model.tokens,
        "clip_skip": config["clip_skip"] or 0,
        "optimizer_args": " ".join(config["optimizer_args"] or ()),
        "lr_scheduler_args": " ".join(config["lr_scheduler_args"] or ()),
        "optimizer": config.optimizer.in_force,
        "dynamo_backend": config["dynamo_backend"] if config["torch_compile"] else "no",
        "sample_prompts": _prompts(config["sample_prompts"]),
        "sdxl_no_half_vae": config["no_half_vae"],
        "train_inpainting": False,
        "max_data_loader_n_workers": config["max_data_loader_n_workers"],
        "additional_parameters": config["additional_parameters"],
        "model_list": "custom",
    }
    for end in ("", "_to_disk"):
        key = f"{family}_cache_text_encoder_outputs{end}"
        values |= {key: config[f"cache_text_encoder_outputs{end}"]} if key in known else {}
    return values


def _number(value: Any) -> int:
    return int(value) if isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 1 else 0


def _prompts(value: str | None) -> str:
    """The prompts themselves: the GUI's box holds the text and writes the file."""
    if not value or is_prompt_text(value):
        return value or ""
    try:
        path = Path(value)
        return read_text(path, encoding="utf-8-sig").rstrip("\n") if path.suffix == ".txt" and path.is_file() else ""
    except (OSError, ValueError):
        return ""


def _lora(config: TrainConfig, family: str) -> dict[str, Any]:
    known = fields("lora")
    encoders = config["text_encoder_lr"]
    main = config["learning_rate"]
    first = encoders[0] if encoders else main
    second = encoders[1] if encoders and len(encoders) > 1 else first
    values: dict[str, Any] = {
        "learning_rate": _plain(main),
        "text_encoder_lr": 0 if config["network_train_unet_only"] else _plain(first),
        "t5xxl_lr": _plain(second) if second != first else 0,
        "unet_lr": 0
        if config["network_train_text_encoder_only"]
        else _plain(main if config["unet_lr"] is None else config["unet_lr"]),
        "v2": config["v2"],
        "model_type": config["model_type"] or "flux",
    }
    told = dict(item.split("=", 1) for item in config["network_args"] or () if "=" in item)
    kind, args, _ = gui_network.lora_type(config["network_module"], told)
    if kind.startswith("LyCORIS/"):
        # not given, LyCORIS takes these; the GUI always writes them
        values |= {"conv_dim": config["network_dim"] or 4, "conv_alpha": _plain(config["network_alpha"]), "unit": 4}
    if kind in ("Kohya DyLoRA", *gui_network.KOHYA_LYCORIS):
        values |= {"conv_dim": 0, "conv_alpha": 0}  # not given, they leave convolutions alone
    values["LoRA_type"] = kind or "Standard"
    for key, text in args.items():
        values[key] = _from_text(known[key], text)
    return values


def _from_text(about: Field, text: str) -> Any:
    if about.kind == "check":
        return text.strip().lower() in ("true", "1")
    if about.kind in ("number", "slider"):
        try:
            return _plain(float(text)) if "." in text or "e" in text.lower() else int(text)
        except ValueError:
            return about.default
    return text


def _tune(config: TrainConfig, family: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key in ("learning_rate_te", "learning_rate_te1", "learning_rate_te2"):
        if config[key] is not None:
            values[key] = _plain(config[key])
    values["fused_optimizer_groups"] = config["fused_optimizer_groups"] or 0
    values["stop_text_encoder_training"] = -1 if config["stop_text_encoder_training"] == -1 else 0
    values["image_folder"] = config["train_data_dir"] or ""
    for key in ("dataset_repeats", "min_bucket_reso", "max_bucket_reso"):
        if fields("finetune")[key].kind == "text" and tab_of(config) == "finetune":
            values[key] = str(config[key])
    if config["in_json"]:
        folder, _, name = config["in_json"].replace("\\", "/").rpartition("/")
        latents = config["in_json"].endswith("lat.json")
        values |= {"train_dir": folder, "use_latent_files": "Yes" if latents else "No"}
        values["latent_metadata_filename" if latents else "caption_metadata_filename"] = name
    return values


def _ti(config: TrainConfig, family: str) -> dict[str, Any]:
    template = (
        "object template"
        if config["use_object_template"]
        else "style template"
        if config["use_style_template"]
        else "caption"
    )
    return {"template": template, "caption_dropout_rate": config["caption_dropout_rate"]}


class _NoFolders(Folders):
    def images(self, folder: str) -> int:
        return 0

    def weighted_images(self, parent: str) -> int:
        return 0


def _complete(config: TrainConfig, values: dict[str, Any], tab: str) -> list[Note]:
    """Put what the preset does not give back, to the GUI or to us, into the free text; what does not go, into notes."""
    meant, _ = read_preset(values, tab, "")
    theirs = as_gui(values, tab, folders=_NoFolders())
    notes: list[Note] = []
    words: list[str] = []
    for name, spec in SPECS().items():
        if spec.about.own or spec.about.secret or name in _NOT_COMPARED or not reads(config.launch.script, name):
            continue
        if name == "max_train_steps" and config["max_train_epochs"]:
            continue
        others = [meant[name], theirs.toml.get(name, spec.default)] if theirs.toml else [meant[name]]
        if all(_alike(name, config[name], other) for other in others):
            continue
        option = _option(spec, config[name])
        if option:
            words += option
        elif _matters(spec, config[name]):
            notes.append(Note(name, "dropped", f"no field of the {tab} tab holds {shorten(config[name])}"))
    if words:
        values["additional_parameters"] = " ".join([values["additional_parameters"], *words]).strip()
        notes.append(Note("additional_parameters", "mapped", " ".join(words)))
    notes += [Note("", "differs", str(problem)) for problem in theirs.refusals if problem.name == "gui_stops"]
    return notes


def _alike(name: str, wanted: Any, got: Any) -> bool:
    """Do sd-scripts and its networks take both alike? The GUI also writes arguments that a config leaves open; what
    `_lora` puts into their fields is what the network would take for them.
    """
    if name != "network_args":
        return _typed(wanted) == _typed(got)
    mine, theirs = (dict(item.partition("=")[::2] for item in items or ()) for items in (wanted, got))
    return all(key in theirs and _plain_text(value) == _plain_text(theirs[key]) for key, value in mine.items())


def _plain_text(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text.lower()


def _typed(value: Any) -> Any:
    """Values that sd-scripts takes alike as one: tuples and lists, an empty list or text and nothing."""
    return (list(value) or None) if isinstance(value, (tuple, list)) else value if value not in ("",) else None


def _matters(spec: Spec, value: Any) -> bool:
    return value != spec.default


def _option(spec: Spec, value: Any) -> list[str]:
    """The parameter as words of the free text, which knows no quotes; none where it cannot stand there."""
    if value in (None, "") or (spec.kind == "bool" and not value):
        return []
    words = command.option(spec, value, equals=not spec.many)
    return (
        words
        if all(word and not any(character.isspace() or character in "\"'" for character in word) for word in words)
        else []
    )

"""A note for every key of a preset: what became of it, and where the GUI would have done otherwise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from typing import Any

from kohyakit.config.meant import meant_name
from kohyakit.config.read import nearest
from kohyakit.config.train import SPECS, Note
from kohyakit.errors import Problem
from kohyakit.formats import command
from kohyakit.formats.gui import keys as gui_keys
from kohyakit.formats.gui import launch as gui_launch
from kohyakit.formats.gui import network as gui_network
from kohyakit.formats.gui.fields import fields, known_keys
from kohyakit.formats.gui.form import Form, open_preset
from kohyakit.formats.text import shorten

# Keys that the GUI keeps for its own screen.
GUI_ONLY = {
    "model_list": "the GUI's model menu; no training reads it",
    "lowvram": "sd-scripts has no such option any more",
    "save_as_bool": "the GUI's save dialog",
    "headless": "the GUI's own switch",
    "print_only": "the GUI's own switch",
    "file_path": "the GUI's own path",
    "save_as": "the GUI's save dialog",
    "training_preset": "the GUI's preset menu",
}


@dataclass(slots=True)
class Reading:
    """A preset read: values by sd-scripts name, keys nobody knows, what was done, what is wrong."""

    tab: str
    where: str = ""
    values: dict[str, Any] = field(default_factory=dict)
    extras: dict[str, Any] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def note(self, key: str, action: str, text: str = "") -> None:
        """Say what became of a key."""
        self.notes.append(Note(key, action, text))


def account(preset: Mapping[str, Any], form: Form, values: Mapping[str, Any], reading: Reading) -> None:
    """One note at least for every key of the preset, and one for each default that was filled in."""
    told = {key for note in reading.notes for key in note.key.split(", ")}
    known = fields(reading.tab)
    for key, value in preset.items():
        if key in told or key == "kohyakit":
            continue
        if key in GUI_ONLY:
            reading.note(key, "dropped", GUI_ONLY[key])
        elif key not in known:
            _stranger(key, value, preset, reading)
        elif value is None:
            reading.note(key, "defaulted", f"null is {shorten(known[key].default)} in the GUI")
        else:
            reading.note(key, *_fate(key, form, values))
    for key, about in known.items():
        if (
            key not in preset
            and key not in told
            and _fate(key, form, values)[0] == "mapped"
            and about.default not in ("", 0, False)
        ):
            reading.note(key, "defaulted", f"{shorten(about.default)}, the GUI's default")


def _stranger(key: str, value: Any, preset: Mapping[str, Any], reading: Reading) -> None:
    if key in known_keys():
        reading.note(key, "dropped", "a field of another tab")
        return
    reading.extras[key] = value
    near = _nearest_field(key, reading.tab) or nearest(key)
    reading.note(key, "unknown", f"kept; did you mean '{near}'?" if near else "kept; nothing reads it")
    if near and near not in preset:
        problem = Problem(
            reading.where, f"unknown parameter '{key}'", f"did you mean '{near}'?", "unknown_parameter", "warning"
        )
        reading.problems.append(problem)


@lru_cache(maxsize=4096)
def _nearest_field(key: str, tab: str) -> str:
    return meant_name(key, fields(tab))


def of_result(preset: Mapping[str, Any], result: gui_launch.GuiResult) -> list[Note]:
    """A note for every key of what the GUI itself hands over."""
    reading = Reading(result.tab, notes=list(result.notes))
    if result.toml:
        account(preset, open_preset(preset, result.tab), {**result.toml, "script": result.script}, reading)
    return [
        replace(note, action="dropped", text="the GUI drops it") if note.action == "unknown" else note
        for note in reading.notes
    ]


@cache
def _family_fields(tab: str) -> Mapping[str, tuple[str, str]]:
    """Field -> the key it becomes and the family that it is for."""
    return {
        field: (written, family.partition("!")[0])
        for written, choices in gui_keys.BY_FAMILY[tab].items()
        for family, field in reversed(choices)
    }


def _fate(key: str, form: Form, values: Mapping[str, Any]) -> tuple[str, str]:
    """What became of a field: where its value stands now, or why nowhere."""
    name = gui_keys.RENAMED.get(key, key)
    if name in values:
        return "mapped", "" if name == key else name
    if key in _family_fields(form.tab):
        written, wanted = _family_fields(form.tab)[key]
        on = not wanted or wanted in form.families
        return ("mapped", "" if written == key else written) if on else ("dropped", f"for {wanted} only")
    if any(key in keys for keys in gui_keys.FLAGS.values()):
        return "mapped", f"script = {values['script']}"
    if key in _INTO:
        return "mapped", _INTO[key]
    if form.tab == "lora" and key in gui_network.FIELDS:
        shown = [
            item
            for item in map(str, _listed(values.get("network_args")))
            if item.startswith(("preset=" if key == "LyCORIS_preset" else key) + "=")
        ]
        return (
            ("mapped", "network_args")
            if shown
            else ("dropped", f"LoRA type {form['LoRA_type']} does not take it, or it is off")
        )
    return "mapped", "off"


def _listed(value: Any) -> Iterable[Any]:
    """A list, where a preset's own key may hold anything."""
    return value if isinstance(value, (list, tuple)) else (value,) if isinstance(value, str) else ()


_INTO = {
    "noise_offset_type": "chooses which noise fields count",
    "LoRA_type": "network_module",
    "xformers": "xformers or sdpa",
    "lr_warmup": "lr_warmup_steps",
    "image_folder": "train_data_dir",
    "train_dir": "in_json",
    "caption_metadata_filename": "in_json",
    "latent_metadata_filename": "in_json",
    "use_latent_files": "in_json",
    "template": "use_object_template or use_style_template",
    "t5xxl_lr": "text_encoder_lr",
    "sdxl_no_half_vae": "no_half_vae",
}


def differences(preset: Mapping[str, Any], tab: str, values: Mapping[str, Any], reading: Reading) -> None:
    """A note for each key that the GUI would have handed over otherwise."""
    theirs = gui_launch.as_gui(preset, tab)
    stop = [str(problem) for problem in theirs.refusals if problem.name == "gui_stops"]
    if stop:
        reading.note("", "differs", stop[0])
        return
    if theirs.script != values["script"]:
        reading.note("", "differs", f"the GUI would start {theirs.script}")
    gui = dict(theirs.toml) | _told_on_argv(preset)
    counted = values.get("max_train_epochs") and "max_train_epochs" not in gui
    if counted:
        steps = gui.pop("max_train_steps", None)
        reading.note(
            "max_train_epochs",
            "differs",
            f"the GUI would train {steps or 1600} steps" + ("" if steps else ", whatever epoch says"),
        )
    for key in sorted(reading.values.keys() | gui.keys()):
        spec = SPECS().get(key)
        if spec is None or spec.about.own or key in _NEVER_TOLD or (counted and key == "max_train_epochs"):
            continue
        ours, other = values.get(key), gui.get(key)
        if _plain(ours) == _plain(other) or _plain(ours, spec) == _plain(other, spec):
            continue
        if spec.about.secret:
            told = "the GUI would hand over something else"
        elif other is not None:
            told = f"the GUI would hand over {shorten(other)}"
        else:
            told = "the GUI would leave it out" + (
                f"; sd-scripts' default is {shorten(spec.default)}" if spec.default not in (None, "") else ""
            )
        reading.note(key, "differs", told)


def _told_on_argv(preset: Mapping[str, Any]) -> dict[str, Any]:
    """What the GUI's free text field says on the command line, which goes before the TOML."""
    try:
        return command.parse(command.split(str(preset.get("additional_parameters") or ""))).values
    except ValueError:
        return {}


# the prompts' file, a display name and values that sd-scripts takes as its default
_NEVER_TOLD = frozenset({"sample_prompts", "wandb_run_name", "max_token_length", "dynamo_backend"})


def _plain(value: Any, spec: Any = None) -> Any:
    """Values that sd-scripts takes alike as one: lists and tuples, 1 and 1.0, what is not given and the default."""
    if spec is not None and (
        value is None or (value in ("", 0, False) and (value in spec.about.blank or value in spec.about.gui_blank))
    ):
        value = spec.default
    return (list(value) or None) if isinstance(value, (tuple, list)) else value

"""What a kohya_ss GUI preset means: its fields read by the GUI's own rules, without the GUI's faults.

Where the GUI would hand sd-scripts something else (see gui_launch), a note says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from kohyakit.config.arguments.key_values import split_key_values
from kohyakit.config.read import read_values
from kohyakit.config.scripts import BUCKET_STEPS
from kohyakit.config.train import SPECS, TrainConfig
from kohyakit.errors import Problem
from kohyakit.formats import command
from kohyakit.formats.gui import keys as gui_keys
from kohyakit.formats.gui import launch as gui_launch
from kohyakit.formats.gui.fields import fields, known_keys
from kohyakit.formats.gui.form import Form, GuiStops, model_flags
from kohyakit.formats.gui.legacy import rename_old_keys
from kohyakit.formats.gui.network import arguments
from kohyakit.formats.gui.notes import Reading, account, differences
from kohyakit.formats.gui.values import Unfit, field_value
from kohyakit.formats.text import shorten

# What the GUI's fields become under a rule rather than a name; their own note says which.
LAUNCH_FIELDS = (
    "num_processes",
    "num_machines",
    "multi_gpu",
    "gpu_ids",
    "main_process_port",
    "num_cpu_threads_per_process",
    "dynamo_mode",
    "dynamo_use_fullgraph",
    "dynamo_use_dynamic",
    "extra_accelerate_launch_args",
    "additional_parameters",
)


def read(preset: Mapping[str, Any], tab: str, where: str) -> tuple[TrainConfig, Reading]:
    """A preset of a tab -> the config it means and everything that is to be said about it.

    problems holds all of the file at once; with an error among them the config is not to be used.
    """
    reading = Reading(tab, where)
    form = _form(preset, reading, where)  # a field that cannot be read stands at its default, so that the rest is read
    try:
        steps = _length(form, preset, reading)
        values = gui_launch.toml_keys(form, steps)
    except GuiStops as stop:
        reading.problems.append(Problem(where, str(stop), "change one of them", name="gui_stops"))
        return TrainConfig(), reading
    except (TypeError, ValueError, OverflowError, AttributeError) as error:
        reading.problems.append(Problem(where, f"a value cannot be used ({error})", name="bad_value"))
        return TrainConfig(), reading
    values = {key: value for key, value in values.items() if value is not False and value not in (None, "", [])}
    _meaning(form, preset, values, reading)
    values |= {key: form[key] for key in LAUNCH_FIELDS} | {"script": gui_launch.script_of(form)}
    _additional(values, reading, where)
    _direct(preset, values, reading)
    reading.values = {key: value for key, value in values.items() if key in SPECS()}
    config, problems = read_values(reading.values, where, gui=True)
    reading.problems += problems
    account(preset, form, values, reading)
    differences(preset, tab, values, reading)
    return config, reading


def _form(preset: Mapping[str, Any], reading: Reading, where: str) -> Form:
    """Every field of the tab with the value that was meant."""
    known = fields(reading.tab)
    values, notes = rename_old_keys(preset, known)
    reading.notes += notes
    form = Form(reading.tab, {})
    for key, about in known.items():
        if values.get(key) is None:
            form.values[key] = about.default
            continue
        try:
            form.values[key], repaired = field_value(about, values[key])
        except Unfit as unfit:
            reading.problems.append(
                Problem(where, f"{key} is {shorten(values[key])}, but {unfit}", unfit.cure, name="bad_value")
            )
            form.values[key] = about.default
            continue
        if repaired:
            reading.note(key, "repaired", repaired)
    _families(form, preset, reading)
    return form


def _families(form: Form, preset: Mapping[str, Any], reading: Reading) -> None:
    """A ticked family box is believed; without one the model's name or its contents decide, as in the GUI."""
    ticked = [key for keys in gui_keys.FLAGS.values() for key in keys if form.values.get(key)]
    ticked += ["v2"] if form.values.get("v2") else []
    model = form.values.get("pretrained_model_name_or_path")
    flags = {key: on for key, on in model_flags(model).items() if key in form.values}
    if not ticked and any(flags.values()) and preset.get("pretrained_model_name_or_path"):
        form.values |= flags
        reading.note(
            ", ".join(key for key, on in flags.items() if on), "repaired", f"the model {shorten(model)} says so"
        )
    form.families = {family for family, keys in gui_keys.FLAGS.items() if any(form.values.get(key) for key in keys)}
    if len(form.families) > 1:
        chosen = gui_launch.script_of(form)
        reading.note(", ".join(sorted(ticked)), "repaired", f"several families are ticked; {chosen} trains the first")


def _number(value: Any) -> float:
    return value if isinstance(value, (int, float)) else 0


def _length(form: Form, preset: Mapping[str, Any], reading: Reading) -> int:
    """max_train_steps for the keys below, after max_train_epochs and epoch had their say.

    epochs means epochs: where the GUI would count steps out of `epoch`, or fall back to 1600 because the preset
    is older than the steps field, `max_train_epochs` says it.
    """
    epochs, steps, epoch = (_number(form[key]) for key in ("max_train_epochs", "max_train_steps", "epoch"))
    has_steps, has_epoch = preset.get("max_train_steps") is not None, preset.get("epoch") not in (None, "")
    if epochs > 0:
        if has_epoch and epoch not in (0, 1, epochs):
            reading.note("epoch", "dropped", f"max_train_epochs {epochs} decides")
        return int(steps)
    if has_steps and steps > 0:
        if has_epoch and epoch not in (0, 1):
            reading.note("epoch", "dropped", f"max_train_steps {steps} decides, in the GUI too")
        return int(steps)
    if not has_steps and not has_epoch:
        return int(steps)
    if epoch < 1:
        reading.note("epoch", "repaired", f"{epoch} is no length; 1 epoch")
    form.values["max_train_epochs"] = max(1, math.floor(epoch))
    reading.note("epoch", "mapped", f"max_train_epochs = {form.values['max_train_epochs']}")
    return 0


def _meaning(form: Form, preset: Mapping[str, Any], values: dict[str, Any], reading: Reading) -> None:
    """Where the GUI's TOML is not what the form says: warm-up, noise, blanks that sd-scripts would take as values."""
    _warmup(form, preset, values, reading)
    unused = {
        "Original": ("multires_noise_iterations", "multires_noise_discount"),
        "Multires": ("noise_offset", "adaptive_noise_scale", "noise_offset_random_strength"),
    }.get(form["noise_offset_type"], ())
    for key in unused:
        if values.pop(key, None) and preset.get(key):
            reading.note(key, "dropped", f"noise_offset_type is {form['noise_offset_type']}, which hides it")
    _free_arguments(form, values, reading)
    _bucket_steps(form, values, reading)
    if form["sample_prompts"].strip():
        values["sample_prompts"] = form["sample_prompts"]
    else:
        values.pop("sample_prompts", None)
    if values.get("max_token_length") == 75:
        del values["max_token_length"]
    if values.get("dynamo_backend") not in SPECS()["dynamo_backend"].about.choices[1:]:
        values.pop("dynamo_backend", None)
    values.pop("epoch", None)
    if form.tab == "ti" and form["caption_dropout_rate"]:
        values["caption_dropout_rate"] = form["caption_dropout_rate"]
    if form.tab == "finetune" and not form["train_dir"]:
        values["in_json"] = values["in_json"].lstrip("/")
    if form.tab in ("dreambooth", "ti"):
        _stop_text_encoder(form, values, reading)
    if form.tab == "lora":
        for key, off in (
            ("network_train_unet_only", "text_encoder_lr"),
            ("network_train_text_encoder_only", "unet_lr"),
        ):
            if values.get(key):
                reading.note(off, "mapped", f"0 is off: {key}")
        if not form["unet_lr"] and not form["text_encoder_lr"]:
            reading.note(
                "unet_lr", "repaired", "with text_encoder_lr 0 too, both train at learning_rate, as in the GUI"
            )


def _bucket_steps(form: Form, values: dict[str, Any], reading: Reading) -> None:
    """Steps that sd-scripts took once, such as 1, and stops at today, become the nearest that it takes."""
    steps, wanted = values.get("bucket_reso_steps"), BUCKET_STEPS.get(gui_launch.script_of(form), 1)
    if values.get("enable_bucket") and isinstance(steps, int) and steps % wanted:
        values["bucket_reso_steps"] = max(wanted, round(steps / wanted) * wanted)
        what = f"{steps} worked once; sd-scripts wants a multiple of {wanted} today: {values['bucket_reso_steps']}"
        reading.note("bucket_reso_steps", "repaired", what)


def _free_arguments(form: Form, values: dict[str, Any], reading: Reading) -> None:
    """Arguments as items, where the GUI cuts their text at every blank, those within a value too."""
    for key in ("optimizer_args", "lr_scheduler_args"):
        cut = str(form[key]).replace('"', "").split()
        meant = split_key_values(str(form[key]).replace('"', ""))
        if meant != cut and values.get(key) == cut:
            values[key] = meant
            reading.note(key, "repaired", f"read as {' '.join(meant)}")
    if form.tab != "lora" or not values.get("network_args"):
        return
    try:
        _, items = arguments(form.values, form.families)
    except KeyError:
        return
    meant = [_tight_argument(item) for item in items]
    if meant != values["network_args"]:
        for item, tight in zip(items, meant, strict=True):
            if len(item.replace('"', "").split()) > 1:
                reading.note(item.partition("=")[0], "repaired", f"read as {tight}")
        values["network_args"] = meant


def _tight_argument(item: str) -> str:
    """One argument without quotes; numbers stand without blanks between them, a path keeps its own."""
    name, _, value = item.replace('"', "").partition("=")
    listed = all(character.isdigit() or character in " \t\r\n.,-+eE" for character in value)
    return f"{name}={''.join(value.split()) if listed else value.strip()}"


def _warmup(form: Form, preset: Mapping[str, Any], values: dict[str, Any], reading: Reading) -> None:
    """Steps win over per cent; no warm-up where sd-scripts refuses it and the preset does not ask for it."""
    steps, percent = _number(form["lr_warmup_steps"]), _number(form["lr_warmup"])
    values["lr_warmup_steps"] = int(steps) if steps > 0 else percent / 100 if percent > 0 else 0
    asked = any(
        _number(form[key]) > 0 and preset.get(key) not in (None, "") for key in ("lr_warmup", "lr_warmup_steps")
    )
    refusing = form["lr_scheduler"] in ("constant", "adafactor") or form["lr_scheduler_type"] != ""
    if values["lr_warmup_steps"] and (form["lr_scheduler"] == "constant" or (refusing and not asked)):
        values["lr_warmup_steps"] = 0
        if asked:
            reading.note("lr_warmup", "repaired", "the constant scheduler has no warm-up; 0, as in the GUI")
    if steps > 0 and percent > 0 and preset.get("lr_warmup") not in (None, ""):
        reading.note("lr_warmup", "dropped", f"lr_warmup_steps {steps:g} decides")


def _stop_text_encoder(form: Form, values: dict[str, Any], reading: Reading) -> None:
    percent = _number(form["stop_text_encoder_training"])
    values.pop("stop_text_encoder_training", None)
    if not percent:
        return
    if form.tab == "ti":
        reading.note("stop_text_encoder_training", "dropped", "a textual inversion trains no text encoder")
    elif percent < 0:
        values["stop_text_encoder_training"] = -1
    elif values.get("max_train_steps") and not values.get("max_train_epochs"):
        values["stop_text_encoder_training"] = math.ceil(values["max_train_steps"] * percent / 100)
    else:
        reading.note(
            "stop_text_encoder_training", "dropped", f"{percent:g} % of a length that is only known with the pictures"
        )


def _additional(values: dict[str, Any], reading: Reading, where: str) -> None:
    """Options in the free text field go before the fields, as on the command line that the GUI makes."""
    text = values["additional_parameters"].strip()
    if not text:
        return
    try:
        told = command.parse(command.split(text), where)
    except ValueError as error:
        reading.problems.append(
            Problem(
                where,
                f"additional_parameters is {shorten(text)}, but {str(error).lower()}",
                "close the quote",
                name="bad_value",
            )
        )
        return
    values |= told.values
    values["additional_parameters"] = command.join(told.unknown)
    reading.problems += [problem for problem in told.problems if problem.severity == "error"]
    for name, value in told.values.items():
        reading.note("additional_parameters", "mapped", f"{name} = {shorten(value)}")


def _direct(preset: Mapping[str, Any], values: dict[str, Any], reading: Reading) -> None:
    """sd-scripts names that no field of the GUI has: the GUI drops them, but what is meant is plain."""
    for key, value in preset.items():
        if (
            key in SPECS()
            and key not in known_keys()
            and key not in values
            and value is not None
            and key != "use_8bit_adam"
        ):
            values[key] = value
            reading.note(key, "mapped", "no field of the GUI; sd-scripts knows it")

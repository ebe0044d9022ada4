"""Any settings file -> config_file TOML."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kohyakit import formats
from kohyakit.config.train import SPECS, Note, TrainConfig
from kohyakit.errors import ConfigError, KohyakitError, Problem
from kohyakit.formats import toml_edit, train_toml
from kohyakit.formats.convert import carry
from kohyakit.formats.convert.conversion import (
    KOHYA,
    STDOUT,
    Conversion,
    Work,
    loads_kept,
    tab_of,
    toml_body,
)
from kohyakit.formats.gui import launch as gui_launch
from kohyakit.formats.gui import read as gui_json
from kohyakit.formats.gui import write as gui_write
from kohyakit.formats.other.carrying import dataset_toml
from kohyakit.formats.text import sd_scripts_reads, shorten, write_text


def to_toml(work: Work) -> Conversion:
    """The source as TOML, written to the target. Raises ConfigError."""
    config, problems = work.config()
    notes: list[Note] = []
    if work.kind == "toml":
        return _same_toml(work, config, problems)
    tab = tab_of(work) if work.kind == "gui-json" else ""
    if work.kind == "gui-json" and not work.options.as_gui:
        restored = _toml_from_preset(work, config, tab, notes)
        if restored:
            return _finished_toml(work, restored, config, problems, notes, tab, origin=restored)
    prompts = prompts_file_for(work, config)
    config = with_dataset(work, config, notes)
    body = (
        gui_body(work, tab)
        if work.options.as_gui and work.kind == "gui-json"
        else toml_body(config, work.options, prompts)
    )
    text = carry.into_comments(body, work.carried(tab))
    return _finished_toml(work, text, config, problems, notes, tab, prompts)


def prompts_file_for(work: Work, config: TrainConfig) -> str:
    """The file for sample prompts that the source holds as text."""
    if not train_toml.is_prompt_text(config["sample_prompts"]) or work.options.as_gui:
        return ""
    name = work.target if work.target != STDOUT else work.source
    return name.with_name(f"{name.stem}.prompts.txt").as_posix()


def with_dataset(work: Work, config: TrainConfig, notes: list[Note]) -> TrainConfig:
    """The config with a dataset_config beside the result that holds another trainer's image folders."""
    if work.kind in KOHYA or config["dataset_config"] or config["train_data_dir"]:
        return config
    text = dataset_toml(formats.carried_over(work.kind, work.text, work.source.name))
    if not text:
        return config
    name = work.target if work.target != STDOUT else work.source
    path = name.with_name(f"{name.stem}.dataset.toml")
    if work.target != STDOUT:
        if path.exists() and not work.options.force:
            raise ConfigError(
                Problem(str(path), "is there already", "use another name, or --force", name="target_exists")
            )
        write_text(path, text)
    notes.append(Note("dataset_config", "set", f"{'to be ' if work.target == STDOUT else ''}written to {path.name}"))
    return config.with_values(dataset_config=path.as_posix())


def _finished_toml(
    work: Work,
    text: str,
    config: TrainConfig,
    problems: list[Problem],
    notes: list[Note],
    tab: str,
    prompts: str = "",
    origin: str = "",
) -> Conversion:
    written: list[Path] = []
    if work.target != STDOUT:
        if prompts:
            write_text(Path(prompts), config["sample_prompts"].rstrip("\n") + "\n")
            notes.append(Note("sample_prompts", "mapped", f"written to {Path(prompts).name}"))
            written.append(Path(prompts))
        write_text(work.target, text, _verifier(text, work.target.name, origin))
        written.insert(0, work.target)
    return work.done(text, config, problems, notes, tab, tuple(written))


def _verifier(text: str, where: str, origin: str) -> Callable[[Path], None] | None:
    """Reads what is about to be moved into place with sd-scripts' parser, unless it never read the origin either."""
    if origin and not sd_scripts_reads(origin):
        return None
    expected = train_toml.values_in(text, where)
    return lambda path: train_toml.check_with_toml(path, expected)


def gui_body(work: Work, tab: str) -> str:
    """The TOML as the GUI writes it: one flat list of names in alphabetical order."""
    preset = overridden(work, tab)
    result = gui_launch.as_gui(preset, tab)
    secret = {name for name, spec in SPECS().items() if spec.about.secret and not work.options.keep_secrets}
    return "".join(f"{key} = {train_toml.literal(value)}\n" for key, value in result.toml.items() if key not in secret)


def overridden(work: Work, tab: str) -> dict[str, Any]:
    """The preset with the overrides that have a field on the tab."""
    preset = formats.parse_preset(work.text, work.source.name)[0]
    return {**preset, **formats.gui_overrides(work.options.overrides, tab, preset)}


def _same_toml(work: Work, config: TrainConfig, problems: list[Problem]) -> Conversion:
    text = work.text
    if work.options.overrides:
        names = [name for name in map(formats.parameter_name, work.options.overrides) if name in SPECS()]
        changes = {name: config[name] for name in names}
        if "max_train_steps" in changes and config["max_train_epochs"] is None:
            changes.setdefault("max_train_epochs", None)
        text = edited(text, changes, work.source.name)
    if not work.options.keep_secrets:
        text = carry.without_secrets(text, "toml")
    return _finished_toml(work, text, config, problems, [], "", origin=work.text)


def edited(text: str, changes: Mapping[str, Any], where: str) -> str:
    """TOML text with values changed where they stand. Raises ConfigError where it cannot be edited."""
    try:
        return toml_edit.set_in_toml(text, changes)
    except ValueError as error:
        raise ConfigError(Problem(where, f"cannot be edited in place ({error})", "mend that place first")) from None


def _toml_from_preset(work: Work, config: TrainConfig, tab: str, notes: list[Note]) -> str:
    """The TOML that the preset was made from, with what was changed in the preset since; "" where it carries none."""
    preset = formats.parse_preset(work.text, work.source.name)[0]
    carried = carry.from_preset(preset)
    if carried is None or carried.format != "toml":
        return ""
    try:
        origin = loads_kept(carried.text, "carried.toml")
    except KohyakitError:
        return ""
    made = gui_write.write(origin, tab, keep_secrets=work.options.keep_secrets).values
    own = {key: value for key, value in preset.items() if key != carry.KEY}
    changed = {key for key in own.keys() | made.keys() if own.get(key) != made.get(key)}
    text = carried.text if work.options.keep_secrets else carry.without_secrets(carried.text, "toml")
    if changed <= {name for name in SPECS() if SPECS()[name].about.secret} and not work.options.overrides:
        return text
    before, _ = gui_json.read(made, tab, "")
    changes = {
        name: config[name] for name, value in before.items() if config[name] != value and name != "sample_prompts"
    }
    notes += [Note(name, "set", shorten(value)) for name, value in changes.items()]
    return edited(text, changes, work.source.name)

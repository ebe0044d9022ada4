"""Any settings file -> a preset of the GUI."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from kohyakit import formats
from kohyakit.config.train import Note, TrainConfig
from kohyakit.errors import Problem
from kohyakit.files import read_text as read_file
from kohyakit.formats import train_toml
from kohyakit.formats.convert import carry
from kohyakit.formats.convert.carry import Carried
from kohyakit.formats.convert.conversion import (
    STDOUT,
    Conversion,
    Work,
    loads_kept,
    tab_of,
    toml_body,
)
from kohyakit.formats.convert.to_toml import gui_body, with_dataset
from kohyakit.formats.gui import write as gui_write
from kohyakit.formats.gui.fields import fields
from kohyakit.formats.text import read_text, shorten, write_text


def to_json(work: Work) -> Conversion:
    """The source as a preset, written to the target. Raises ConfigError."""
    notes: list[Note] = []
    if work.kind == "toml":
        body, carried = carry.from_comments(work.text)
        if carried is not None and carried.format == "gui-json":
            return _preset_from_toml(work, body, carried)
    config, problems = work.config()
    config = with_dataset(work, config, notes)
    tab = work.options.tab or (tab_of(work) if work.kind == "gui-json" else gui_write.tab_of(config))
    preset = gui_write.write(config, tab, keep_secrets=work.options.keep_secrets)
    notes += preset.notes
    values = dict(preset.values)
    if work.kind == "gui-json":
        values |= {key: value for key, value in config.extras.items() if key != carry.KEY}
        text = json.dumps(values, indent=2) + "\n"
    else:
        text = carry.into_preset(values, work.carried())
    return _finished_json(work, text, config, problems, notes, tab)


def _finished_json(
    work: Work, text: str, config: TrainConfig, problems: list[Problem], notes: list[Note], tab: str
) -> Conversion:
    if work.target == STDOUT:
        return work.done(text, config, problems, notes, tab)
    write_text(work.target, text, _check_json)
    return work.done(text, config, problems, notes, tab, (work.target,))


def _check_json(path: Path) -> None:
    formats.parse_preset(read_text(path), path.name)


def _preset_from_toml(work: Work, body: str, carried: Carried) -> Conversion:
    """The preset that the TOML was made from, with what was changed in the TOML since."""
    config, problems = work.config(body)
    as_gui = carried.reading == "as-gui"
    tab = carried.tab or "lora"
    origin_options = replace(work.options, tab=tab, as_gui=as_gui, overrides={})
    origin_work = Work(Path("preset.json"), work.target, carried.text, "gui-json", "toml", origin_options)
    origin, _ = origin_work.config()
    made = gui_body(origin_work, tab) if as_gui else toml_body(origin, origin_options, "prompts.txt")
    before = loads_kept(made, "carried.toml")
    changed = {name for name, value in before.items() if config[name] != value and name != "sample_prompts"}
    prompts = _changed_prompts(config, origin)
    text, notes = carried.text, []
    if changed or prompts is not None:
        old = gui_write.write(before, tab).values
        new = gui_write.write(config, tab).values
        edits = {key: value for key, value in new.items() if old.get(key) != value and key in fields(tab)}
        edits |= {"sample_prompts": prompts} if prompts is not None else {}
        text = carry.set_in_json(text, edits)
        notes = [Note(key, "set", shorten(value)) for key, value in edits.items()]
    return _finished_json(work, text, config, problems, notes, tab)


def _changed_prompts(config: TrainConfig, origin: TrainConfig) -> str | None:
    """The prompts of the file that the TOML names, where they are no longer the preset's."""
    name = config["sample_prompts"]
    if not isinstance(name, str) or not name.endswith(".txt"):
        return None
    try:
        told = read_file(Path(name), encoding="utf-8-sig").rstrip("\n")
    except (OSError, ValueError):
        return None
    mine = origin["sample_prompts"] or ""
    return told if train_toml.is_prompt_text(mine) and told != mine.rstrip("\n") else None

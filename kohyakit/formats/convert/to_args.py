"""Any settings file -> a command line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from kohyakit.config.train import Note, TrainConfig
from kohyakit.errors import ConfigError, Problem
from kohyakit.formats import command
from kohyakit.formats.convert import carry
from kohyakit.formats.convert.conversion import (
    STDOUT,
    Conversion,
    Work,
    tab_of,
)
from kohyakit.formats.convert.to_toml import overridden, prompts_file_for, to_toml, with_dataset
from kohyakit.formats.gui import launch as gui_launch
from kohyakit.formats.shell import command_file
from kohyakit.formats.text import write_text


def to_args(work: Work) -> Conversion:
    """The source as a command line, written to the target. Raises ConfigError."""
    if work.kind == "args" and not work.options.overrides and _is_one_line(work):
        config, problems = work.config()
        text = work.text if work.options.keep_secrets else carry.without_secrets(work.text, "args")
        return _finished_args(work, text, config, problems, [])
    config, problems = work.config()
    if work.options.as_gui and work.kind == "gui-json":
        return _gui_command(work, config, problems)
    notes: list[Note] = []
    written: list[Path] = []
    prompts = prompts_file_for(work, config)
    config = with_dataset(work, config, notes)
    if prompts:
        if work.target != STDOUT:
            write_text(Path(prompts), config["sample_prompts"].rstrip("\n") + "\n")
            written.append(Path(prompts))
        config = config.with_values(sample_prompts=prompts)
        notes.append(Note("sample_prompts", "mapped", f"{'written to' if written else 'to be written to'} {prompts}"))
    notes += [Note(name, "dropped", f"{config.launch.script} does not know it") for name in command.unread(config)]
    words = command.build(config, keep_secrets=work.options.keep_secrets)
    return _finished_args(work, command.as_text(words), config, problems, notes, tuple(written))


def _is_one_line(work: Work) -> bool:
    """Is the source one command and nothing else, in the words of an .args file? Then it stays as it is."""
    if work.source.suffix.lower() != ".args":
        return False
    file = command_file.read(work.text, work.source.name, folder=work.source.parent, chosen=work.options.command)
    return file.only and not any(word.startswith("--config_file") for word in file.command.words)


def _finished_args(
    work: Work,
    text: str,
    config: TrainConfig,
    problems: list[Problem],
    notes: list[Note],
    written: tuple[Path, ...] = (),
) -> Conversion:
    if work.target != STDOUT:
        write_text(work.target, text)
        written = (work.target, *written)
    tab = tab_of(work) if work.kind == "gui-json" else ""
    return work.done(text, config, problems, notes, tab, written)


def _gui_command(work: Work, config: TrainConfig, problems: list[Problem]) -> Conversion:
    """The command line that the GUI starts, and the TOML it names beside it."""
    tab = tab_of(work)
    preset = overridden(work, tab)
    written: tuple[Path, ...] = ()
    toml = work.target.with_suffix(".toml")
    if work.target != STDOUT:
        if toml.exists() and not work.options.force:
            raise ConfigError(
                Problem(str(toml), "is there already", "use another name, or --force", name="target_exists")
            )
        beside = to_toml(replace(work, target=toml, to="toml"))
        written = beside.written
    result = gui_launch.as_gui(preset, tab, config="" if work.target == STDOUT else toml.as_posix())
    return _finished_args(work, command.join(result.command) + "\n", config, problems, [], written)

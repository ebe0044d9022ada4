"""A command file -> the config that its training is given, a note for all it holds, every problem at once."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from kohyakit.config.read import read_values
from kohyakit.config.train import SPECS, Note, TrainConfig
from kohyakit.errors import Problem
from kohyakit.formats import command, train_toml
from kohyakit.formats.shell import command_file
from kohyakit.formats.shell.variables import missing
from kohyakit.formats.text import read_text, shorten


def read(
    text: str,
    where: str,
    *,
    folder: Path | None = None,
    chosen: str | None = None,
    given: Collection[str] = (),
) -> tuple[TrainConfig, list[Note], list[Problem]]:
    """A command file's text -> config, notes and problems. Raises ConfigError where no command can be read.

    folder: where the file lies. chosen: which of several trainings. given: parameters whose value comes from
    elsewhere, so that a variable without one does no harm there.
    """
    file = command_file.read(text, where, folder=folder, chosen=chosen)
    told = command.parse(file.command.words, where, file.command.start)
    problems = file.problems + told.problems
    values, unknown = _with_values(told, where, given, problems)
    base, notes = _config_file(values.pop("config_file", None), where, file.folder, folder, problems)
    if told.script:
        values["script"] = told.script
    config, found = read_values(values, where, base)
    notes = [note for note in notes if note.key not in values]
    notes += [*file.notes, *(Note(name, "mapped") for name in values if name != "script")]
    notes += [Note(word, "unknown", "kept") for word in unknown]
    if unknown:
        config = config.with_values(additional_parameters=command.join(unknown))
    return config, notes, problems + found


def _with_values(
    told: command.Arguments, where: str, given: Collection[str], problems: list[Problem]
) -> tuple[dict[str, Any], list[str]]:
    """The values and unknown words of a command line whose variables all have a value; of the others, what is told."""
    values: dict[str, Any] = {}
    for name, value in told.values.items():
        texts = [value] if isinstance(value, str) else value if isinstance(value, list) else []
        lost = list(dict.fromkeys(each for text in texts for each in missing(text)[1]))
        if not lost:
            values[name] = value
            continue
        left = [missing(text)[0] for text in texts]
        if any(left):
            values[name] = left[0] if isinstance(value, str) else [text for text in left if text]
        if name not in given:
            problems.append(_no_value(name, lost, where, values.get(name)))
    unknown = [missing(word)[0] for word in told.unknown]
    lost = list(dict.fromkeys(each for word in told.unknown for each in missing(word)[1]))
    if lost:
        what = f"{_has_no_value(lost)}, so what it holds is left out"
        problems.append(Problem(where, what, "give it with --set", "no_value", "warning"))
    return values, [word for word in unknown if word]


def _no_value(name: str, lost: list[str], where: str, left: Any) -> Problem:
    """The finding for an option whose variables have no value. Nothing left of it is an error, save for a secret."""
    spec = SPECS().get(name)
    blank = left is None and not (spec is not None and spec.about.secret) and name != "extra_accelerate_launch_args"
    shown = "is not given" if left is None else f"is {shorten(left)}"
    what = f"{_has_no_value(lost)}, so --{name} {shown}"
    cure = f"set it in the file, or say --set {name}=VALUE"
    return Problem(where, what, cure, "no_value", "error" if blank else "warning")


def _has_no_value(lost: list[str]) -> str:
    shown = [text if len(text) <= 40 else text[:39] + "…" for text in lost[:4]]
    return f"{', '.join(shown)} {'has' if len(lost) == 1 else 'have'} no value here"


def _config_file(
    name: Any, where: str, entered: Path | None, folder: Path | None, problems: list[Problem]
) -> tuple[TrainConfig, list[Note]]:
    """The TOML that a command names, which its options go before, as in sd-scripts. Without a name, the defaults."""
    if not isinstance(name, str) or not name:
        return TrainConfig(), []
    name = name if name.endswith(".toml") else f"{name}.toml"
    bases = [folder or Path(), (folder or Path()) / entered] if entered else [folder or Path()]
    places = [base / each for base in (*bases, Path()) for each in (name, name.replace("\\", "/"))]
    path = next((place for place in places if _is_file(place)), None)
    if path is None:
        what = f"--config_file {name}: there is no such file"
        cure = f"put it beside {where}, or correct the name"
        problems.append(Problem(where, what, cure, name="no_such_file"))
        return TrainConfig(), []
    config, notes, found = train_toml.read(read_text(path), path.name)
    problems += found
    return config, [Note(note.key, note.action, note.text or f"from {path.name}") for note in notes]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False

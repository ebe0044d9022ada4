"""Every settings file of the Kohya world, read into a TrainConfig: `load` looks at the content, not at the name."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kohyakit.config.read import read_values
from kohyakit.config.train import SPECS, Note, Source, TrainConfig
from kohyakit.errors import ConfigError, Problem
from kohyakit.formats.text import BOM, parse_json, read_text, shorten

if TYPE_CHECKING:
    from kohyakit.formats import other

__all__ = ["load", "loads", "recognise"]


@dataclass(frozen=True, slots=True)
class Asked:
    """What is wanted of a file. overrides: values by sd-scripts name or the GUI's, which go before the file's.

    as_gui: exactly what a fresh GUI session hands over, faults included. tab: lora, dreambooth, finetune or ti, where
    a preset's keys do not say. command: which training of a command file with several, by number or output_name.
    folder: where the file lies; files that it names are looked for there.
    """

    overrides: Mapping[str, Any] = field(default_factory=dict)
    as_gui: bool = False
    tab: str | None = None
    command: str | None = None
    folder: Path | None = None


def load(
    path: Path | str,
    *,
    overrides: Mapping[str, Any] | None = None,
    dataset_config: Path | str | None = None,
    as_gui: bool = False,
    tab: str | None = None,
    command: str | None = None,
) -> TrainConfig:
    """A GUI preset (JSON), a config_file (TOML) or a command file (.args, .bat, .sh, .ps1) as a config.

    dataset_config: the dataset TOML to use instead of the file's. The rest: see `Asked`.
    `config.source` holds the untouched text and a note per key. Raises ConfigError with every problem at once.
    """
    path = _existing(Path(path))
    text = read_text(path)
    config, problems = read_as(text, path.name, Asked(dict(overrides or {}), as_gui, tab, command, path.parent))
    if any(problem.severity == "error" for problem in problems):
        raise ConfigError(problems)
    if dataset_config is not None:
        config = config.with_values(dataset_config=str(dataset_config))
    assert config.source is not None
    return replace(config, source=replace(config.source, path=path))


def loads(
    text: str, where: str, *, overrides: Mapping[str, Any] | None = None, as_gui: bool = False, tab: str | None = None
) -> TrainConfig:
    """As `load`, of text; where: the name that problems are told under."""
    config, problems = read(text, where, overrides=overrides, as_gui=as_gui, tab=tab)
    if any(problem.severity == "error" for problem in problems):
        raise ConfigError(problems)
    return config


def read(
    text: str, where: str, *, overrides: Mapping[str, Any] | None = None, as_gui: bool = False, tab: str | None = None
) -> tuple[TrainConfig, list[Problem]]:
    """As `loads`, but with the problems beside the config. Raises ConfigError where nothing can be read at all."""
    return read_as(text, where, Asked(dict(overrides or {}), as_gui, tab))


def read_as(text: str, where: str, asked: Asked) -> tuple[TrainConfig, list[Problem]]:
    """As `read`, with all that can be asked of a file."""
    asked = replace(asked, overrides=dict(asked.overrides))
    kind = recognise(text, where)
    if kind.startswith("dataset"):
        raise ConfigError(
            Problem(
                where,
                "is a dataset_config, which says what to train on but not how",
                "give it as --dataset-config beside a preset or a config_file",
                name="dataset_config",
            )
        )
    overrides = dict(asked.overrides)
    readers = {"gui-json": _preset, "toml": _toml, "args": _args}
    if kind in readers:
        config, notes, problems = readers[kind](text, where, overrides, asked)
    else:
        config, notes, problems = _other(kind, text, where)
    if overrides:
        config, notes, found = _overridden(config, overrides, notes)
        problems += found
    problems += _open_quotes(config, where, problems)
    odd = tuple(problem for problem in problems if problem.severity != "error")
    return replace(config, source=Source(None, kind, text, tuple(notes), odd)), problems


def _open_quotes(config: TrainConfig, where: str, told: list[Problem]) -> list[Problem]:
    """Free texts of options that no shell could take apart."""
    from kohyakit.formats import command

    said = [problem.what for problem in told]
    names = ("additional_parameters", "extra_accelerate_launch_args")
    found = (command.open_quote(name, config[name], where) for name in names if not any(name in what for what in said))
    return [problem for problem in found if problem is not None]


def recognise(text: str, where: str = "") -> str:
    """What a text is: gui-json, toml, args, dataset-toml, dataset-json or another trainer's (see `other`).

    Raises ConfigError for an empty one, and for a JSON or YAML that holds no training's settings, named for what it is.
    """
    body = text.removeprefix(BOM).lstrip()
    if not body:
        raise ConfigError(
            Problem(
                where, "is empty", "give a preset (JSON), a config_file (TOML) or a command line", name="empty_file"
            )
        )
    from kohyakit.formats import command
    from kohyakit.formats.other import yaml_text
    from kohyakit.formats.shell import dialect

    ending = where.lower()
    if ending.endswith(dialect.ENDINGS):
        return "args"
    if ending.endswith(yaml_text.ENDINGS):
        return _kind_of(yaml_text.parse(text, where), where)
    if body.startswith(("{", "[{")) or ending.endswith(".json"):
        return _kind_of(parse_json(text, where)[0], where, gui=True)
    if not ending.endswith(".toml") and command.looks_like_command(body):
        return "args"
    return _kind_of_toml(text, where)


def _kind_of(values: Any, where: str, *, gui: bool = False) -> str:
    """The kind of a JSON or YAML, by its names. Raises ConfigError for one that holds no training's settings."""
    from kohyakit.formats import other
    from kohyakit.formats.gui.fields import looks_like_preset
    from kohyakit.formats.gui.legacy import OLD_KEYS
    from kohyakit.formats.other.named import what_is

    if not isinstance(values, (dict, list)) or (isinstance(values, list) and not what_is(values)):
        if gui:
            return "gui-json"  # whose reader says what it holds instead
        raise _no_settings(where, "holds no table of names and values", name="not_a_preset")
    kind = other.recognise(values)
    if kind:
        return kind
    if isinstance(values, dict):
        if gui and looks_like_preset(values):
            named = "" if len(known_names(values)) > 1 else what_is(values)
            if not named:
                return "gui-json"
        elif isinstance(values.get("datasets"), list) and gui and not what_is(values):
            return "dataset-json"
        if gui and (OLD_KEYS.intersection(values) or any(name in SPECS() for name in values)) and not what_is(values):
            return "gui-json"
    found = what_is(values)
    lacks = "no preset of the kohya_ss GUI: it has none of its fields" if gui else "no training that is known here"
    raise _no_settings(where, f"is {found}, {lacks}" if found else f"is {lacks}", name="not_a_preset")


def known_names(values: Mapping[str, Any]) -> set[str]:
    """The keys that are fields of the GUI or options of sd-scripts."""
    from kohyakit.formats.gui.fields import known_keys

    return {name for name in values if name in known_keys() or name in SPECS()}


def _no_settings(where: str, what: str, name: str) -> ConfigError:
    cure = "give a preset of the kohya_ss GUI (JSON), a config_file (TOML) or a command file"
    return ConfigError(Problem(where, what, cure, name=name))


_TELLING_TOML = re.compile(
    r"(?m)^\s*(?:model_train_type|enable_preview|lycoris_algo|dit|network_module|author|image_directory|video_directory"
    r"|cache_directory|build-backend|dependencies|directory)\s*="
    r"|^\s*\[+\s*(?:\w+_args|metadata|tool|project|package|adapter)\b"
)


def _kind_of_toml(text: str, where: str) -> str:
    """toml, dataset-toml or another trainer's; the text is only parsed where a name in it may tell."""
    from kohyakit.formats import other
    from kohyakit.formats.other.named import what_is

    is_dataset = any(line.lstrip().startswith("[[datasets") for line in text.splitlines())
    if not _TELLING_TOML.search(text[:200_000]):
        return "dataset-toml" if is_dataset else "toml"
    try:
        values = tomllib.loads(text.removeprefix(BOM))
    except (ValueError, RecursionError):
        return "dataset-toml" if is_dataset else "toml"  # whose reader says where it breaks off
    kind = other.recognise(values)
    if kind:
        return kind
    found = what_is(values)
    inner = {name for table in values.values() if isinstance(table, dict) for name in known_names(table)}
    if found and is_dataset:
        cure = "kohyakit reads data sets of sd-scripts: [[datasets.subsets]] with image_dir"
        raise ConfigError(Problem(where, f"is {found}", cure, name="not_a_preset"))
    if found and not known_names(values) and not inner:
        raise _no_settings(where, f"is {found}, no config_file", name="not_a_preset")
    return "dataset-toml" if is_dataset else "toml"


def _existing(path: Path) -> Path:
    """sd-scripts adds `.toml` to a config_file's name; so does this where only that file exists."""
    if not path.exists():
        longer = path.with_name(path.name + ".toml")
        if longer.is_file():
            return longer
    return path


def parse_preset(text: str, where: str) -> tuple[dict[str, Any], list[Problem]]:
    """JSON text of a preset -> its keys. Raises ConfigError where it is something else."""
    value, problems = parse_json(text, where)
    if not isinstance(value, dict):
        kind = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}.get(type(value), "a number")
        raise ConfigError(
            Problem(
                where,
                f"holds {kind}, but a preset is an object of names and values",
                "look whether it is the right file",
                name="not_a_preset",
            )
        )
    return value, problems


def _preset(
    text: str, where: str, overrides: dict[str, Any], asked: Asked
) -> tuple[TrainConfig, list[Note], list[Problem]]:
    from kohyakit.formats.gui import launch as gui_launch
    from kohyakit.formats.gui import notes as gui_notes
    from kohyakit.formats.gui import read as gui_json
    from kohyakit.formats.gui.fields import TABS, guess_tab

    preset, problems = parse_preset(text, where)
    tab = asked.tab
    if tab is not None and tab not in TABS:
        raise ConfigError(Problem("--tab", f"is {tab!r}, but one of {', '.join(TABS)} was wanted", name="bad_value"))
    guessed, sure = guess_tab(preset)
    told = (
        []
        if tab or sure
        else [Note("", "defaulted", f"no key says which tab; read as {guessed} (--tab says otherwise)")]
    )
    tab = tab or guessed
    mine = [name for name in overrides if gui_name(name, tab, preset)]
    told += [Note(name, "set", shorten(overrides[name])) for name in mine]
    preset |= gui_overrides(overrides, tab, preset)
    for name in mine:
        del overrides[name]
    if asked.as_gui:
        result = gui_launch.as_gui(preset, tab)
        config, found = from_gui_toml(result, where)
        return config, told + gui_notes.of_result(preset, result), problems + found
    config, reading = gui_json.read(preset, tab, where)
    return replace(config, extras=reading.extras), told + reading.notes, problems + reading.problems


def from_gui_toml(result: Any, where: str) -> tuple[TrainConfig, list[Problem]]:
    """What the GUI hands over, as a config; what it would not start with are errors."""
    from kohyakit.formats.train_toml import flatten, prepare

    problems = [replace(each, where=f"{where}: {each.where}" if each.where else where) for each in result.refusals]
    values, _ = prepare(flatten(result.toml, where), where, [])
    config, found = read_values(values, where)
    found = [problem for problem in found if problem.severity == "error"]
    return config.with_values(script=result.script or config.launch.script), problems + found


def _toml(
    text: str, where: str, overrides: dict[str, Any], asked: Asked
) -> tuple[TrainConfig, list[Note], list[Problem]]:
    from kohyakit.formats import train_toml

    return train_toml.read(text, where)


def _args(
    text: str, where: str, overrides: dict[str, Any], asked: Asked
) -> tuple[TrainConfig, list[Note], list[Problem]]:
    from kohyakit.formats.shell import as_config

    given = frozenset(map(parameter_name, overrides))
    return as_config.read(text, where, folder=asked.folder, chosen=asked.command, given=given)


def carried_over(kind: str, text: str, where: str) -> other.Reading:
    """Another trainer's settings, read. Raises ConfigError."""
    from kohyakit.formats import other
    from kohyakit.formats.other import yaml_text

    if where.lower().endswith(yaml_text.ENDINGS):
        values = yaml_text.parse(text, where)
    elif text.removeprefix(BOM).lstrip().startswith("{"):
        values = parse_json(text, where)[0]
    else:
        values = tomllib.loads(text.removeprefix(BOM))
    return other.carry_over(kind, values, where)


def _other(kind: str, text: str, where: str) -> tuple[TrainConfig, list[Note], list[Problem]]:
    reading = carried_over(kind, text, where)
    config, problems = read_values(reading.values, where)
    if reading.subsets:
        what = f"{len(reading.subsets)} image folder{'s' if len(reading.subsets) > 1 else ''} of {reading.trainer.name}"
        cure = f"kohyakit convert {where} NAME.toml writes them as a dataset_config"
        problems.append(Problem(where, f"names {what}", cure, name="image_folders", severity="hint"))
    return config, reading.notes, reading.problems + problems


def _overridden(
    config: TrainConfig, overrides: Mapping[str, Any], notes: list[Note]
) -> tuple[TrainConfig, list[Note], list[Problem]]:
    """The config with the overrides in force; their names may be the GUI's."""
    values = {parameter_name(name): value for name, value in overrides.items()}
    if "max_train_steps" in values and "max_train_epochs" not in values:
        values["max_train_epochs"] = None
    new, problems = read_values(values, "--set", config)
    unknown = [
        replace(problem, severity="error") if problem.name == "unknown_parameter" else problem for problem in problems
    ]
    return new, notes + [Note(name, "set", shorten(value)) for name, value in values.items()], unknown


def parameter_name(name: str) -> str:
    """sd-scripts' name for one of the GUI's."""
    if name in SPECS():
        return name
    return next((spec.name for spec in SPECS().values() if name in spec.about.gui), name)


def gui_name(name: str, tab: str, preset: Mapping[str, Any]) -> str:
    """The tab's field for a name of the GUI or of sd-scripts, or "" where it has none.

    An option that each family has a field of its own for means the field of the preset's family.
    """
    from kohyakit.formats.gui.fields import fields
    from kohyakit.formats.gui.keys import BY_FAMILY, FLAGS
    from kohyakit.formats.gui.legacy import OLD_KEYS

    for family, key in BY_FAMILY[tab].get(name, ()):
        if any(preset.get(flag) for flag in FLAGS.get(family.partition("!")[0], ())):
            return key
    if name in fields(tab) or name in preset or name in OLD_KEYS:
        return name
    fitting = [key for key in SPECS()[name].about.gui if key in fields(tab)] if name in SPECS() else []
    return fitting[0] if len(fitting) == 1 else ""


def gui_overrides(overrides: Mapping[str, Any], tab: str, preset: Mapping[str, Any]) -> dict[str, Any]:
    """Overrides as keys of a preset. A length that is set puts out the one that would go before it."""
    from kohyakit.formats.gui.fields import fields

    found = {key: value for name, value in overrides.items() if (key := gui_name(name, tab, preset))}
    found = {key: about.saved(value) if (about := fields(tab).get(key)) else value for key, value in found.items()}
    if "lr_warmup_steps" in found and "lr_warmup" not in found:
        found["lr_warmup"] = 0  # the GUI's share of the steps would stand in for 0 steps
    for name, before in (
        ("max_train_steps", ("max_train_epochs",)),
        ("epoch", ("max_train_epochs", "max_train_steps")),
    ):
        if name in found:
            found |= {key: 0 for key in before if key not in found and preset.get(key) not in (None, "", 0)}
    return found

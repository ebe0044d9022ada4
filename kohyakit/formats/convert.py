"""One settings file -> the same settings in another format, with a row for every key and nothing lost on the way."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kohyakit import formats
from kohyakit.config.train import SPECS, Note, TrainConfig
from kohyakit.errors import ConfigError, KohyakitError, Problem
from kohyakit.formats import carry, command, gui_json, gui_launch, gui_write, toml_edit, train_toml
from kohyakit.formats.carry import Carried
from kohyakit.formats.gui_fields import fields, guess_tab
from kohyakit.formats.text import parse_toml, read_text, sd_scripts_reads, shorten, write_text

TARGETS = ("toml", "json", "args")
_ENDINGS = {".toml": "toml", ".json": "json", ".args": "args", ".sh": "args", ".bat": "args", ".ps1": "args"}
STDOUT = Path("-")


@dataclass(frozen=True, slots=True)
class Options:
    """How to convert. to: toml, json or args (by the target's name without one). tab: the GUI's, where not plain."""

    to: str | None = None
    tab: str | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    as_gui: bool = False
    keep_secrets: bool = False
    force: bool = False


@dataclass(frozen=True, slots=True)
class Conversion:
    """What became of one file. text: the result; written: the files on disk; notes: what happened to each key."""

    source: Path
    target: Path
    source_format: str = ""
    target_format: str = ""
    tab: str = ""
    text: str = ""
    written: tuple[Path, ...] = ()
    notes: tuple[Note, ...] = ()
    problems: tuple[Problem, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        return any(problem.severity == "error" for problem in self.problems)


def convert(source: Path | str, target: Path | str, options: Options | None = None) -> Conversion:
    """Convert a file and write the result; a target of `-` writes nothing and leaves the text to the caller.

    Raises ConfigError with every problem at once, also where the target exists and options.force is not set.
    """
    source, target, options = Path(source), Path(target), options or Options()
    text = read_text(source)
    kind = formats.recognise(text, source.name)
    to = options.to or _ENDINGS.get(target.suffix.lower()) or ("args" if target == STDOUT else None)
    if to is None:
        cure = "give it the ending .toml, .json or .args, or say --to toml"
        raise ConfigError(Problem(str(target), "the name does not say which format is wanted", cure, name="no_format"))
    if to not in TARGETS:
        raise ConfigError(Problem("--to", f"is {to!r}, but one of {', '.join(TARGETS)} was wanted", name="bad_value"))
    if target != STDOUT and target.exists() and not options.force:
        raise ConfigError(
            Problem(str(target), "is there already", "use another name, or --force", name="target_exists")
        )
    work = _Work(source, target, text, kind, to, options)
    if kind.startswith("dataset"):
        return _dataset(work)
    return {"toml": _to_toml, "json": _to_json, "args": _to_args}[to](work)


def convert_folder(source: Path, target: Path, options: Options | None = None) -> Iterator[Conversion]:
    """Every preset, TOML and command line under a folder, one conversion each; a bad file does not stop the others."""
    options = options or Options()
    options = replace(options, to=options.to or "toml")
    taken: set[Path] = set()
    for path in sorted(
        path for path in source.rglob("*") if path.suffix.lower() in (".json", ".toml", ".args") and path.is_file()
    ):
        goal = (target / path.relative_to(source)).with_suffix(f".{options.to}")
        try:
            if goal in taken:
                raise ConfigError(
                    Problem(str(path), f"would become {goal.name}, as another file did", "rename one of them")
                )
            yield convert(path, goal, options)
            taken.add(goal)
        except KohyakitError as error:
            yield Conversion(path, goal, problems=error.problems)


@dataclass(frozen=True, slots=True)
class _Work:
    source: Path
    target: Path
    text: str
    kind: str
    to: str
    options: Options

    def config(self, text: str | None = None) -> tuple[TrainConfig, list[Problem]]:
        """The source as a config. Raises ConfigError with all problems where one is an error."""
        options = self.options
        config, problems = formats.read(
            self.text if text is None else text, self.source.name,
            overrides=options.overrides, as_gui=options.as_gui, tab=options.tab,
        )  # fmt: skip
        kept = _unknown_kept(problems)
        if any(problem.severity == "error" for problem in kept):
            raise ConfigError(problems)
        return config, kept

    def carried(self, tab: str = "") -> Carried:
        text = self.text if self.options.keep_secrets else carry.without_secrets(self.text, self.kind)
        return Carried(self.kind, text, tab, "as-gui" if self.options.as_gui else "meant")

    def done(
        self,
        text: str,
        config: TrainConfig | None,
        problems: list[Problem],
        notes: list[Note] | None = None,
        tab: str = "",
        written: tuple[Path, ...] = (),
    ) -> Conversion:
        told = [*(config.source.notes if config is not None and config.source else ()), *(notes or [])]
        values = _source_values(self.text, self.kind)
        if not self.options.keep_secrets:
            for name in _secrets(values):
                told.append(Note(name, "dropped", "a secret; --keep-secrets keeps it"))
        target_format = {"json": "gui-json"}.get(self.to, self.to)
        target = f"dataset-{self.to}" if self.kind.startswith("dataset") else target_format
        return Conversion(
            self.source, self.target, self.kind, target, tab, text, written, tuple(told), tuple(problems), values
        )


def _unknown_kept(problems: list[Problem]) -> list[Problem]:
    """An unknown key is kept and told; only one that was just set is a mistake to stop at."""
    return [
        replace(problem, severity="warning")
        if problem.name == "unknown_parameter" and problem.where != "--set"
        else problem
        for problem in problems
    ]


def _loads(text: str, where: str) -> TrainConfig:
    """A carried text as a config. Raises ConfigError."""
    config, problems = formats.read(text, where)
    if any(problem.severity == "error" for problem in _unknown_kept(problems)):
        raise ConfigError(problems)
    return config


def _secrets(values: Mapping[str, Any]) -> list[str]:
    return [name for name, spec in SPECS().items() if spec.about.secret and values.get(name)]


def _source_values(text: str, kind: str) -> dict[str, Any]:
    """The source's own keys and values, for the report; a secret is shown as stars."""
    if kind == "gui-json":
        values = formats.parse_preset(text, "")[0]
    elif kind == "toml":
        flat = train_toml.flatten(parse_toml(text, "")[0], "")
        values = flat.values | flat.own
    else:
        return {}
    return {
        key: "***" if key in SPECS() and SPECS()[key].about.secret and value else value for key, value in values.items()
    }


def _tab(work: _Work) -> str:
    return work.options.tab or guess_tab(formats.parse_preset(work.text, work.source.name)[0])[0]


def _toml_body(config: TrainConfig, options: Options, prompts_file: str) -> str:
    return train_toml.dumps(config, keep_secrets=options.keep_secrets, prompts_file=prompts_file)


def _to_toml(work: _Work) -> Conversion:
    config, problems = work.config()
    notes: list[Note] = []
    if work.kind == "toml":
        return _same_toml(work, config, problems)
    tab = _tab(work) if work.kind == "gui-json" else ""
    if work.kind == "gui-json" and not work.options.as_gui:
        restored = _toml_from_preset(work, config, tab, notes)
        if restored:
            return _finished_toml(work, restored, config, problems, notes, tab, origin=restored)
    prompts = _prompts_file(work, config)
    body = (
        _gui_body(work, tab)
        if work.options.as_gui and work.kind == "gui-json"
        else _toml_body(config, work.options, prompts)
    )
    text = carry.into_comments(body, work.carried(tab))
    return _finished_toml(work, text, config, problems, notes, tab, prompts)


def _prompts_file(work: _Work, config: TrainConfig) -> str:
    """The file for sample prompts that the source holds as text."""
    if not train_toml.is_prompt_text(config["sample_prompts"]) or work.options.as_gui:
        return ""
    name = work.target if work.target != STDOUT else work.source
    return name.with_name(f"{name.stem}.prompts.txt").as_posix()


def _finished_toml(
    work: _Work,
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


def _gui_body(work: _Work, tab: str) -> str:
    """The TOML as the GUI writes it: one flat list of names in alphabetical order."""
    preset = _overridden(work, tab)
    result = gui_launch.as_gui(preset, tab)
    secret = {name for name, spec in SPECS().items() if spec.about.secret and not work.options.keep_secrets}
    return "".join(f"{key} = {train_toml.literal(value)}\n" for key, value in result.toml.items() if key not in secret)


def _overridden(work: _Work, tab: str) -> dict[str, Any]:
    """The preset with the overrides that have a field on the tab."""
    preset = formats.parse_preset(work.text, work.source.name)[0]
    return {**preset, **formats.gui_overrides(work.options.overrides, tab, preset)}


def _same_toml(work: _Work, config: TrainConfig, problems: list[Problem]) -> Conversion:
    text = work.text
    if work.options.overrides:
        names = [name for name in map(formats.parameter_name, work.options.overrides) if name in SPECS()]
        changes = {name: config[name] for name in names}
        if "max_train_steps" in changes and config["max_train_epochs"] is None:
            changes.setdefault("max_train_epochs", None)
        text = _edited(text, changes, work.source.name)
    if not work.options.keep_secrets:
        text = carry.without_secrets(text, "toml")
    return _finished_toml(work, text, config, problems, [], "", origin=work.text)


def _edited(text: str, changes: Mapping[str, Any], where: str) -> str:
    try:
        return toml_edit.set_in_toml(text, changes)
    except ValueError as error:
        raise ConfigError(Problem(where, f"cannot be edited in place ({error})", "mend that place first")) from None


def _toml_from_preset(work: _Work, config: TrainConfig, tab: str, notes: list[Note]) -> str:
    """The TOML that the preset was made from, with what was changed in the preset since; "" where it carries none."""
    preset = formats.parse_preset(work.text, work.source.name)[0]
    carried = carry.from_preset(preset)
    if carried is None or carried.format != "toml":
        return ""
    try:
        origin = _loads(carried.text, "carried.toml")
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
    return _edited(text, changes, work.source.name)


def _to_json(work: _Work) -> Conversion:
    notes: list[Note] = []
    if work.kind == "toml":
        body, carried = carry.from_comments(work.text)
        if carried is not None and carried.format == "gui-json":
            return _preset_from_toml(work, body, carried)
    config, problems = work.config()
    tab = work.options.tab or (_tab(work) if work.kind == "gui-json" else gui_write.tab_of(config))
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
    work: _Work, text: str, config: TrainConfig, problems: list[Problem], notes: list[Note], tab: str
) -> Conversion:
    if work.target == STDOUT:
        return work.done(text, config, problems, notes, tab)
    write_text(work.target, text, _check_json)
    return work.done(text, config, problems, notes, tab, (work.target,))


def _check_json(path: Path) -> None:
    formats.parse_preset(read_text(path), path.name)


def _preset_from_toml(work: _Work, body: str, carried: Carried) -> Conversion:
    """The preset that the TOML was made from, with what was changed in the TOML since."""
    config, problems = work.config(body)
    as_gui = carried.reading == "as-gui"
    tab = carried.tab or "lora"
    origin_options = replace(work.options, tab=tab, as_gui=as_gui, overrides={})
    origin_work = _Work(Path("preset.json"), work.target, carried.text, "gui-json", "toml", origin_options)
    origin, _ = origin_work.config()
    made = _gui_body(origin_work, tab) if as_gui else _toml_body(origin, origin_options, "prompts.txt")
    before = _loads(made, "carried.toml")
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
        told = Path(name).read_text(encoding="utf-8-sig").rstrip("\n")
    except (OSError, ValueError):
        return None
    mine = origin["sample_prompts"] or ""
    return told if train_toml.is_prompt_text(mine) and told != mine.rstrip("\n") else None


def _to_args(work: _Work) -> Conversion:
    if work.kind == "args" and not work.options.overrides:
        config, problems = work.config()
        text = work.text if work.options.keep_secrets else carry.without_secrets(work.text, "args")
        return _finished_args(work, text, config, problems, [])
    config, problems = work.config()
    if work.options.as_gui and work.kind == "gui-json":
        return _gui_command(work, config, problems)
    notes, written = [], []
    prompts = _prompts_file(work, config)
    if prompts:
        if work.target != STDOUT:
            write_text(Path(prompts), config["sample_prompts"].rstrip("\n") + "\n")
            written.append(Path(prompts))
        config = config.with_values(sample_prompts=prompts)
        notes.append(Note("sample_prompts", "mapped", f"{'written to' if written else 'to be written to'} {prompts}"))
    notes += [Note(name, "dropped", f"{config.launch.script} does not know it") for name in command.unread(config)]
    words = command.build(config, keep_secrets=work.options.keep_secrets)
    return _finished_args(work, command.as_text(words), config, problems, notes, tuple(written))


def _finished_args(
    work: _Work,
    text: str,
    config: TrainConfig,
    problems: list[Problem],
    notes: list[Note],
    written: tuple[Path, ...] = (),
) -> Conversion:
    if work.target != STDOUT:
        write_text(work.target, text)
        written = (work.target, *written)
    tab = _tab(work) if work.kind == "gui-json" else ""
    return work.done(text, config, problems, notes, tab, written)


def _gui_command(work: _Work, config: TrainConfig, problems: list[Problem]) -> Conversion:
    """The command line that the GUI starts, and the TOML it names beside it."""
    tab = _tab(work)
    preset = _overridden(work, tab)
    written: tuple[Path, ...] = ()
    toml = work.target.with_suffix(".toml")
    if work.target != STDOUT:
        if toml.exists() and not work.options.force:
            raise ConfigError(
                Problem(str(toml), "is there already", "use another name, or --force", name="target_exists")
            )
        beside = _to_toml(replace(work, target=toml, to="toml"))
        written = beside.written
    result = gui_launch.as_gui(preset, tab, config="" if work.target == STDOUT else toml.as_posix())
    return _finished_args(work, command.join(result.command) + "\n", config, problems, [], written)


def _dataset(work: _Work) -> Conversion:
    from kohyakit.formats import dataset_convert

    if work.to == "args" or work.options.overrides or work.options.as_gui:
        what = "is a dataset_config, which goes to TOML or JSON as it is"
        raise ConfigError(
            Problem(work.source.name, what, "take --set, --as-gui and --to args away", name="dataset_config")
        )
    text, problems = dataset_convert.convert(work.text, work.source.name, work.to)
    if work.target == STDOUT:
        return work.done(text, None, problems)
    write_text(work.target, text)
    return work.done(text, None, problems, written=(work.target,))

"""A conversion: what was wanted, what is being worked on, what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kohyakit import formats
from kohyakit.config.train import SPECS, Note, TrainConfig
from kohyakit.errors import ConfigError, Problem
from kohyakit.formats import train_toml
from kohyakit.formats.convert import carry
from kohyakit.formats.convert.carry import Carried
from kohyakit.formats.gui.fields import guess_tab
from kohyakit.formats.text import parse_toml

STDOUT = Path("-")
KOHYA = ("gui-json", "toml", "args", "dataset-toml", "dataset-json")  # every other kind is another trainer's


@dataclass(frozen=True, slots=True)
class Options:
    """How to convert. to: toml, json or args (by the target's name without one). tab: the GUI's, where not plain.
    command: which training of a command file with several."""

    to: str | None = None
    tab: str | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    as_gui: bool = False
    keep_secrets: bool = False
    force: bool = False
    command: str | None = None


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
        """Is an error among the problems?"""
        return any(problem.severity == "error" for problem in self.problems)


@dataclass(frozen=True, slots=True)
class Work:
    """One conversion under way: the source as read, what it is (`kind`), what it becomes (`to`)."""

    source: Path
    target: Path
    text: str
    kind: str
    to: str
    options: Options

    def config(self, text: str | None = None) -> tuple[TrainConfig, list[Problem]]:
        """The source as a config. Raises ConfigError with all problems where one is an error."""
        options = self.options
        asked = formats.Asked(options.overrides, options.as_gui, options.tab, options.command, self.source.parent)
        config, problems = formats.read_as(self.text if text is None else text, self.source.name, asked)
        # another trainer's image folders are written beside the result
        kept = [problem for problem in unknown_kept(problems) if problem.name != "image_folders"]
        if any(problem.severity == "error" for problem in kept):
            raise ConfigError(problems)
        return config, kept

    def carried(self, tab: str = "") -> Carried:
        """What of the source travels with the result."""
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
        """The result with the notes of the reading and of the writing."""
        told = [*(config.source.notes if config is not None and config.source else ()), *(notes or [])]
        values = source_values(self.text, self.kind, self.source.name)
        if not self.options.keep_secrets:
            for name in secrets(values):
                told.append(Note(name, "dropped", "a secret; --keep-secrets keeps it"))
        target_format = {"json": "gui-json"}.get(self.to, self.to)
        target = f"dataset-{self.to}" if self.kind.startswith("dataset") else target_format
        return Conversion(
            self.source, self.target, self.kind, target, tab, text, written, tuple(told), tuple(problems), values
        )


def unknown_kept(problems: list[Problem]) -> list[Problem]:
    """An unknown key is kept and told; only one that was just set is a mistake to stop at."""
    return [
        replace(problem, severity="warning")
        if problem.name == "unknown_parameter" and problem.where != "--set"
        else problem
        for problem in problems
    ]


def loads_kept(text: str, where: str) -> TrainConfig:
    """A carried text as a config. Raises ConfigError."""
    config, problems = formats.read(text, where)
    if any(problem.severity == "error" for problem in unknown_kept(problems)):
        raise ConfigError(problems)
    return config


def secrets(values: Mapping[str, Any]) -> list[str]:
    """Names of the secrets that the values hold."""
    return [name for name, spec in SPECS().items() if spec.about.secret and values.get(name)]


def source_values(text: str, kind: str, where: str = "") -> dict[str, Any]:
    """The source's own keys and values, for the report; a secret is shown as stars."""
    if kind == "gui-json":
        values = formats.parse_preset(text, "")[0]
    elif kind == "toml":
        flat = train_toml.flatten(parse_toml(text, "")[0], "")
        values = flat.values | flat.own
    elif kind not in KOHYA:
        values = formats.carried_over(kind, text, where).leaves
    else:
        return {}
    return {
        key: "***" if key in SPECS() and SPECS()[key].about.secret and value else value for key, value in values.items()
    }


def tab_of(work: Work) -> str:
    """The GUI's tab of the preset being worked on."""
    return work.options.tab or guess_tab(formats.parse_preset(work.text, work.source.name)[0])[0]


def toml_body(config: TrainConfig, options: Options, prompts_file: str) -> str:
    """The config as TOML, nothing carried yet."""
    return train_toml.dumps(config, keep_secrets=options.keep_secrets, prompts_file=prompts_file)

"""A preset being edited: its text, the edits over it, what they come to, and how it is saved. No Streamlit here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kohyakit.config.param import Spec
from kohyakit.config.train import SPECS, TrainConfig
from kohyakit.config.values import Unreadable, coerce
from kohyakit.dashboard.project import Project
from kohyakit.errors import ConfigError, KohyakitError, Problem
from kohyakit.formats import read as read_preset
from kohyakit.formats.text import read_text
from kohyakit.plan import Plan, make_plan
from kohyakit.resources import shared_dir

PRESET_DIR = "presets"
UNKNOWN = "unknown_parameter"  # the finding's name, see config.read
_SUFFIXES = (".json", ".toml")
_NOT_PRESETS = {"runs", "sample", "node_modules", "__pycache__"}


@dataclass(frozen=True)
class Draft:
    """Text of a preset as it was opened and the edits since.

    where: its name for messages; path: its file, if it has one. without_unknown: leave out keys that no parameter has.
    """

    where: str
    text: str
    path: Path | None = None
    edits: Mapping[str, Any] = field(default_factory=dict)
    without_unknown: bool = False

    def edited(self, name: str, value: Any, opened: TrainConfig) -> Draft:
        """With one parameter set; an edit back to what the preset says is no edit."""
        edits = {key: kept for key, kept in self.edits.items() if key != name}
        try:
            same = coerce(SPECS()[name], value) == opened[name]
        except Unreadable:
            same = False
        return replace(self, edits=edits if same else {**edits, name: value})


@dataclass(frozen=True)
class Judged:
    """What a draft comes to. config: None where the text cannot be used. opened: the same without the edits."""

    config: TrainConfig | None
    opened: TrainConfig | None
    plan: Plan | None
    problems: tuple[Problem, ...]
    unknown: tuple[str, ...] = ()

    @property
    def errors(self) -> tuple[Problem, ...]:
        return tuple(problem for problem in self.problems if problem.severity == "error")


def judge(draft: Draft) -> Judged:
    """Read the draft, apply the edits, plan it; every problem of all three at once."""
    try:
        opened, found = read_preset(draft.text, draft.where)
        config = opened
        if draft.edits:
            config, found = read_preset(draft.text, draft.where, overrides=dict(draft.edits))
    except ConfigError as error:
        return Judged(None, None, None, error.problems)
    unknown = tuple(config.extras)
    if draft.without_unknown:
        config = replace(config, extras={})
        found = [problem for problem in found if problem.name != UNKNOWN]
    plan = make_plan(config)
    return Judged(config, opened, plan, tuple(dict.fromkeys((*found, *plan.findings))), unknown)


def presets_in(project: Project) -> Iterator[Path]:
    """JSON and TOML files that may be presets: in the project, two folders down, not inside runs. Sorted."""
    yield from sorted(_walk(project.root, 2))


def _walk(folder: Path, depth: int) -> Iterator[Path]:
    try:
        entries = list(folder.iterdir())
    except OSError:
        return
    for entry in entries:
        if entry.name.startswith(".") or entry.is_symlink():
            continue
        if entry.is_dir():
            if depth and entry.name not in _NOT_PRESETS:
                yield from _walk(entry, depth - 1)
        elif entry.suffix.lower() in _SUFFIXES and entry.stat().st_size < 2_000_000:
            yield entry


def templates() -> dict[str, Path]:
    """The presets that ship with kohyakit, by name."""
    try:
        folder = shared_dir("templates")
    except KohyakitError:
        return {}
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.suffix in _SUFFIXES}


def open_file(path: Path, where: str) -> Draft:
    """A draft of a file. Raises ConfigError when it cannot be read."""
    return Draft(where, read_text(path), path)


def save(config: TrainConfig, project: Project, name: str, kind: str, *, replace_old: bool = False) -> Path:
    """Write the config as `presets/<name>.json` (the GUI's form) or `.toml` (sd-scripts' form) of the project.

    An old file of that name is never lost: without replace_old this raises ConfigError, with it the old one is kept
    beside as `<name>.old-N`.
    """
    stem = name.strip().removesuffix(f".{kind}")
    if not stem or any(sign in stem for sign in '/\\:*?"<>|\0') or stem.startswith("."):
        raise ConfigError(
            Problem(name or "the name", "cannot be a file's name", "letters, digits, spaces, - and _ are fine")
        )
    path = project.inside(Path(PRESET_DIR) / f"{stem}.{kind}")
    if path.exists() and not replace_old:
        raise ConfigError(
            Problem(
                f"{PRESET_DIR}/{path.name}", "is there already", "choose another name, or say that it may be replaced"
            )
        )
    path.parent.mkdir(exist_ok=True)
    if path.exists():
        _keep(path)
    write(config, path)
    return path


def write(config: TrainConfig, path: Path) -> None:
    """One file in the form that its ending names. A person's own key stays in a person's own file; a run's record
    leaves it out.
    """
    if path.suffix == ".json":
        from kohyakit.formats import gui_json

        gui_json.write(config, path, keep_secrets=True)
    else:
        from kohyakit.formats import train_toml

        train_toml.write(config, path, keep_secrets=True)


def _keep(path: Path) -> None:
    """Move a file aside under the first free name."""
    number = 1
    while (old := path.with_name(f"{path.name}.old-{number}")).exists():
        number += 1
    path.rename(old)


def bounds(spec: Spec) -> str:
    """The values a parameter takes, in words: "from 1", "above 0, at most 1"; empty without bounds."""
    about = spec.about
    if about.ge is not None and about.le is not None:
        return f"{about.ge:g} to {about.le:g}"
    parts = [f"from {about.ge:g}"] if about.ge is not None else []
    parts += [f"above {about.gt:g}"] if about.gt is not None else []
    parts += [f"at most {about.le:g}"] if about.le is not None else []
    return ", ".join(parts)


def matches(spec: Spec, text: str) -> bool:
    """Whether a search finds the parameter: every word in its name, its GUI names or its help."""
    about = spec.about
    pool = " ".join([spec.name, *about.gui, about.help, about.tip]).lower()
    return all(word in pool for word in text.lower().split())


def changed_names(config: TrainConfig) -> set[str]:
    """The parameters that differ from sd-scripts' defaults."""
    return {name for name, value in config.items() if value != SPECS()[name].default}

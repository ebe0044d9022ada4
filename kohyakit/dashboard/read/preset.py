"""A preset being edited: its text, the edits over it, what they come to, and how it is saved. No Streamlit here."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kohyakit.config.param import Spec
from kohyakit.config.train import SPECS, TrainConfig
from kohyakit.config.values import Unreadable, coerce
from kohyakit.dashboard.read.memo import Memo, stamp_of
from kohyakit.dashboard.read.project import Project
from kohyakit.dataset.faults import IMAGE_FAULTS
from kohyakit.dataset.layout import Scan
from kohyakit.dataset.layout import scan as scan_datasets
from kohyakit.errors import ConfigError, KohyakitError, Problem
from kohyakit.files import free_name
from kohyakit.formats import read as read_preset
from kohyakit.formats import recognise
from kohyakit.formats.gui.fields import known_keys
from kohyakit.formats.text import read_text
from kohyakit.planning.decoding import decoded
from kohyakit.planning.make import check_plan
from kohyakit.planning.plan import Plan

PRESET_DIR = "presets"
UNKNOWN = "unknown_parameter"  # the finding's name, see config.read
_SUFFIXES = (".json", ".toml")
_LARGEST = 1_000_000  # bytes; a preset has some thousand
_NOT_PRESETS = {"runs", "sample", "node_modules", "__pycache__"}
_OF_A_MODEL = {"model_index.json", "train_state.json"}  # a diffusers model, a saved state: no presets below
_JSON_NAME = re.compile(r'"([^"\\]+)"\s*:')
_TOML_NAME = re.compile(r"^\s*([\w-]+)\s*=", re.MULTILINE)
_looks = Memo(2000)


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

    @property
    def bad_images(self) -> tuple[Problem, ...]:
        """The errors that lie in single images: a training can start without those."""
        return tuple(problem for problem in self.errors if problem.name in IMAGE_FAULTS)


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
    plan = check_plan(config, scan=_looked_at(scan_datasets(config)))
    return Judged(config, opened, plan, tuple(dict.fromkeys((*found, *plan.findings))), unknown)


DECODED_PIXELS = 100e6
"""Sets of so many pixels together are decoded while the preset is looked at, which takes about a second; the photos of
larger ones when the training starts.
"""
_decoded = Memo(4)


def _looked_at(scan: Scan) -> Scan:
    """The scan with the verdict on every image's pixels, where that is quickly had; decoded again only when a file has
    changed.
    """
    records = list(scan.records())
    if sum(record.stored_width * record.stored_height for record in records) > DECODED_PIXELS:
        return scan
    stamp = stamp_of(*(record.path for record in records))
    before = len(scan.problems)
    found = _decoded.get("images", stamp, lambda: decoded(scan).problems[before:])
    return replace(scan, problems=(*scan.problems, *found))


def presets_in(project: Project) -> list[Path]:
    """The project's presets, two folders down, the nearest first.

    What lies in `presets` counts whatever it says; elsewhere a JSON or TOML file counts when what it sets are a
    training's parameters, so that a model's own configs do not.
    """
    kept = project.root / PRESET_DIR
    found = [path for path in _walk(project.root, 2) if path.parent == kept or looks_like_preset(path)]
    return sorted(found, key=lambda path: (len(path.parts), path))


def _walk(folder: Path, depth: int) -> Iterator[Path]:
    try:
        entries = list(folder.iterdir())
    except OSError:
        return
    if any(entry.name in _OF_A_MODEL for entry in entries):
        return
    for entry in entries:
        if entry.name.startswith(".") or entry.is_symlink():
            continue
        if entry.is_dir():
            if depth and entry.name not in _NOT_PRESETS:
                yield from _walk(entry, depth - 1)
        elif entry.suffix.lower() in _SUFFIXES and entry.stat().st_size < _LARGEST:
            yield entry


def looks_like_preset(path: Path) -> bool:
    """Whether a third or more of the names that a JSON or TOML file sets are parameters, its own or the GUI's."""
    return _looks.get(str(path), stamp_of(path), lambda: _sets_parameters(path))


def _sets_parameters(path: Path) -> bool:
    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError:
        return False
    with contextlib.suppress(ConfigError):  # a broken one may be a person's own, who wants to know
        if recognise(text, path.name).startswith("dataset"):
            return False
    if path.suffix.lower() == ".json":
        names = _JSON_NAME.findall(text) if text.lstrip().startswith("{") else ["a list"]
    else:
        names = _TOML_NAME.findall(text)
    known = known_keys()
    return 3 * sum(name in SPECS() or name in known for name in names) >= len(names)


def templates() -> dict[str, Path]:
    """The presets that ship with kohyakit, by file name."""
    from kohyakit.describe.templates import templates

    try:
        return {path.name: path for one in templates() if one.kind == "preset" for path in one.paths}
    except KohyakitError:
        return {}


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
        path.rename(free_name(path, "{name}.old-{number}", first=1))  # set aside
    write(config, path)
    return path


def write(config: TrainConfig, path: Path) -> None:
    """One file in the form that its ending names. A person's own key stays in a person's own file; a run's record
    leaves it out.
    """
    if path.suffix == ".json":
        from kohyakit.formats.gui import write as gui_write

        gui_write.write_file(config, path, keep_secrets=True)
    else:
        from kohyakit.formats import train_toml

        train_toml.write(config, path, keep_secrets=True)


def matches(spec: Spec, text: str) -> bool:
    """Whether a search finds the parameter: every word in its name, its GUI names or its help."""
    about = spec.about
    pool = " ".join([spec.name, *about.gui, about.help, about.tip]).lower()
    return all(word in pool for word in text.lower().split())


def changed_names(config: TrainConfig) -> set[str]:
    """The parameters that differ from sd-scripts' defaults."""
    return {name for name, value in config.items() if value != SPECS()[name].default}

"""The presets, prompts and project skeleton that ship with kohyakit: list them, show them, copy them to own them."""

from __future__ import annotations

import difflib
import json
import shutil
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kohyakit.describe.schema import FILE_NAME
from kohyakit.errors import ConfigError, Problem
from kohyakit.files import draft_for, folder_in_place_of
from kohyakit.formats.text import write_text
from kohyakit.resources import shared_dir

PROJECT = "project"
PROJECT_PRESET = "sd15-subject"
_ORDER = (".txt", ".toml", ".json")


@dataclass(frozen=True, slots=True)
class Template:
    """One name and its files: a preset as TOML and often as a GUI preset, a prompt file, or the project skeleton.

    kind: preset, prompts or project. paths: the files, TOML first; the skeleton's folder for a project.
    """

    name: str
    kind: str
    summary: str
    paths: tuple[Path, ...]


def templates() -> tuple[Template, ...]:
    """Every template: presets, then sample prompts, then the project skeleton."""
    root = shared_dir("templates")
    presets = _grouped(path for path in root.glob("*.*") if path.name != FILE_NAME)
    prompts = _grouped((root / "prompts").glob("*.*"))
    return (
        *(Template(name, "preset", _summary(paths[0]), paths) for name, paths in presets.items()),
        *(Template(f"prompts/{name}", "prompts", _summary(paths[0]), paths) for name, paths in prompts.items()),
        Template(
            PROJECT, PROJECT, "A folder to start in: img/ reg/ log/ model/, settings and prompts.", (root / PROJECT,)
        ),
    )


def _grouped(paths: Iterator[Path]) -> dict[str, tuple[Path, ...]]:
    found: dict[str, list[Path]] = {}
    for path in sorted(paths, key=lambda path: (path.stem, _ORDER.index(path.suffix))):
        found.setdefault(path.stem, []).append(path)
    return {name: tuple(files) for name, files in found.items()}


def _summary(path: Path) -> str:
    """The first sentence that the file says about itself."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        return str(json.loads(text).get("kohyakit", "")).split(". ")[0] + "."
    return next((line[2:] for line in text.splitlines() if line.startswith("# ")), "")


def find(name: str) -> tuple[Template, Path]:
    """A template and the file meant: `sd15-subject` is its TOML, `sd15-subject.json` its GUI preset.

    Raises ConfigError with the nearest name.
    """
    known = {template.name: template for template in templates()}
    if name in known:
        return known[name], known[name].paths[0]
    files = {
        (f"prompts/{path.name}" if template.kind == "prompts" else path.name): (template, path)
        for template in known.values()
        for path in template.paths
    }
    if name in files:
        return files[name]
    near = difflib.get_close_matches(name, [*known, *files], n=1)
    cure = f"did you mean '{near[0]}'?" if near else "kohyakit templates list shows them"
    raise ConfigError(Problem("", f"there is no template '{name}'", cure, name="unknown_template"))


def copy(name: str, destination: Path | None = None, *, preset: str = PROJECT_PRESET) -> tuple[Path, ...]:
    """Copy a template; nothing that exists is ever overwritten. Returns what was written, the asked-for file first.

    destination: a file, whose ending chooses between TOML and GUI preset, or a folder to copy into; the template's
    own name in this folder without it. With a TOML come the schema that its first line names and the prompts that
    it draws, unless they are there already.
    preset: for `project`, the settings that the new folder starts with. Raises ConfigError.
    """
    template, source = find(name)
    if template.kind == PROJECT:
        return _copy_project(destination or Path("lora-project"), source, preset)
    target = destination or Path(source.name)
    if target.is_dir():
        target = target / source.name
    elif target.suffix.lower() != source.suffix:
        wanted = [path for path in template.paths if path.suffix == target.suffix.lower() and name == template.name]
        if not wanted:
            kinds = " or ".join(path.suffix for path in template.paths)
            what = f"{name} is a {kinds} file, but {target.name} is not named so"
            raise ConfigError(Problem(str(target), what, "give it that ending, or name a folder that exists"))
        source = wanted[0]
    return (_place(source, target), *_companions(source, target.parent))


def _companions(source: Path, folder: Path) -> Iterator[Path]:
    """The schema and the prompts that a TOML points at, where they are missing."""
    if source.suffix != ".toml" or source.parent.name == "prompts":
        return
    values = tomllib.loads(source.read_text(encoding="utf-8"))
    prompts = values.get("sampling", {}).get("sample_prompts", "")
    for relative in (FILE_NAME, prompts):
        if relative and not (folder / relative).exists():
            yield _place(source.parent / relative, folder / relative)


def _place(source: Path, target: Path) -> Path:
    """One file, written beside its place and renamed into it."""
    if target.exists():
        raise ConfigError(Problem(str(target), "is already there, and is left as it is", "give another name", "exists"))
    try:
        write_text(target, source.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(Problem(str(target), f"cannot be written ({error.strerror})", name="unwritable")) from None
    return target


def _copy_project(target: Path, skeleton: Path, preset: str) -> tuple[Path, ...]:
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        what = "is already there and not empty" if target.is_dir() else "is a file"
        raise ConfigError(Problem(str(target), what, "name a new folder", name="exists"))
    template, settings = find(preset)
    if template.kind != "preset":
        raise ConfigError(Problem("", f"'{preset}' is no preset", "kohyakit templates list shows them"))
    try:
        with folder_in_place_of(target, draft_for(target)) as new:
            shutil.copytree(skeleton, new, dirs_exist_ok=True)
            _place(settings, new / f"train{settings.suffix}")
            list(_companions(settings, new))
            if target.exists():
                target.rmdir()
    except OSError as error:
        raise ConfigError(Problem(str(target), f"cannot be written ({error.strerror})", name="unwritable")) from None
    return (target, *sorted(path for path in target.rglob("*") if path.is_file()))

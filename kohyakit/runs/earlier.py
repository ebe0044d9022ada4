"""What earlier trainings left under the name that a new one writes: moved aside before it does, with a way back.

Files of a run go into `runs/<version>/files`, where its record follows them; files that no run recorded into `replaced`
beside them. So the epochs of two trainings never lie in one row under one name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from kohyakit.config.sections.saving import SavingConfig
from kohyakit.errors import Problem, RunError
from kohyakit.files import free_name, refuse_links
from kohyakit.runs.record_file import unwritable
from kohyakit.runs.run import KEPT_DIR, REPLACED_DIR, RUN_FILE, RUNNING, Run, open_run

VERSION_MARK = "{version}"  # in an output_name: the run's version stands there
_NUMBER = r"(?:-\d{6}|-step\d{8})?"
_MODELS = (".safetensors", ".ckpt", ".pt")


def keep_earlier(run: Run, path: Path) -> Path | None:
    """Before a run writes `path`: move aside what an earlier training left there.

    Returns its new place, or None where there was nothing of another's. Raises RunError.
    """
    if not path.exists() or run.relative(path) in _own(run):
        return None
    return _set_aside(run, path, _owners(run))


def keep_all_earlier(run: Run, folder: Path, name: str, leave: Iterable[Path | str] = ()) -> dict[Path, Path]:
    """Move aside every model and state that earlier trainings left in a folder under an output_name -> old, new place.

    leave: what the run itself starts from. Files of a training that is at work stay. Raises RunError.
    """
    mine, owners = _own(run), _owners(run)
    stay = {os.path.realpath(path) for path in leave if path}
    busy = {owner.folder for owner in set(owners.values()) if owner.status == RUNNING}
    moved = {}
    for path in _under_name(folder, name):
        file = run.relative(path)
        owner = owners.get(file)
        if file in mine or os.path.realpath(path) in stay or (owner is not None and owner.folder in busy):
            continue
        moved[path] = _set_aside(run, path, owners)
    return moved


def restore(run: Run) -> dict[Path, Path]:
    """Put a run's files back where it wrote them, and move aside what lies there under its name -> old, new place.

    Raises RunError where it has none to put back, or a training of that name is at work.
    """
    kept = [checkpoint for checkpoint in run.record.checkpoints if _is_kept(run, checkpoint.file)]
    if not kept:
        raise RunError(
            Problem(run.record.version, "has no files that were moved aside", "its files are where it wrote them")
        )
    targets = {checkpoint.file: run.project / Path(checkpoint.file).name for checkpoint in kept}
    keep_all_earlier(run, run.project, run.record.output_name or SavingConfig().name)
    taken = [target.name for target in targets.values() if target.exists()]
    if taken:
        what = f"{taken[0]} is another file and stays where it is"
        raise RunError(Problem(run.record.version, what, "wait until its training has ended, or move it yourself"))
    moved = {}
    for file, target in targets.items():
        try:
            refuse_links(run.folder, run.folder / KEPT_DIR)
            run.locate(file).rename(target)
        except OSError as error:
            raise unwritable(target, error) from error
        _follow(run, file, target)
        moved[run.locate(file)] = target
    return moved


def with_version(name: str, version: object) -> str:
    """An output_name with the run's version where its mark stands."""
    return name.replace(VERSION_MARK, str(version))


def _under_name(folder: Path, name: str) -> list[Path]:
    """Models and states of an output_name, whichever training wrote them."""
    model = re.compile(re.escape(name) + _NUMBER + "(?:" + "|".join(map(re.escape, _MODELS)) + ")")
    state = re.compile(re.escape(name) + _NUMBER + "-state")
    try:
        with os.scandir(folder) as entries:
            return sorted(
                Path(folder, entry.name)
                for entry in entries
                if (state if entry.is_dir() else model).fullmatch(entry.name)
            )
    except OSError:
        return []


def _own(run: Run) -> set[str]:
    return {checkpoint.file for checkpoint in run.record.checkpoints}


def _owners(run: Run) -> dict[str, Run]:
    """The run that wrote each file last, of the other runs of the project."""
    found: dict[str, Run] = {}
    others = (open_run(file.parent) for file in run.folder.parent.glob(f"*/{RUN_FILE}") if file.parent != run.folder)
    for other in sorted(others, key=lambda other: other.record.created):
        found |= {checkpoint.file: other for checkpoint in other.record.checkpoints if not checkpoint.replaced_by}
    return found


def _set_aside(run: Run, path: Path, owners: dict[str, Run]) -> Path:
    file = run.relative(path)
    owner = owners.get(file)
    kept = free_name(owner.folder / KEPT_DIR / path.name if owner else path.parent / REPLACED_DIR / path.name)
    try:
        refuse_links(kept.parent.parent, kept.parent)
        kept.parent.mkdir(parents=True, exist_ok=True)
        path.rename(kept)
    except OSError as error:
        raise unwritable(path, error) from error
    if owner is not None and owner.problem is None:
        _follow(owner, file, kept)
    return kept


def _follow(run: Run, file: str, place: Path) -> None:
    """Let the record say where a file is now."""
    known = open_run(run.folder).record.checkpoints
    run.update(checkpoints=tuple(replace(c, file=run.relative(place)) if c.file == file else c for c in known))


def _is_kept(run: Run, file: str) -> bool:
    place = run.locate(file)
    return place.parent == run.folder / KEPT_DIR and place.exists()

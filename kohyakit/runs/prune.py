"""Which files of old runs could go, moving them to a trash folder, and back."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kohyakit.errors import Problem, RunError
from kohyakit.files import refuse_links
from kohyakit.runs.record_file import read_json, write_json
from kohyakit.runs.run import (
    FINISHED,
    RUN_FILE,
    RUNNING,
    RUNS_DIR,
    STOPPED,
    UNREADABLE,
    Checkpoint,
    Clock,
    Run,
    now,
    open_run,
)
from kohyakit.runs.version import Version

TRASH_DIR = "trash"  # <project>/runs/trash/<time>/, with a list of where each file came from
LIST_FILE = "moved.json"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file or folder that could go, and why it is not needed. bytes: its size now."""

    run: Run
    checkpoint: Checkpoint
    path: Path
    why: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Moved:
    """What one pruning moved, or brought back. skipped: what could not be, and why."""

    trash: Path
    files: tuple[Path, ...]
    bytes: int
    skipped: tuple[Problem, ...]


def candidates(runs: Sequence[Run], *, keep: Sequence[Path] = (), imported: bool = False) -> tuple[Candidate, ...]:
    """States of trainings that ended well, and models saved on the way to one that has its last.

    A run that still runs, failed or was cut off keeps its newest state, to be resumed from, and its newest model.
    keep: files to be left alone, such as the best checkpoint. imported: also files that Kohya's tools wrote. A file
    outside the project never is one, whatever a record says.
    """
    found = []
    kept = {path.absolute() for path in keep}
    for run in runs:
        if run.status in (UNREADABLE, RUNNING) or (run.record.imported and not imported):
            continue
        for checkpoint, why in _spare(run):
            path = run.locate(checkpoint.file)
            if os.path.exists(path) and path.absolute() not in kept and run.holds(path):
                found.append(Candidate(run, checkpoint, path, why, size_of(path)))
    return tuple(found)


def prune(project: Path, chosen: Sequence[Candidate], *, clock: Clock = now) -> Moved:
    """Move files into a new folder of the trash and note where they came from; the runs' records forget them."""
    trash = project / RUNS_DIR / TRASH_DIR / clock().strftime("%Y%m%d-%H%M%S")
    _no_link(project)
    number = 1
    while trash.exists():
        number += 1
        trash = trash.with_name(f"{trash.name.partition('.')[0]}.{number}")
    moved: list[dict[str, Any]] = []
    files, skipped = [], []
    for candidate in chosen:
        target = trash / str(candidate.run.version) / candidate.path.name
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            # the list goes first: a file that is in the trash is always named in it
            entry: dict[str, Any] = {
                "from": candidate.path.as_posix(), "to": target.relative_to(trash).as_posix(),
                "run": str(candidate.run.version), "checkpoint": asdict(candidate.checkpoint),
            }  # fmt: skip
            write_json(trash / LIST_FILE, {"moved": [*moved, entry]})
            shutil.move(candidate.path, target)
        except OSError as error:
            skipped.append(Problem(str(candidate.path), f"could not be moved ({error.strerror or error})"))
            continue
        moved.append(entry)
        files.append(candidate.path)
        known = open_run(candidate.run.folder).record.checkpoints
        candidate.run.update(checkpoints=tuple(c for c in known if c.file != candidate.checkpoint.file))
    if trash.exists():
        write_json(trash / LIST_FILE, {"moved": moved})
    went = {id(file) for file in files}
    return Moved(trash, tuple(files), sum(c.bytes for c in chosen if id(c.path) in went), tuple(skipped))


def bring_back(project: Path, trash: Path | None = None) -> Moved:
    """Move everything of one pruning (the newest when None) back to where it was.

    A file whose place is taken again stays in the trash and is told. Raises RunError when there is nothing.
    """
    _no_link(project)
    trash = trash or newest_trash(project)
    data = read_json(trash / LIST_FILE) if trash is not None else None
    if trash is None or data is None:
        raise RunError(Problem(str(project), "nothing was pruned that could be brought back"))
    moved = data.get("moved")
    files, left, skipped, size = [], [], [], 0
    for entry in moved if isinstance(moved, list) else [None]:
        if entry is None or not _is_sound(project, trash, entry):
            what = "holds an entry that no pruning of this project wrote, and that was not followed"
            skipped.append(Problem(str(trash / LIST_FILE), what, "look at the files beside it by hand"))
            left.append(entry)
            continue
        source, target = trash / entry["to"], project / entry["from"]
        if not os.path.exists(source):
            continue
        if os.path.exists(target):
            skipped.append(Problem(str(target), "is there again, so the pruned one stays in the trash", str(source)))
            left.append(entry)
            continue
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(source, target)
        except OSError as error:
            skipped.append(Problem(str(target), f"could not be brought back ({error.strerror or error})", str(source)))
            left.append(entry)
            continue
        files.append(target)
        size += size_of(target)
        _remember(project / RUNS_DIR / entry["run"], Checkpoint(**entry["checkpoint"]))
    if left:
        write_json(trash / LIST_FILE, {"moved": left})
    else:
        shutil.rmtree(trash, ignore_errors=True)
    return Moved(trash, tuple(files), size, tuple(skipped))


def _no_link(project: Path) -> None:
    try:
        refuse_links(project, project / RUNS_DIR / TRASH_DIR)
    except OSError as error:
        raise RunError(Problem(str(error.filename), str(error.strerror), "put a real folder there")) from error


def _is_sound(project: Path, trash: Path, entry: Any) -> bool:
    """Both ends inside: the file in this trash, its old place in the project."""
    try:
        source, target = (trash / entry["to"]).resolve(), (project / entry["from"]).resolve()
        Checkpoint(**entry["checkpoint"])
        return (
            source.is_relative_to(trash.resolve())
            and target.is_relative_to(project.resolve())
            and Version.is_version(entry["run"])
        )
    except (KeyError, TypeError, ValueError, OSError, RuntimeError):
        return False


def newest_trash(project: Path) -> Path | None:
    """The folder of the last pruning that can be brought back."""
    found = [path.parent for path in (project / RUNS_DIR / TRASH_DIR).glob(f"*/{LIST_FILE}")]
    return max(found, key=lambda path: path.name, default=None)


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return path.stat().st_size


def _spare(run: Run) -> list[tuple[Checkpoint, str]]:
    own = [checkpoint for checkpoint in run.record.checkpoints if not checkpoint.replaced_by]
    states = [checkpoint for checkpoint in own if checkpoint.kind == "state"]
    models = [checkpoint for checkpoint in own if checkpoint.kind == "model"]
    states.sort(key=lambda state: _written(run, state))
    if run.status not in (FINISHED, STOPPED):
        return [(state, "an older state; the newest stays for resuming") for state in states[:-1]]
    spare = [(state, "only needed to resume; the training has ended") for state in states]
    last = _last(run, models)
    if last is not None:
        spare += [(model, f"{Path(last.file).name} is the result") for model in models if model.file != last.file]
    return spare


def _written(run: Run, checkpoint: Checkpoint) -> tuple[int, float]:
    path = run.locate(checkpoint.file)
    return checkpoint.step or 0, path.stat().st_mtime if os.path.exists(path) else 0.0


def _last(run: Run, models: Sequence[Checkpoint]) -> Checkpoint | None:
    """The training's result: the file under its plain name, else the one that went furthest."""
    present = [model for model in models if os.path.exists(run.locate(model.file))]
    plain = [model for model in present if Path(model.file).stem == run.record.output_name]
    furthest = sorted(present, key=lambda model: (model.step or 0, model.epoch or 0))
    return next(reversed(plain or furthest), None)


def _remember(folder: Path, checkpoint: Checkpoint) -> None:
    if (folder / RUN_FILE).exists():
        with contextlib.suppress(RunError):
            run = open_run(folder)
            others = (known for known in run.record.checkpoints if known.file != checkpoint.file)
            run.update(checkpoints=(*others, checkpoint))

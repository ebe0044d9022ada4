"""Mend what an audit found, with a way back for every byte.

Plan first (repair_plan), then one step an image: the new file is written aside, the step is put in the journal, and
only then is anything moved (journal). Nothing is deleted; `undo_repair` puts everything back as it was.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kohyakit.audit.repair.captions import NotMended, recoded
from kohyakit.audit.repair.journal import Journal, latest, runs
from kohyakit.audit.repair.journal_reading import UNDO_FOLDER
from kohyakit.audit.repair.mend import CannotMend, mend
from kohyakit.audit.repair.plan import RepairOptions, RepairPlan, Step, plan_repairs
from kohyakit.errors import DatasetError, Problem
from kohyakit.files import read_bytes, refuse_links

if TYPE_CHECKING:
    from kohyakit.audit.report.report import AuditReport

CHECKS = ("decode", "exif_orientation", "format", "exact_duplicate", "captions")


@dataclass(frozen=True)
class Repair:
    """done: steps made (planned ones in a dry run), with how. problems: what could not be mended, or is left to you.

    undo_folder: where the originals are; None when nothing was changed.
    """

    root: Path
    dry_run: bool
    done: tuple[tuple[Step, str], ...] = ()
    problems: tuple[Problem, ...] = ()
    undo_folder: Path | None = None
    resumed: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain values, paths relative to the root (what `--json` prints)."""
        return {
            "root": str(self.root),
            "dry_run": self.dry_run,
            "resumed": self.resumed,
            "undo_folder": str(self.undo_folder) if self.undo_folder else None,
            "steps": [_step_data(self.root, step, how) for step, how in self.done],
            "problems": [asdict(problem) for problem in self.problems],
        }


@dataclass(frozen=True)
class Undone:
    """folder: of the run that was taken back; None when there was none. edited: files that were changed after the
    repair, with where they are kept now that the originals are back.
    """

    root: Path
    folder: Path | None
    problems: tuple[Problem, ...] = field(default=())
    edited: tuple[Problem, ...] = field(default=())


def repair_dataset(
    dir: Path | str,
    *,
    options: RepairOptions | None = None,
    dry_run: bool = False,
    resume: bool = False,
    report: AuditReport | None = None,
    workers: int | None = None,
    progress: bool = False,
) -> Repair:
    """Mend a folder of photos: turn upright, convert, rename, set aside what does not decode and what is twice.

    dir: any folder that can be audited. report: an audit of it, made now without. A run that was killed is finished
    first; resume: also one that was begun elsewhere and came with the folder. Raises DatasetError for a folder that
    cannot be read, that another repair is at work on or whose journal is not to be trusted, ConfigError for options.
    """
    root = Path(dir)
    options = options or RepairOptions()
    resumed = False
    with contextlib.nullcontext() if dry_run else _alone(root):
        killed = _unfinished(root, resume)
        if killed is not None and not dry_run:
            killed.resume()
            report, resumed = None, True
        report = report or _audit(root, options, workers, progress)
        plan = plan_repairs(report, options)
        if dry_run:
            return Repair(root, True, tuple((step, "") for step in plan.steps), plan.left)
        return _carry_out(plan, options, killed, resumed)


def undo_repair(dir: Path | str) -> Undone:
    """Take the last repair back: every file as it was, bytes, name and time. Again, and the one before it is next.

    Raises DatasetError for a folder that is not there or that a repair is at work on.
    """
    root = Path(dir)
    with _alone(root):
        journal = latest(root, ("open", "finished"))
        if journal is None:
            return Undone(root, None)
        edited = _edited_since(journal)
        return Undone(root, journal.folder, tuple(journal.undo()), _kept(edited))


def _edited_since(journal: Journal) -> list[tuple[Path, Path]]:
    """(file, where an undo moves it) of files that the repair made and that were changed since."""
    found = []
    for record in journal.records:
        made = record.get("made")
        if not isinstance(made, dict):
            continue
        for move in record["moves"]:
            path = journal.root / move["target"]
            if move["target"] in made and path.is_file() and _digest(path.read_bytes()) != made[move["target"]]:
                found.append((path, journal.root / move["source"]))
    return found


def _kept(edited: list[tuple[Path, Path]]) -> tuple[Problem, ...]:
    """Of these, what was moved aside."""
    what = "was changed after the repair; the original is back, and the changed file is now {}"
    return tuple(
        Problem(str(path), what.format(aside), "take it from there if you want it", "edited_since", "warning")
        for path, aside in edited
        if aside.is_file()
    )


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _unfinished(root: Path, resume: bool) -> Journal | None:
    """The run that was killed. Raises DatasetError for one that did not begin here, unless it is to be gone on with."""
    for journal in (journal for journal in reversed(runs(root)) if journal.state == "open" and journal.moves):
        if resume or journal.is_ours:
            return journal
        what = "is a repair that was begun elsewhere and not finished, so nothing of it was done"
        cure = "go on with it by --resume, take it back by --undo, or move the folder away if it is not yours"
        raise DatasetError(Problem(str(journal.folder), what, cure, "journal_from_elsewhere"))
    return None


def _audit(root: Path, options: RepairOptions, workers: int | None, progress: bool) -> AuditReport:
    from kohyakit.audit.run import audit_dataset

    checks = (*CHECKS, "near_duplicate") if options.duplicates == "near" else CHECKS
    return audit_dataset(root, checks=checks, workers=workers, progress=progress)


def _carry_out(plan: RepairPlan, options: RepairOptions, journal: Journal | None, resumed: bool) -> Repair:
    done: list[tuple[Step, str]] = []
    problems = list(plan.left)
    for step in plan.steps:
        try:
            data, how = _prepared(step, options)
            if journal is None:
                journal = Journal.begin(plan.root, {"options": asdict(options)})
            _make(journal, step, data, how)
            done.append((step, how))
        except CannotMend as error:
            problems.append(Problem(_name(plan.root, step.path), str(error), "see to it by hand"))
        except OSError as error:
            what = f"could not be changed ({error.strerror or error})"
            linked = error.errno == errno.ELOOP
            cure = f"{'put a real folder there' if linked else 'close what has it open'} and run the repair again"
            problems.append(Problem(_name(plan.root, step.path), what, cure))
    if journal is not None:
        journal.finish()
    folder = journal.folder if journal else None
    return Repair(plan.root, False, tuple(done), tuple(problems), folder, resumed)


def _prepared(step: Step, options: RepairOptions) -> tuple[bytes | None, str]:
    """The new file's bytes, None where the file only moves. Raises CannotMend, OSError."""
    if step.kind == "recode":
        try:
            return recoded(step.path.read_bytes()), "saved as UTF-8"
        except NotMended as error:
            raise CannotMend(str(error.args[0])) from error
    if step.kind != "rewrite":
        return None, "moved with its caption" if step.companions else "moved"
    data = step.path.read_bytes()
    if _digest(data) != step.digest:
        raise CannotMend("changed since it was examined; run the repair again")
    mended = mend(
        data, step.format, step.orientation, step.actions, background=options.background, longest=options.shrink
    )
    return mended.data, mended.how


def _make(journal: Journal, step: Step, data: bytes | None, how: str) -> None:
    moves: list[tuple[Path, Path]] = []
    made: dict[str, str] = {}  # what is new, so that an undo can say what was changed since
    if data is None and os.path.lexists(step.target):  # its own name in other letters, to this disk the same
        aside = journal.place_for(step.path)
        moves += [(step.path, aside), (aside, step.target)]
    elif data is None:
        moves.append((step.path, step.target))
    else:
        made[_name(journal.root, step.target)] = _digest(data)
        staged = journal.stage(step.target.name, data)
        with contextlib.suppress(OSError):
            os.chmod(staged, step.path.stat().st_mode & 0o777)
        moves += [(step.path, journal.place_for(step.path)), (staged, step.target)]
    moves += step.companions
    for source, target in step.copies:
        text = source.read_bytes()
        made[_name(journal.root, target)] = _digest(text)
        moves.append((journal.stage(target.name, text), target))
    moves += [(cache, journal.place_for(cache)) for cache in step.caches]
    journal.step({"kind": step.kind, "reason": step.reason, "how": how, "made": made}, moves)


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[None]:
    """One repair at a time: a lock that a killed process does not leave behind. Raises DatasetError."""
    from kohyakit.runs.process import this_process

    if not root.is_dir():
        raise DatasetError(Problem(str(root), "is no folder", "name the folder that holds your photos"))
    folder = root / UNDO_FOLDER
    lock = folder / "lock"
    made = not folder.exists()
    try:
        refuse_links(root, folder, lock)
        folder.mkdir(exist_ok=True)
        if os.path.lexists(lock):
            _must_be_stale(root, lock)
        lock.write_text(json.dumps(asdict(this_process())), encoding="utf-8")
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise DatasetError(Problem(str(root), str(error.strerror), "take the link away")) from error
        what = f"nothing can be written there ({error.strerror})"
        raise DatasetError(Problem(str(root), what, "allow writing to it, or copy the photos elsewhere")) from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            lock.unlink()
            if made:
                folder.rmdir()  # only where nothing was changed: an undo folder is never empty


def _must_be_stale(root: Path, lock: Path) -> None:
    """Raises DatasetError where a repair that lives holds the lock, or one of which that cannot be told."""
    from kohyakit.runs.process import Process, is_alive

    try:
        holder = Process(**json.loads(read_bytes(lock, 4096)))
        lives = is_alive(holder)
    except FileNotFoundError:
        return
    except OSError as error:
        what = f"is no lock of a repair ({error.strerror})"
        raise DatasetError(Problem(str(lock), what, "delete it and try again")) from error
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return  # cut short when it was written, so nothing was changed under it
    if lives:
        raise DatasetError(Problem(str(root), "another repair is at work on it", "wait until it has ended"))
    if lives is None:
        what = f"says that a repair is at work on the machine {str(holder.host)[:60]!r}"
        raise DatasetError(Problem(str(lock), what, "wait until it has ended; delete this file if there is none"))


def _step_data(root: Path, step: Step, how: str) -> dict[str, Any]:
    return {
        "path": _name(root, step.path),
        "kind": step.kind,
        "reason": step.reason,
        "target": _name(root, step.target),
        "actions": list(step.actions),
        "how": how,
        "companions": [{"path": _name(root, one), "target": _name(root, other)} for one, other in step.companions],
        "copies": [{"path": _name(root, one), "target": _name(root, other)} for one, other in step.copies],
        "caches": [_name(root, cache) for cache in step.caches],
    }


def _name(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()

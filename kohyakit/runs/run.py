"""A run's folder: what stands in it, how it is written, and what its state is now.

<output_dir>/runs/<version>/
    run.json       the record below; every later change goes through `Run.update`
    settings.json  every parameter in force, secrets left out
    source.<ext>   the preset or TOML as it was given, secrets blotted out
    config.toml    the same as sd-scripts takes it
    plan.json      what was going to happen
    dataset.json   every image and caption (see dataset.fingerprint)
    progress.json  where the training stands, rewritten while it runs
    metrics.json   the curves in numbers, taken from the logs; may be deleted
    log.txt        what the training printed
    stop           asks the training to end after its current step
    files/         models that a later training of the same output_name would have written over
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from pathlib import Path
from types import UnionType
from typing import Any, cast, get_args, get_origin, get_type_hints

from kohyakit import files
from kohyakit.dataset.fingerprint import Fingerprint
from kohyakit.errors import Problem, RunError
from kohyakit.runs.process import Process, is_alive
from kohyakit.runs.record_file import LARGEST, locked, read_json, read_text, write_json
from kohyakit.runs.version import Version

RUNS_DIR = "runs"
RUN_FILE = "run.json"
SETTINGS_FILE = "settings.json"
SOURCE_STEM = "source"
CONFIG_FILE = "config.toml"
PLAN_FILE = "plan.json"
DATASET_FILE = "dataset.json"
PROGRESS_FILE = "progress.json"
METRICS_FILE = "metrics.json"
LOG_FILE = "log.txt"
STOP_FILE = "stop"
KEPT_DIR = "files"  # models that a later run would have written over
REPLACED_DIR = "replaced"  # the same for files that no run recorded

PLANNED, RUNNING, FINISHED = "planned", "running", "finished"
STOPPED, FAILED, INTERRUPTED = "stopped", "failed", "interrupted"
STATUSES = (PLANNED, RUNNING, FINISHED, STOPPED, FAILED, INTERRUPTED)
LOST = "lost"  # never written: said of a running run whose process is gone
UNREADABLE = "unreadable"  # never written: said of a folder whose run.json cannot be read

_FORMAT = 1
_SILENT_SECONDS = 600.0  # a run on another machine that has said nothing for so long counts as lost
_PROGRESS_SECONDS = 1.0  # progress.json is rewritten at most so often

Clock = Callable[[], datetime]


def now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A file or folder that the run wrote. kind: model (what people use), state (to resume from).

    replaced_by: the later run that wrote over it, as happens under one output_name; "" while it is this run's own.
    """

    file: str
    kind: str = "model"
    epoch: int | None = None
    step: int | None = None
    bytes: int = 0
    replaced_by: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """run.json. Paths are relative to the project where they lie in it (forward slashes), else absolute.

    Times are ISO 8601 in UTC. logs: folders with event files, a further one for each time it was resumed.
    images, captions: fingerprints; images_by_name: what an imported run's files tell of its images.
    changes: what differs from the parent, in words. cwd: the folder that relative paths of the settings start from.
    best: the lowest measured loss: its tag, loss, error, step, epoch and file, "" where none was kept of it.
    verdict: what was found in its LoRA when it had ended (see runs.verdict). extra: keys that a newer kohyakit wrote,
    kept.
    """

    version: str
    status: str = PLANNED
    parent: str = ""
    name: str = ""
    note: str = ""
    outcome: str = ""
    changes: tuple[str, ...] = ()
    resumed_from: str = ""
    cwd: str = ""
    output_name: str = ""
    images: str = ""
    images_by_name: str = ""
    image_count: int = 0
    reg_count: int = 0
    captions: str = ""
    caption_count: int = 0
    steps: int | None = None
    epochs: int | None = None
    created: str = ""
    started: str = ""
    ended: str = ""
    seconds: float | None = None
    device: str = ""
    seeds: Mapping[str, int | None] = field(default_factory=dict)
    packages: Mapping[str, str] = field(default_factory=dict)
    logs: tuple[str, ...] = ()
    samples: str = ""
    checkpoints: tuple[Checkpoint, ...] = ()
    process: Process | None = None
    imported: Mapping[str, Any] = field(default_factory=dict)
    best: Mapping[str, Any] = field(default_factory=dict)
    verdict: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        data = asdict(self)
        return {"format": _FORMAT, **data.pop("extra"), **data}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Record:
        """Raises KeyError, TypeError or ValueError for a record that is not one."""
        known = {f.name for f in fields(cls)} - {"extra"}
        values = {name: value for name, value in data.items() if name in known}
        for name in ("changes", "logs"):
            values[name] = tuple(str(item) for item in values.get(name, ()))
        values["checkpoints"] = tuple(_known(Checkpoint, item) for item in values.get("checkpoints", ()))
        if values.get("process"):
            values["process"] = _known(Process, values["process"])
        extra = {name: data[name] for name in data if name not in known and name != "format"}
        return _checked(cls(**values, extra=extra))


def _known(cls: type[Any], data: Mapping[str, Any]) -> Any:
    """A value from its JSON, keys of a newer kohyakit left out. Raises TypeError for one of another kind."""
    names = {f.name for f in fields(cls)}
    return _checked(cls(**{name: value for name, value in data.items() if name in names}))


def _checked(value: Any) -> Any:
    """The value, each field of the kind that it is declared as. Raises TypeError."""
    for name, kinds in _kinds(cast(Any, type(value))).items():
        if not isinstance(getattr(value, name), kinds):
            raise TypeError(f"{name} is {str(getattr(value, name))[:60]!r}")
    return value


@lru_cache(maxsize=8)
def _kinds(cls: type[Any]) -> dict[str, tuple[type, ...]]:
    found = {}
    for name, hint in get_type_hints(cls).items():
        kinds = tuple(get_origin(one) or one for one in (get_args(hint) if isinstance(hint, UnionType) else (hint,)))
        found[name] = (*kinds, int) if float in kinds else kinds
    return found


class Run:
    """One training: a folder and its record. Two Runs of the same folder are equal.

    A folder that cannot be read is a Run too: its status is `unreadable` and `problem` says why.
    """

    def __init__(self, folder: Path, record: Record, problem: Problem | None = None, *, clock: Clock = now) -> None:
        self.folder = Path(folder)
        self.record = record
        self.problem = problem
        self.owned = False  # by this process, which made it: its folder is made again when it was deleted
        self._clock = clock
        self._last_progress = 0.0

    def __repr__(self) -> str:
        return f"Run({self.record.version}, {self.status})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Run) and self.folder == other.folder

    def __hash__(self) -> int:
        return hash(self.folder)

    @property
    def version(self) -> Version:
        return Version.parse(self.record.version)

    @property
    def project(self) -> Path:
        """The folder that holds `runs`; for a run made here, its output_dir."""
        return self.folder.parent.parent

    @property
    def status(self) -> str:
        """The recorded status, or `lost` for a running one whose process is gone, or `unreadable`."""
        if self.problem is not None:
            return UNREADABLE
        if self.record.status != RUNNING or self.record.process is None:
            return self.record.status
        alive = is_alive(self.record.process)
        if alive is None:
            alive = self._clock().timestamp() - self._last_sign() < _SILENT_SECONDS
        return RUNNING if alive else LOST

    @property
    def logs(self) -> tuple[Path, ...]:
        return tuple(self.locate(path) for path in self.record.logs)

    @property
    def samples(self) -> Path | None:
        return self.locate(self.record.samples) if self.record.samples else None

    @property
    def log_file(self) -> Path:
        return self.folder / LOG_FILE

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Every parameter that was in force; {} where none were recorded."""
        return read_json(self.folder / SETTINGS_FILE) or {}

    @cached_property
    def dataset(self) -> Fingerprint:
        """The images and captions; an empty one where none were recorded."""
        data = read_json(self.folder / DATASET_FILE)
        with contextlib.suppress(KeyError, TypeError):
            if data:
                return Fingerprint.from_json(data)
        return Fingerprint(self.record.images, self.record.captions)

    def plan(self) -> dict[str, Any]:
        """plan.json as data; {} without one."""
        return read_json(self.folder / PLAN_FILE) or {}

    def progress(self) -> dict[str, Any]:
        """The newest progress.json: `time` (UTC, seconds) and what the training told; {} without one."""
        return read_json(self.folder / PROGRESS_FILE) or {}

    def locate(self, path: str) -> Path:
        """A path of the record as it is on this machine."""
        return self.project / path

    def has(self, path: str) -> bool:
        """Whether a file or folder of the record is there; a record from elsewhere may name what no file can be."""
        try:
            return self.locate(path).exists()
        except (OSError, ValueError):
            return False

    def holds(self, path: Path) -> bool:
        """Whether a file really lies in the project, links followed; a record from elsewhere may name any."""
        try:
            return path.resolve().is_relative_to(self.project.resolve())
        except (OSError, ValueError, RuntimeError):
            return False

    def relative(self, path: Path | str) -> str:
        """A path as the record keeps it: relative to the project where it lies in it."""
        return relative_to(path, self.project)

    def update(self, **values: Any) -> Run:
        """Change fields of the record on disk, whatever others changed meanwhile, and here.

        Values of `logs`, `samples` and checkpoints' files may be given as Paths.
        Raises RunError for a status that is none, when run.json cannot be written, and for a damaged record, which
        is not written over.
        """
        if self.problem is not None:
            raise RunError(self.problem)
        if values.get("status", PLANNED) not in STATUSES:
            what = f"status {values['status']!r} is unknown"
            raise RunError(Problem(str(self.folder), what, f"one of {', '.join(STATUSES)}"))
        if "logs" in values:
            values["logs"] = tuple(self.relative(path) for path in values["logs"])
        if values.get("samples"):
            values["samples"] = self.relative(values["samples"])
        if "checkpoints" in values:
            values["checkpoints"] = tuple(replace(c, file=self.relative(c.file)) for c in values["checkpoints"])
        self._refuse_links(RUN_FILE)
        if self.owned:
            self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.folder / RUN_FILE):
            on_disk = read_json(self.folder / RUN_FILE)
            with contextlib.suppress(KeyError, TypeError, ValueError):
                if on_disk is not None:
                    self.record = Record.from_json(on_disk)
            self.record = replace(self.record, **values)
            write_json(self.folder / RUN_FILE, self.record.to_json())
        return self

    def add_checkpoint(
        self, path: Path, *, kind: str = "model", epoch: int | None = None, step: int | None = None
    ) -> None:
        """Note a file or folder that was written; earlier runs of the project that wrote the same one lose it."""
        size = path.stat().st_size if path.is_file() else sum(f.stat().st_size for f in path.rglob("*") if f.is_file())
        new = Checkpoint(self.relative(path), kind, epoch, step, size)
        self.update(checkpoints=(*(c for c in self.record.checkpoints if c.file != new.file), new))
        for record in self.folder.parent.glob(f"*/{RUN_FILE}"):
            if record.parent != self.folder and f'"{new.file}"' in files.read_text(record, LARGEST, errors="replace"):
                _replace_checkpoint(open_run(record.parent), new.file, self.record.version)

    def report(self, **values: Any) -> None:
        """Say where the training stands (step, steps, epoch, epochs, loss …); cheap, call it every step."""
        moment = time.monotonic()
        done = values.get("step") is not None and values.get("step") == values.get("steps")
        if moment - self._last_progress < _PROGRESS_SECONDS and not done:
            return
        self._last_progress = moment
        with contextlib.suppress(OSError):  # a full disk must not end a training over its progress bar
            write_json(self.folder / PROGRESS_FILE, {"time": self._clock().timestamp(), **values}, sync=False)

    def finish(self, status: str, outcome: str = "", **values: Any) -> Run:
        """Record how it ended: finished, stopped, failed or interrupted, and in a sentence with what result."""
        ended = self._clock()
        started = datetime.fromisoformat(self.record.started) if self.record.started else ended
        seconds = round((ended - started).total_seconds(), 3)
        (self.folder / STOP_FILE).unlink(missing_ok=True)
        return self.update(
            status=status, outcome=outcome, ended=timestamp(ended), seconds=seconds, process=None, **values
        )

    def request_stop(self) -> None:
        """Ask the training to end after its current step, saving what it has. Raises RunError for a link in the way."""
        self._refuse_links(STOP_FILE)
        (self.folder / STOP_FILE).touch()

    def stop_requested(self) -> bool:
        return os.path.lexists(self.folder / STOP_FILE)

    def _refuse_links(self, name: str) -> None:
        """A project from elsewhere may have links in the place of its runs: nothing is written through one."""
        for place in (self.folder.parent, self.folder, self.folder / name):
            if files.is_link(place):
                raise RunError(Problem(str(place), "is a link, and nothing is written through one", "remove it"))

    def _last_sign(self) -> float:
        """When the training last wrote something of its own (seconds since 1970)."""
        signs = [self.folder / PROGRESS_FILE, self.folder / LOG_FILE, self.folder / RUN_FILE]
        times = [path.stat().st_mtime for path in signs if path.exists()]
        return max(times, default=0.0)


def open_run(path: Path | str) -> Run:
    """The run of a folder, even a damaged one (see Run.problem). Raises RunError where there is no such folder."""
    folder = Path(path).absolute()
    if folder.name == RUN_FILE:
        folder = folder.parent
    if not folder.is_dir():
        raise RunError(Problem(str(path), "there is no such run", "kohyakit runs list shows those there are"))
    version = folder.name if Version.is_version(folder.name) else "1a"
    file = folder / RUN_FILE
    try:
        record = Record.from_json(json.loads(read_text(file)))
        Version.parse(record.version)
    except FileNotFoundError:
        cure = "the run was cut off before it began, or the file was deleted"
        problem = Problem(f"{folder.name}/{RUN_FILE}", "is missing", cure)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, RunError) as error:
        cure = "the other files of the run stand beside it"
        problem = Problem(f"{folder.name}/{RUN_FILE}", f"cannot be read ({error})", cure)
    else:
        return Run(folder, record)
    return Run(folder, Record(version=version), problem)


def _replace_checkpoint(run: Run, file: str, version: str) -> None:
    """Mark that another run wrote over a file; a damaged record is left as it is."""
    if run.problem is None:
        marked = (replace(c, replaced_by=version) if c.file == file else c for c in run.record.checkpoints)
        run.update(checkpoints=tuple(marked))


def timestamp(moment: datetime) -> str:
    """A moment as the record keeps it: UTC, to the second, `2026-11-23T07:30:46+00:00`."""
    return moment.astimezone(UTC).isoformat(timespec="seconds")


def relative_to(path: Path | str, base: Path) -> str:
    """A path with forward slashes, relative to `base` where it lies in it, else absolute."""
    path = Path(path)
    if not path.is_absolute():
        return path.as_posix()
    try:
        return path.resolve().relative_to(base.resolve()).as_posix()
    except (ValueError, OSError):
        return path.as_posix()

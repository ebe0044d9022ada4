"""Start a training, or a model that captions, as a process of its own: it outlives page, browser and dashboard."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kohyakit.dashboard.read.project import Outside, Project
from kohyakit.errors import Problem, RunError
from kohyakit.files import open_regular
from kohyakit.resources import safe_environment
from kohyakit.runs.process import Process, birth, is_alive, this_host
from kohyakit.runs.record_file import read_json, write_json

STARTS_DIR = ".kohyakit/starts"
CAPTIONS_DIR = ".kohyakit/captionings"
_children: dict[int, subprocess.Popen] = {}


@dataclass(frozen=True)
class Start:
    """What was started here. log: what it printed, of a training before its run had a log of its own, and after.

    preset, file: the preset's name and path, of a captioning the folder's; file is "" in notes of older dashboards.
    """

    name: str
    preset: str
    time: float
    process: Process
    log: Path
    file: str = ""

    @property
    def alive(self) -> bool:
        child = _children.get(self.process.pid)
        if child is not None:
            child.poll()
        return bool(is_alive(self.process))

    @property
    def exit_code(self) -> int | None:
        """Known only of a training that this very dashboard started and that has ended."""
        child = _children.get(self.process.pid)
        return child.poll() if child is not None else None

    @property
    def is_ours(self) -> bool:
        """Whether this very dashboard started it: no other process is ever stopped, whatever a note says."""
        return self.process.pid in _children

    def stop(self) -> None:
        """End it as Ctrl-C does, where the system can tell another process so; what is done is kept."""
        with contextlib.suppress(OSError):
            if self.is_ours and self.alive:
                _children[self.process.pid].send_signal(signal.SIGTERM if os.name == "nt" else signal.SIGINT)


def start(project: Project, preset: Path, *, skip_bad_images: bool = False) -> Start:
    """Run `kohyakit train PRESET` in the project's folder, detached. Raises RunError when it cannot be started.

    skip_bad_images: leave out images that do not decode instead of stopping at them.
    """
    more = ["--skip-bad-images"] if skip_bad_images else []
    return _begin(project, STARTS_DIR, ["train", str(preset), *more], preset)


def start_captions(project: Project, folder: Path, options: Sequence[str]) -> Start:
    """Run `kohyakit caption FOLDER` with these options, detached. Raises RunError when it cannot be started."""
    return _begin(project, CAPTIONS_DIR, ["caption", str(folder), *options], folder)


def _begin(project: Project, notes: str, arguments: Sequence[str], about: Path) -> Start:
    """notes: the folder of the project in which the start is noted, and its log kept."""
    folder = project.inside(notes)
    name = time.strftime("%Y%m%d-%H%M%S")
    command = [sys.executable, "-P", "-m", "kohyakit", *arguments]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        while (folder / f"{name}.json").exists():
            name += "a"
        log = folder / f"{name}.log"
        with log.open("xb") as out:
            child = subprocess.Popen(
                command, cwd=project.root, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, **_detached()
            )
        _children[child.pid] = child
        process = Process(child.pid, birth(child.pid) or "", this_host())
        begun = Start(name, about.name, time.time(), process, log, str(about))
        write_json(folder / f"{name}.json", {**asdict(begun), "log": log.name})
    except OSError as error:
        what, cure = f"could not be started ({error.strerror})", f"start it in a terminal: kohyakit {arguments[0]}"
        raise RunError(Problem(about.name, what, cure)) from error
    return begun


def _detached() -> dict[str, Any]:
    """So that neither closing the terminal nor Ctrl+C in it reaches the training. UTF-8 for what it prints."""
    environment = {**os.environ, **safe_environment(), "PYTHONIOENCODING": "utf-8", "PYTHONUNBUFFERED": "1"}
    if sys.platform == "win32":
        flags = subprocess.DETACHED_PROCESS | subprocess.CREATE_NEW_PROCESS_GROUP
        return {"env": environment, "creationflags": flags, "close_fds": True}
    return {"env": environment, "start_new_session": True}


def starts(project: Project, most: int = 8, notes: str = STARTS_DIR) -> tuple[Start, ...]:
    """The newest trainings that were started from the dashboard, newest first; with CAPTIONS_DIR, what captions were.

    What cannot be read is passed over.
    """
    folder = project.inside(notes)
    found = []
    try:
        files = sorted(folder.glob("*.json"), reverse=True)[:most]
    except OSError:
        return ()
    for file in files:
        try:
            found.append(_start(project, folder, read_json(file) or {}))
        except (KeyError, TypeError, ValueError, OverflowError, OSError, Outside):
            continue
    return tuple(found)


def _start(project: Project, folder: Path, data: Mapping[str, Any]) -> Start:
    """From its note. Raises one of many errors for a note of somebody else's."""
    process = Process(**data["process"])
    told = (data["name"], data["preset"], process.born, process.host)
    if not isinstance(process.pid, int) or not all(isinstance(text, str) for text in told):
        raise TypeError("no note of ours")
    begun = float(data["time"])
    datetime.fromtimestamp(begun, UTC)  # a moment that there can be
    log = project.inside(folder / Path(data["log"]).name)
    return Start(data["name"], data["preset"], begun, process, log, str(data.get("file") or ""))


def tail(path: Path, lines: int = 30, most_bytes: int = 32_768) -> str:
    """The end of a text file; of a progress bar that redraws its line only the last state. Empty when there is none."""
    try:
        with open_regular(path) as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - most_bytes))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
    kept = [line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n")]
    return "\n".join([line for line in kept if line.strip()][-lines:])


def memory_of(process: Process) -> int | None:
    """Bytes of main memory that a process holds now; None where the system does not tell without further packages."""
    if is_alive(process) is not True:
        return None
    try:
        for line in Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None

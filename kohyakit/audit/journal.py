"""Changes to a person's files that can always be taken back.

Every change is a list of moves: the original into the undo folder, the new file from there to its place. A step's
moves are written to the journal and forced to disk before the first of them is made. A move is done when its source
is gone and its target is there, so a run that was killed can be finished, or undone, from the journal alone, again
and again. Nothing is deleted, and a moved file keeps its bytes and its time.

.kohyakit_undo/<time>/journal.jsonl   one object a line: run | step | finished | undone
.kohyakit_undo/<time>/originals/      what was replaced or set aside
.kohyakit_undo/<time>/new/            new files before they are put in place, and again after an undo
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kohyakit.errors import Problem

UNDO_FOLDER = ".kohyakit_undo"
_JOURNAL = "journal.jsonl"


@dataclass(frozen=True, slots=True)
class Move:
    """Both ends relative to the root, with forward slashes."""

    source: str
    target: str


@dataclass
class Journal:
    """One run of repairs below `root`; `folder` is its undo folder."""

    root: Path
    folder: Path
    _count: int = field(default=0, repr=False)

    @classmethod
    def begin(cls, root: Path, about: dict[str, Any]) -> Journal:
        """A new run; a run that was killed is gone on with instead (see resume)."""
        stamp = time.strftime("%Y%m%d-%H%M%S")
        for suffix in ("", *(f"-{number}" for number in range(2, 1000))):
            folder = root / UNDO_FOLDER / (stamp + suffix)
            try:
                folder.mkdir(parents=True)
                break
            except FileExistsError:
                continue
        journal = cls(root, folder)
        (folder / "originals").mkdir()
        (folder / "new").mkdir()
        journal._write({"event": "run", "version": 1, **about})
        return journal

    @property
    def records(self) -> list[dict[str, Any]]:
        """All whole lines; a line that a crash cut short never took effect."""
        found = []
        try:
            text = (self.folder / _JOURNAL).read_text(encoding="utf-8")
        except FileNotFoundError:
            return found
        for line in text.splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
        return found

    @property
    def state(self) -> str:
        """`open`, `finished` or `undone`."""
        events = {record.get("event") for record in self.records}
        return "undone" if "undone" in events else "finished" if "finished" in events else "open"

    def stage(self, name: str, data: bytes) -> Path:
        """Put a new file's bytes into the undo folder, forced to disk; `step` then moves it into place."""
        path = self._free("new", name)
        with open(path, "xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        return path

    def place_for(self, path: Path) -> Path:
        """Where an original is set aside in the undo folder."""
        return self._free("originals", path.name)

    def _free(self, part: str, name: str) -> Path:
        while True:
            self._count += 1
            # a long name plus the number could pass 255 bytes
            kept = name if len(os.fsencode(name)) <= 200 else "long" + Path(name).suffix[:20]
            path = self.folder / part / f"{self._count:06d}_{kept}"
            if not path.exists():
                return path

    def step(self, about: dict[str, Any], moves: Sequence[tuple[Path, Path]]) -> None:
        """Write the step down, then make its moves. Raises OSError; what was moved of it stays undoable."""
        listed = [{"source": self._relative(source), "target": self._relative(target)} for source, target in moves]
        self._write({"event": "step", **about, "moves": listed})
        for source, target in moves:
            _rename(source, target)

    def resume(self) -> int:
        """Make the moves that were written down and not made; returns how many."""
        made = 0
        for move in self._moves():
            source, target = self.root / move.source, self.root / move.target
            if _there(source) and not _there(target):
                _rename(source, target)
                made += 1
        return made

    def finish(self) -> None:
        self._write({"event": "finished"})

    def undo(self) -> list[Problem]:
        """Take every move back, the last first; what could not be is told, and can be tried again."""
        problems = []
        for move in reversed(self._moves()):
            source, target = self.root / move.source, self.root / move.target
            if _there(source):
                if _there(target) and not self._is_pending(move):
                    problems.append(self._in_the_way(source, target))
                continue
            if not _there(target):
                if not move.source.startswith(f"{UNDO_FOLDER}/"):  # a new file that somebody removed is no loss
                    problems.append(Problem(str(target), "is gone, so it cannot be put back", "look for it by hand"))
                continue
            try:
                _rename(target, source)
            except OSError as error:
                what = f"cannot be put back ({error.strerror})"
                problems.append(Problem(str(target), what, "close what has it open and try again"))
        if not problems:
            self._write({"event": "undone"})
        return problems

    def _is_pending(self, move: Move) -> bool:
        """Whether source and target are both there because the move was never made (a file replaced in place)."""
        inside = f"{UNDO_FOLDER}/"
        return move.source.startswith(inside) and not move.target.startswith(inside)

    def _in_the_way(self, source: Path, target: Path) -> Problem:
        what = f"a new file stands where the original belongs; the original is {target}"
        return Problem(str(source), what, "move the new file away and run --undo again")

    def _moves(self) -> list[Move]:
        steps = (record for record in self.records if record.get("event") == "step")
        return [Move(move["source"], move["target"]) for step in steps for move in step["moves"]]

    def _relative(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def _write(self, record: dict[str, Any]) -> None:
        path = self.folder / _JOURNAL
        with open(path, "a+b") as stream:
            # after a cut line, begin a new one
            if stream.tell() and _last_byte(stream) != b"\n":
                stream.write(b"\n")
            stream.write(json.dumps(record, ensure_ascii=True).encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
        _sync_folder(self.folder)


def runs(root: Path) -> list[Journal]:
    """All runs below a folder, the oldest first."""
    try:
        folders = sorted(entry for entry in (root / UNDO_FOLDER).iterdir() if (entry / _JOURNAL).is_file())
    except OSError:
        return []
    return [Journal(root, folder) for folder in folders]


def latest(root: Path, states: Iterable[str]) -> Journal | None:
    """The newest run in one of the states."""
    return next((journal for journal in reversed(runs(root)) if journal.state in states), None)


def _last_byte(stream: Any) -> bytes:
    stream.seek(-1, os.SEEK_END)
    return stream.read(1)


def _there(path: Path) -> bool:
    return os.path.lexists(path)


def _rename(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if _there(target):
        raise FileExistsError(17, "another file has that name", str(target))
    os.rename(source, target)
    _sync_folder(target.parent)
    _sync_folder(source.parent)


def _sync_folder(folder: Path) -> None:
    """Force a folder's entries to disk where the system can (Windows does so by itself)."""
    if os.name == "nt":
        return
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)

"""Changes to a person's files that can always be taken back.

Every change is a list of moves: the original into the undo folder, the new file from there to its place. A step's
moves are written to the journal and forced to disk before the first of them is made. A move is done when its source
is gone and its target is there, so a run that was killed can be finished, or undone, from the journal alone, again
and again. Nothing is deleted, and a moved file keeps its bytes and its time. No move goes through a linked folder.

.kohyakit_undo/<time>/journal.jsonl   one object a line: run | step | finished | undone
.kohyakit_undo/<time>/mark            an empty file whose number and time of making the journal's first line holds
.kohyakit_undo/<time>/originals/      what was replaced or set aside
.kohyakit_undo/<time>/new/            new files before they are put in place, and again after an undo
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kohyakit.audit.repair.journal_reading import JOURNAL, PARTS, UNDO_FOLDER, Move, read_moves, read_records
from kohyakit.errors import DatasetError, Problem
from kohyakit.files import append_line, is_link, link_on_the_way, sync_folder, write_bytes

_MARK = "mark"


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
        for part in PARTS:
            (folder / part).mkdir()
        with open(folder / _MARK, "xb"):
            pass
        journal._write({"event": "run", "version": 1, "mark": journal._mark(), **about})
        return journal

    @property
    def records(self) -> list[dict[str, Any]]:
        """All whole lines; a line that a crash cut short never took effect. Raises DatasetError (see read_records)."""
        return read_records(self.folder)

    @property
    def is_ours(self) -> bool:
        """Whether the journal was begun where it lies: an unpacked or copied one has a mark of another time."""
        marks = [record.get("mark") for record in self.records if record["event"] == "run"]
        return bool(marks) and marks[0] is not None and marks[0] == self._mark()

    def _mark(self) -> list[int] | None:
        """What the system gave the empty file when it was made, and what nobody can put into an archive."""
        try:
            about = os.lstat(self.folder / _MARK)
        except OSError:
            return None
        return [about.st_ino, about.st_ctime_ns]

    @property
    def state(self) -> str:
        """`open`, `finished` or `undone`."""
        events = {record["event"] for record in self.records}
        return "undone" if "undone" in events else "finished" if "finished" in events else "open"

    def stage(self, name: str, data: bytes) -> Path:
        """Put a new file's bytes into the undo folder, forced to disk; `step` then moves it into place."""
        path = self._free("new", name)
        _no_link_on_the_way(self.root, path)
        write_bytes(path, data)
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
        for place in (place for move in moves for place in move):
            _no_link_on_the_way(self.root, place)
        listed = [{"source": self._relative(source), "target": self._relative(target)} for source, target in moves]
        self._write({"event": "step", **about, "moves": listed})
        for source, target in moves:
            _rename(self.root, source, target)

    @property
    def moves(self) -> list[Move]:
        """What was written down, in order. Raises DatasetError where no repair would move that."""
        return read_moves(self.folder, self.records)

    def resume(self) -> int:
        """Make the moves that were written down and not made; returns how many. Raises DatasetError."""
        made = 0
        for move in self.moves:
            source, target = self.root / move.source, self.root / move.target
            if _there(source) and not _there(target):
                try:
                    _rename(self.root, source, target)
                except OSError as error:
                    raise DatasetError(_unmade(source, error)) from error
                made += 1
        return made

    def finish(self) -> None:
        self._write({"event": "finished"})

    def undo(self) -> list[Problem]:
        """Take every move back, the last first; what could not be is told, and can be tried again."""
        problems = []
        for move in reversed(self.moves):
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
                _rename(self.root, target, source)
            except OSError as error:
                problems.append(_unmade(target, error))
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

    def _relative(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def _write(self, record: dict[str, Any]) -> None:
        path = self.folder / JOURNAL
        append_line(path, json.dumps(record, ensure_ascii=True).encode())
        sync_folder(self.folder)


def runs(root: Path) -> list[Journal]:
    """All runs below a folder, the oldest first. Raises DatasetError where the undo folder or a run is a link."""
    place = root / UNDO_FOLDER
    try:
        folders = [] if is_link(place) else sorted(entry for entry in place.iterdir() if _there(entry / JOURNAL))
    except OSError:
        return []
    linked = [path for path in (place, *folders) if is_link(path)]
    if linked:
        what = "is a link, and kohyakit follows none to its own files"
        raise DatasetError(Problem(str(path), what, "take the link away", "journal_refused") for path in linked)
    return [Journal(root, folder) for folder in folders]


def latest(root: Path, states: Iterable[str]) -> Journal | None:
    """The newest run in one of the states."""
    return next((journal for journal in reversed(runs(root)) if journal.state in states), None)


def _there(path: Path) -> bool:
    return os.path.lexists(path)


def _unmade(path: Path, error: OSError) -> Problem:
    linked = error.errno == errno.ELOOP
    cure = "put a real folder in the link's place" if linked else "close what has it open and try again"
    return Problem(str(path), f"cannot be moved ({error.strerror or error})", cure)


def _no_link_on_the_way(root: Path, path: Path) -> None:
    found = link_on_the_way(root, path)
    if found is not None:
        raise OSError(errno.ELOOP, f"{found.name} is a link, and nothing is moved through one", str(found))


def _rename(root: Path, source: Path, target: Path) -> None:
    for place in (source, target):
        _no_link_on_the_way(root, place)
    if source.is_dir() and not is_link(source):
        raise IsADirectoryError(errno.EISDIR, "it is a folder, and a repair moves files", str(source))
    target.parent.mkdir(parents=True, exist_ok=True)
    if _there(target):
        raise FileExistsError(errno.EEXIST, "another file has that name", str(target))
    os.rename(source, target)
    sync_folder(target.parent)
    sync_folder(source.parent)

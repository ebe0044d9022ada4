"""What stands in the journal of a repair, taken only where a repair of ours could have written it.

A data set from somebody else may bring a journal along. So every line is looked at before anything is moved: both
ends of a move are plain names below the audited folder, in the run's own undo folder or among the photos.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from kohyakit.errors import DatasetError, Problem
from kohyakit.files import is_link, read_bytes

UNDO_FOLDER = ".kohyakit_undo"
JOURNAL = "journal.jsonl"
PARTS = ("originals", "new")
EVENTS = ("run", "step", "finished", "undone")
LARGEST = 256 << 20  # bytes; a step takes 300
_MOST_TOLD = 5


@dataclass(frozen=True, slots=True)
class Move:
    """Both ends relative to the root, with forward slashes."""

    source: str
    target: str


def read_records(folder: Path) -> list[dict[str, Any]]:
    """All whole lines of a run's journal, none where there is no journal.

    A line that a crash cut short never took effect. Raises DatasetError for every line that nothing of ours wrote.
    """
    path = folder / JOURNAL
    if is_link(path):
        raise DatasetError(_refused(path, "is a link, and kohyakit follows none to its own files"))
    try:
        raw = read_bytes(path, LARGEST)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DatasetError(_refused(path, f"cannot be read ({error.strerror})")) from error
    found, problems = [], []
    for number, line in enumerate(raw.split(b"\n"), start=1):
        record = _record(line)
        if record is not None:
            found.append(record)
        elif not _cut_short(line):
            problems.append(_refused(path, f"line {number} is not what a repair writes"))
    if problems:
        raise DatasetError(_first(problems))
    return found


def read_moves(folder: Path, records: list[dict[str, Any]]) -> list[Move]:
    """Every move that was written down, in order. Raises DatasetError for those that no repair would make."""
    found, problems = [], []
    for move in (move for record in records if record["event"] == "step" for move in record["moves"]):
        problems += [_refused(folder / JOURNAL, fault) for fault in _faults(move, folder.name)]
        found.append(Move(move["source"], move["target"]))
    if problems:
        raise DatasetError(_first(problems))
    return found


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        data = json.loads(line.decode("ascii"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict) or data.get("event") not in EVENTS:
        return None
    return data if data["event"] != "step" or _are_moves(data.get("moves")) else None


def _are_moves(data: Any) -> bool:
    return isinstance(data, list) and all(
        isinstance(move, dict) and all(isinstance(move.get(end), str) for end in ("source", "target")) for move in data
    )


def _cut_short(line: bytes) -> bool:
    """Empty, the beginning of a record, or the zeros that some systems leave behind when the power fails."""
    kept = line.strip(b"\x00\r ")
    if kept and b'{"event": "'.startswith(kept[:11]):
        try:
            json.loads(kept)
        except ValueError:
            return True
        except RecursionError:
            return False
    return not kept


def _faults(move: dict[str, Any], run: str) -> Iterator[str]:
    for name in (move["source"], move["target"]):
        fault = _fault(name, run)
        if fault:
            yield f"names {name[:120]!r}, {fault}; nothing of it was moved"


def _fault(name: str, run: str) -> str:
    """Why no repair moves a file of this name; empty where one does."""
    path = PurePath(name)
    try:
        os.fsencode(name)
    except UnicodeError:
        return "which is no file name"
    if not path.parts or "\0" in name:
        return "which is no file name"
    if path.is_absolute() or path.drive or path.root or ".." in path.parts:
        return "which leads out of the folder"
    if path.parts[0] == UNDO_FOLDER:
        own = len(path.parts) == 4 and path.parts[1] == run and path.parts[2] in PARTS
        return "" if own else "which belongs to another repair"
    return "which is hidden" if any(part.startswith(".") for part in path.parts) else ""


def _refused(path: Path, what: str) -> Problem:
    cure = f"move the folder {path.parent} elsewhere to do without it; what it set aside is in its originals/"
    return Problem(str(path), what, cure, "journal_refused")


def _first(problems: list[Problem]) -> list[Problem]:
    rest = len(problems) - _MOST_TOLD
    more = [Problem(problems[0].where, f"and {rest} more lines like these")] if rest > 0 else []
    return problems[:_MOST_TOLD] + more

"""What was done to captions, written down so that it can be taken back: `.kohyakit/captions.jsonl`, JSON lines.

A change is a line with every file's old and new text, forced to disk before a file is touched; a second line says which
of the files were written. Where that is missing, the program was killed or is at work, and the files themselves tell.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kohyakit.errors import DatasetError, Problem
from kohyakit.files import append_line, is_link, open_regular, read_bytes, refuse_links

JOURNAL = Path(".kohyakit") / "captions.jsonl"
_SEP = os.fsencode(os.sep)
_LONGEST = 255  # bytes of a file's name, on every system in use
_LIMIT = 1 << 30  # bytes; a change of a thousand captions takes 500 kB
# What a stranger's journal could have put back in a folder of photos and that no editor of captions writes.
_NEVER_CAPTIONS = frozenset(
    (".py", ".pth", ".pyc", ".pyd", ".so", ".dll", ".exe", ".bat", ".cmd", ".ps1", ".sh", ".lnk", ".desktop", ".url")
)


@dataclass(frozen=True, slots=True)
class Edit:
    """One caption file's change. None: no file before, or none afterwards."""

    path: Path
    old: bytes | None
    new: bytes | None


@dataclass(frozen=True, slots=True)
class Change:
    """What was done to which files. undoes: the id of the change that this one took back.

    cut: a killed program or the disk kept further files from being written.
    """

    id: str
    time: str
    what: str
    edits: tuple[Edit, ...]
    undoes: str = ""
    cut: bool = False


def history(folder: Path) -> tuple[Change, ...]:
    """Every change, oldest first, with the files that were written. A last line that a crash cut off is passed over:
    nothing was written yet then. So are lines that no edit of captions would have written.
    """
    if is_linked(folder):
        return ()
    try:
        # a line of JSON ends at \\n alone; str.splitlines also breaks at signs that captions hold
        lines = read_bytes(folder / JOURNAL, _LIMIT).split(b"\n")
    except OSError:
        return ()
    changes: dict[str, Change] = {}
    open_ones: dict[str, Change] = {}
    for line in lines:
        try:
            data = json.loads(line.decode("utf-8", "surrogatepass"))
            if "made" in data:
                change = open_ones.pop(data["id"])
                changes[change.id] = _as_made(change, _listed(folder, change, data["made"]))
            else:
                change = _parse(folder, data)
                changes[change.id] = open_ones[change.id] = change
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
    for change in list(open_ones.values())[-1:]:  # being made at this moment, or cut off by a crash
        changes[change.id] = _as_made(change, _stands(change))
    return tuple(change for change in changes.values() if change.edits)


def undoable(folder: Path) -> tuple[Change, ...]:
    """Changes that stand, newest first: not undone, or undone and done again, or undone in part."""
    return standing(history(folder))


def standing(changes: Sequence[Change]) -> tuple[Change, ...]:
    """Those of a whole history that stand, newest first (see undoable)."""
    gone: set[str] = set()
    for change in reversed(changes):
        if change.undoes and not change.cut and change.id not in gone:
            gone.add(change.undoes)
    return tuple(change for change in reversed(changes) if change.id not in gone and not change.undoes)


def begin(folder: Path, change: Change) -> None:
    """Write down what is about to be done. Raises DatasetError; nothing may be changed then."""
    edits = [
        {"file": name, "old": _plain(edit.old), "new": _plain(edit.new)}
        for name, edit in zip(_names(change.edits, folder), change.edits, strict=True)
    ]
    head = {"id": change.id, "time": change.time, "what": change.what, "undoes": change.undoes}
    try:
        _append(folder / JOURNAL, {**head, "edits": edits})
    except OSError as error:
        what = f"the journal cannot be written ({error.strerror or error}), so nothing was changed"
        raise DatasetError(Problem(str(folder / JOURNAL), what, "look at the folder's permissions")) from error


def end(folder: Path, change: Change, made: Sequence[Edit]) -> Change:
    """Write down which files were written; where that fails, the files themselves tell. The change as it was made."""
    listed = len(made) == len(change.edits) or _names(made, folder)
    with contextlib.suppress(OSError):
        _append(folder / JOURNAL, {"id": change.id, "made": listed})
    return _as_made(change, made)


def settle(folder: Path) -> None:
    """Write down which files the last change wrote, where the program that made it did not come to that."""
    try:
        last = _last_line(folder / JOURNAL)
        change = _parse(folder, json.loads(last.decode("utf-8", "surrogatepass")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return
    end(folder, change, _stands(change))


def is_linked(folder: Path) -> bool:
    """Whether the journal or its folder is a link: it is neither read nor written then."""
    return is_link(folder / JOURNAL) or is_link(folder / JOURNAL.parent)


def text_of(path: Path) -> bytes | None:
    """A caption file's bytes; None where there is none or it cannot be read."""
    try:
        return read_bytes(path, links=False)
    except OSError:
        return None


def _as_made(change: Change, made: Sequence[Edit]) -> Change:
    whole = len(made) == len(change.edits)
    return change if whole else replace(change, edits=tuple(made), cut=True)


def _stands(change: Change) -> list[Edit]:
    """The edits of a change whose files no longer have their old text."""
    return [edit for edit in change.edits if text_of(edit.path) != edit.old]


def _listed(folder: Path, change: Change, made: Any) -> Sequence[Edit]:
    if made is True:
        return change.edits
    names = set(made)
    return [edit for name, edit in zip(_names(change.edits, folder), change.edits, strict=True) if name in names]


def _last_line(path: Path) -> bytes:
    """The last whole line of a file, without reading all that stands before it."""
    with open_regular(path) as file:
        size = file.seek(0, os.SEEK_END)
        data, wanted = b"", 1 << 14
        while data.count(b"\n") < 2 and len(data) < size:
            file.seek(max(0, size - wanted))
            data, wanted = file.read(), wanted * 4
    lines = data.split(b"\n")
    return lines[-2] if len(lines) > 1 else b""


def _append(path: Path, data: dict[str, Any]) -> None:
    """One line more, forced to disk; after a line that was cut off, a new one is begun."""
    refuse_links(path.parent.parent, path)
    append_line(path, json.dumps(data, ensure_ascii=False).encode("utf-8", "surrogatepass"))


def _parse(folder: Path, data: dict[str, Any]) -> Change:
    """Raises ValueError or its like for a line that we did not write, one that points elsewhere above all."""
    edits = tuple(Edit(folder / edit["file"], _unplain(edit["old"]), _unplain(edit["new"])) for edit in data["edits"])
    inside = folder.resolve()
    places = {edit.path.parent for edit in edits}
    if any(edit.path.name in ("", "..") for edit in edits) or not all(
        place.resolve().is_relative_to(inside) for place in places
    ):
        raise ValueError("a journal that points out of its folder")
    for edit in edits:
        name = os.fsencode(edit.path)  # which itself raises for half a character
        if b"\0" in name or max(map(len, name.split(_SEP))) > _LONGEST or len(name) > 16 * _LONGEST:
            raise ValueError("a name that no file can have")
        parts = edit.path.relative_to(folder).parts
        if any(part.startswith(".") for part in parts) or edit.path.suffix.lower() in _NEVER_CAPTIONS:
            raise ValueError("a journal of something else than captions")
    words = [data["id"], data["time"], data["what"], data.get("undoes", "")]
    if not all(isinstance(word, str) for word in words):
        raise TypeError("a journal of another kind")
    number, time, what, undoes = words
    return Change(number, time, what, edits, undoes)


def _names(edits: Sequence[Edit], folder: Path) -> list[str]:
    """Their files as the journal names them, with slashes and from the folder on."""
    known: dict[str, str] = {}
    names = []
    for edit in edits:
        place, name = os.path.split(edit.path)
        if place not in known:  # thousands of files lie in a few folders
            below = Path(place).relative_to(folder).as_posix()
            known[place] = "" if below == "." else f"{below}/"
        names.append(known[place] + name)
    return names


def _plain(raw: bytes | None) -> str | dict[str, str] | None:
    """Bytes as text where that gives the same bytes back, else as base64."""
    if raw is None:
        return None
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(raw).decode("ascii")}


def _unplain(value: Any) -> bytes | None:
    if value is None or isinstance(value, str):
        return None if value is None else value.encode("utf-8")
    return base64.b64decode(value["base64"])

"""Which event files lie below a folder: links followed, each real folder once; folders and packed files told apart."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from kohyakit.dataset.walk import Identity, identity, is_folder, system_folder
from kohyakit.errors import Problem

MARK = "tfevents"
_PACKED = (".gz", ".bz2", ".xz", ".zst", ".zip", ".7z", ".rar", ".tar", ".tgz")
_UNDER_WAY = (".tmp", ".part", ".partial", ".crdownload", ".download", "~")
_MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"PK\x03\x04": "zip"}


def walk(folder: Path | str) -> Iterator[tuple[str, list[str], list[str]]]:
    """As os.walk from the top down, however deep, through linked folders, but no folder twice."""
    seen: set[Identity] = set()
    waiting = [os.fspath(folder)]
    while waiting:
        place = waiting.pop()
        here = identity(place)
        if here in seen or (seen and system_folder(here)):
            continue
        seen.add(here)
        folders: list[str] = []
        files: list[str] = []
        try:
            with os.scandir(place) as entries:
                for entry in entries:
                    (folders if is_folder(entry) else files).append(entry.name)
        except OSError:
            continue
        yield place, folders, files
        waiting += [os.path.join(place, name) for name in reversed(folders)]


def is_log(name: str) -> bool:
    """Whether a file of this name is an event file to be read: not packed, not a copy under way."""
    return MARK in name and not name.lower().endswith((*_PACKED, *_UNDER_WAY))


def event_files(folder: Path) -> tuple[list[Path], list[Problem]]:
    """The event files below a folder in the order in which they are read, and those that cannot be read as they are."""
    found, problems = [], []
    for place, _, files in walk(folder):
        for name in files:
            path = os.path.join(place, name)
            if MARK in name and not os.path.isfile(path):
                problems.append(Problem(name, "is no regular file and was not read", "", "unreadable_log", "warning"))
            elif is_log(name):
                found.append(Path(path))
            elif MARK in name and name.lower().endswith(_PACKED):
                problems.append(packed(name))
            elif MARK in name:
                what, cure = "is a copy under way and was not read", "read the logs again when it is there"
                problems.append(Problem(name, what, cure, "unfinished_copy", "hint"))
    return sorted(found), problems


def packed(name: str, kind: str = "") -> Problem:
    """What is said of an event file inside an archive."""
    what = f"is compressed{f' ({kind})' if kind else ''}, so it was not read"
    return Problem(name, what, "unpack it beside the other logs", "packed_log", "warning")


def packed_kind(start: bytes) -> str:
    """The kind of archive that bytes begin; "" for none."""
    return next((kind for magic, kind in _MAGIC.items() if start.startswith(magic)), "")

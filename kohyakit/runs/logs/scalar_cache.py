"""What was read from event files, kept for the next time in the user's cache folder; the logs are never written to.

One .npz a file, found by the file's path and valid for its size and time; a file that has grown is read on from there.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from pathlib import Path

from kohyakit.files import writing
from kohyakit.runs.logs.event_file import EventFile, Points

_VERSION = 3
_WORTH_BYTES = 1 << 18  # a smaller log is read faster than its cache
_WORTH_GROWTH = 0.2  # a cache is written again when its log has grown by so much
_KEEP_DAYS = 30
_KEEP_BYTES = 2 << 30


def cache_folder() -> Path:
    """The folder for caches: KOHYAKIT_CACHE, else the system's usual place."""
    if chosen := os.environ.get("KOHYAKIT_CACHE"):
        return Path(chosen)
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "kohyakit"


def load(file: EventFile) -> None:
    """Bring a fresh EventFile to where an earlier process left it, if that was kept and still fits."""
    import numpy as np

    place = _place(file.path)
    try:
        with np.load(place, allow_pickle=False) as kept:
            state = json.loads(kept["state"].tobytes())
            stat = file.path.stat()
            replaced = stat.st_size == state["size"] and stat.st_mtime_ns != state["mtime_ns"]
            if state["version"] != _VERSION or stat.st_size < state["size"] or replaced:
                return
            file.restore(state["file"], Points(*(kept[name] for name in Points.__slots__)))
            os.utime(place)
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        file.reset()


def save(file: EventFile, loaded_offset: int) -> None:
    """Keep what was read, when that is worth it. loaded_offset: how far the cache had it. Failing costs only time."""
    import numpy as np

    grown = file.offset - loaded_offset
    if file.offset < _WORTH_BYTES or grown <= _WORTH_GROWTH * loaded_offset:
        return
    place = _place(file.path)
    try:
        stat = file.path.stat()
        state = {"version": _VERSION, "size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "file": file.state()}
        place.parent.mkdir(parents=True, exist_ok=True)
        points = {name: getattr(file.points, name) for name in Points.__slots__}
        with writing(place, sync=False) as kept:
            np.savez(kept, state=np.frombuffer(json.dumps(state).encode(), dtype=np.uint8), **points)
        _tidy_daily(place.with_name("tidied"))
    except OSError:
        pass  # it costs time only


def _tidy_daily(mark: Path) -> None:
    if not mark.exists() or time.time() - mark.stat().st_mtime > 86400:
        mark.touch()
        tidy()


def tidy(now: float | None = None) -> int:
    """Delete what was not used for 30 days, and the oldest beyond 2 GiB -> how many files went."""
    now = time.time() if now is None else now
    found: list[tuple[float, int, Path]] = []
    for path in (cache_folder() / "scalars").glob("*.npz"):
        try:
            stat = path.stat()
        except OSError:
            continue
        found.append((stat.st_mtime, stat.st_size, path))
    total, gone = 0, 0
    for used, size, path in sorted(found, reverse=True, key=lambda item: item[0]):
        total += size
        if now - used > _KEEP_DAYS * 86400 or total > _KEEP_BYTES:
            path.unlink(missing_ok=True)
            gone += 1
    return gone


def _place(path: Path) -> Path:
    name = hashlib.sha256(str(path.absolute()).encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return cache_folder() / "scalars" / f"{name}.npz"

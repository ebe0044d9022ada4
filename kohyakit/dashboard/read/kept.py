"""Summaries of runs kept in the user's cache folder, so that a new dashboard need not read five hundred logs again."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kohyakit.runs.logs.scalar_cache import cache_folder
from kohyakit.runs.run import read_json, write_json

_FORMAT = 1


def load(project: Path) -> dict[str, Any]:
    """What was kept for a project, by run folder; {} for nothing, or for something that cannot be used."""
    data = read_json(_place(project)) or {}
    kept = data.get("runs")
    return kept if data.get("format") == _FORMAT and isinstance(kept, dict) else {}


def save(project: Path, kept: Mapping[str, Any]) -> None:
    """Keep it for the next time. Failing costs only time."""
    with contextlib.suppress(OSError, TypeError, ValueError):
        place = _place(project)
        place.parent.mkdir(parents=True, exist_ok=True)
        write_json(place, {"format": _FORMAT, "runs": kept}, sync=False)


def text_of(stamp: tuple) -> str:
    return hashlib.sha256(json.dumps(stamp).encode("utf-8", "surrogatepass")).hexdigest()


def _place(project: Path) -> Path:
    return (
        cache_folder()
        / "summaries"
        / f"{hashlib.sha256(str(project).encode('utf-8', 'surrogatepass')).hexdigest()[:24]}.json"
    )

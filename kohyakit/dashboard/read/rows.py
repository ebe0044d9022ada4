"""One row a run for the runs table: everything as text or number, ready for the browser."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from kohyakit.dashboard.draw import theme
from kohyakit.dashboard.read.family import tree
from kohyakit.dashboard.read.memo import Memo
from kohyakit.dashboard.read.samples import last_sample
from kohyakit.dashboard.read.store import Summary
from kohyakit.runs.comparison.compare import settings_in_force, show
from kohyakit.runs.run import FAILED, LOST, RUNNING, UNREADABLE, Run
from kohyakit.words import count, duration, number, when

KEY_SETTINGS = (
    "network_dim",
    "network_alpha",
    "learning_rate",
    "optimizer_type",
    "train_batch_size",
    "max_train_epochs",
    "resolution",
)
"""What is said of a run that has no parent to differ from."""

TROUBLE = (FAILED, LOST, UNREADABLE)
"""Endings whose reason is told in the row itself."""

PictureUrl = Callable[[Path, int | None], str]

_texts = Memo(16)


def rows_text(runs: Sequence[Run], summaries: Mapping[str, Summary | None], picture_url: PictureUrl) -> str:
    """`table_rows` as the JSON that goes to the browser; made again only when something in it has changed."""
    thumbs = [_thumb(run, picture_url) for run in runs]
    told = [(run.record, run.problem, run.status, summaries.get(run.record.version)) for run in runs]

    def make() -> str:
        return json.dumps(table_rows(runs, summaries, picture_url), separators=(",", ":"))

    if any(status == RUNNING for _, _, status, _ in told):  # its row says how long it has taken
        return make()
    return _texts.get(tuple(run.folder for run in runs), (*told, *thumbs), make)


def table_rows(
    runs: Sequence[Run], summaries: Mapping[str, Summary | None], picture_url: PictureUrl
) -> list[dict[str, Any]]:
    """The rows in the family tree's order."""
    by_version = {run.record.version: run for run in runs}
    drawn = tree([run.record.version for run in runs], {run.record.version: run.record.parent for run in runs})
    place = {run.record.version: index for index, run in enumerate(runs)}
    return [
        {**_row(by_version[version], summaries.get(version), picture_url), "guides": guides, "order": place[version]}
        for version, guides in drawn
    ]


def _row(run: Run, summary: Summary | None, picture_url: PictureUrl) -> dict[str, Any]:
    record, status = run.record, run.status
    return {
        "id": record.version,
        "version": record.version,
        "name": record.name or record.output_name,
        "status": status,
        "status_text": status,
        "status_note": status_note(run),
        "trouble": status_note(run) if status in TROUBLE else "",
        "note": record.note,
        "colour": theme.STATUS_COLOURS.get(status, theme.STATUS_COLOURS["failed"]),
        "started": record.started or record.created or None,
        "started_text": when(record.started or record.created),
        "duration_text": duration(seconds_of(run)),
        "images": record.image_count or None,
        "changed": changed(run),
        **_loss(summary),
        "thumb": _thumb(run, picture_url),
    }


def _thumb(run: Run, picture_url: PictureUrl) -> str:
    sample = last_sample(run)
    return picture_url(sample.path, 160) if sample else ""


def _loss(summary: Summary | None) -> dict[str, Any]:
    if summary is None:
        return {"last": None, "best": None, "last_text": "reading …", "best_text": "", "spark": []}
    line = summary.line
    if line is None or line.bad == line.count:
        return {"last": None, "best": None, "last_text": "not a number" if line else "–", "best_text": "", "spark": []}
    at_the_end = line.min_step == line.last_step
    return {
        "last": line.last,
        "best": line.min,
        "last_text": number(line.last),
        "best_text": "best at the end" if at_the_end else f"best {number(line.min)}",
        "spark": list(summary.spark),
    }


def changed(run: Run) -> str:
    """What differs from the parent; of a first run its key settings."""
    record = run.record
    if run.problem is not None:
        return ""
    if record.parent:
        return f"from {record.parent}: {', '.join(record.changes) or 'nothing'}"
    settings = settings_in_force(run)
    told = [f"{name} {show(settings[name])}" for name in KEY_SETTINGS if settings.get(name) is not None]
    return ", ".join(told)


def told(every: int, shown: int, picked: int) -> str:
    """The count above the table: how many of how many stand in it, how many are picked."""
    of = count(every, "run") if shown == every else f"{shown:,} of {count(every, 'run')}"
    return f"{count(picked, 'run')} picked; {of}" if picked else f"{of}; pick some to compare them"


def status_note(run: Run) -> str:
    """The sentence behind the status: how it ended, or what became of it."""
    if run.problem is not None:
        return str(run.problem)
    if run.status == LOST:
        return "process gone without a word: killed, or the machine went down"
    return run.record.outcome


def seconds_of(run: Run) -> float | None:
    """How long it took, or has taken so far; of a lost run up to its last sign."""
    if run.record.seconds is not None:
        return run.record.seconds
    if not run.record.started:
        return None
    try:
        started = datetime.fromisoformat(run.record.started).timestamp()
    except ValueError:
        return None
    if run.status == RUNNING:
        return max(0.0, time.time() - started)
    told = run.progress().get("time")
    return max(0.0, told - started) if isinstance(told, (int, float)) else None

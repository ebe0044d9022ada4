"""What the pages read: runs, their scalars and their summaries, each read again only when its files have changed."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kohyakit.dashboard.draw import theme
from kohyakit.dashboard.draw.curves import Line, Pace, axis_values
from kohyakit.dashboard.read import kept
from kohyakit.dashboard.read.memo import Memo, Stamp, stamp_of
from kohyakit.dashboard.read.samples import steps_per_epoch
from kohyakit.errors import KohyakitError, Problem
from kohyakit.runs.comparison.summary import TRAINING
from kohyakit.runs.logs.log_files import MARK, walk
from kohyakit.runs.logs.metrics import ScalarLog, joined, summarize
from kohyakit.runs.logs.metrics import Summary as LineSummary
from kohyakit.runs.registry import find_projects, list_runs
from kohyakit.runs.run import FAILED, LOST, RUN_FILE, RUNNING, RUNS_DIR, Run

if TYPE_CHECKING:
    import pandas as pd

SPARK_POINTS = 40


@dataclass(frozen=True)
class Scalars:
    """A run's log. frame: tag, step, value, wall_time as it was trained in the end, or None with the reason in
    `problems`, which also tell of damage to a log that could be read in part.
    """

    frame: pd.DataFrame | None
    problems: tuple[Problem, ...] = ()

    @cached_property
    def tags(self) -> tuple[str, ...]:
        return () if self.frame is None else tuple(sorted(map(str, self.frame["tag"].unique())))


@dataclass(frozen=True)
class Summary:
    """A run's loss at a glance. line: its numbers, None without a log. spark: at most 40 values, the lowest of each
    stretch, None for a gap.
    """

    line: LineSummary | None = None
    spark: tuple[float | None, ...] = ()
    problems: tuple[Problem, ...] = ()


def _bytes(scalars: Scalars) -> float:
    return 1.0 if scalars.frame is None else float(scalars.frame.memory_usage().sum())


_runs, _frames, _summaries = Memo(32), Memo(400e6, weigh=_bytes), Memo(5000)
_open_logs: dict[str, ScalarLog] = {}
"""Logs that are being written: only what is new is read."""
_one_reader = threading.Lock()


def run_projects(root: Path) -> tuple[Path, ...]:
    """The folders below the project's root that hold runs (a training's output_dir each)."""
    return tuple(path for path in find_projects(root) if path.resolve().is_relative_to(root))


def runs_of(project: Path) -> tuple[Run, ...]:
    """Every run of a project; read again only when a record changed. The status is looked up anew by each Run."""
    folder = str(project / RUNS_DIR)
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir())
    except OSError:
        return ()
    stamp = stamp_of(folder, *(os.path.join(folder, name, RUN_FILE) for name in names))
    return _runs.get(str(project), stamp, lambda: list_runs(project))


def log_stamp(run: Run) -> Stamp:
    """Sizes and times of the run's event files."""
    files = [
        os.path.join(place, name)
        for folder in run.logs
        for place, _, names in walk(folder)
        for name in names
        if MARK in name
    ]
    return stamp_of(*sorted(files))


def scalars_of(run: Run) -> Scalars:
    """The run's scalars, all its log folders together. A log that is missing or broken is a Problem, not an error."""
    stamp = log_stamp(run)
    return _frames.get(str(run.folder), stamp, lambda: _read(run, bool(stamp)))


def _read(run: Run, any_file: bool) -> Scalars:
    version = run.record.version
    folders = [path for path in run.logs if path.is_dir()]
    if not run.logs:
        return Scalars(
            None, (Problem(version, "keeps no log", "set logging_dir and its curves are drawn", severity="hint"),)
        )
    if not folders:
        return Scalars(None, (Problem(version, "its log folder is gone", f"it was {run.logs[0]}", severity="warning"),))
    if not any_file:
        return Scalars(None, (Problem(version, "has logged nothing yet", severity="hint"),))
    try:
        if run.status == RUNNING:
            with _one_reader:  # two browser tabs follow one log
                frame, problems = _refreshed(_open_logs.setdefault(str(run.folder), ScalarLog(folders)))
        else:
            _open_logs.pop(str(run.folder), None)
            frame, problems = _refreshed(ScalarLog(folders))
    except (KohyakitError, OSError, ValueError) as error:
        return Scalars(None, (Problem(version, f"its log cannot be read ({error})", severity="warning"),))
    problems = tuple(replace(problem, where=f"{version}, {problem.where}") for problem in problems)
    if frame.empty:
        return Scalars(None, problems or (Problem(version, "has logged nothing yet", severity="hint"),))
    # A resumed run has a log folder for each time; together they are one line.
    return Scalars(joined(frame), problems)


def _refreshed(log: ScalarLog) -> tuple[pd.DataFrame, tuple[Problem, ...]]:
    log.refresh()
    return log.frame(), log.problems


def summaries(runs: Sequence[Run], *, seconds: float = 0.7) -> dict[str, Summary | None]:
    """A summary a run, by version. What is not read within the time is None: ask again, and the rest comes.

    So a project whose logs were never read shows its table at once, the newest runs first.
    """
    deadline = time.monotonic() + seconds
    found: dict[str, Summary | None] = {}
    fresh = False
    for run in reversed(runs):
        stamp = log_stamp(run)
        summary = _summaries.peek(str(run.folder), stamp) or _from_disk(run, stamp)
        if summary is None and time.monotonic() < deadline:
            summary, fresh = summarise(scalars_of(run)), True
            _summaries.put(str(run.folder), stamp, summary)
            _to_disk(run, stamp, summary)
        found[run.record.version] = summary
    if fresh and None not in found.values():
        kept.save(runs[0].project, _on_disk[str(runs[0].project)])
    return found


_on_disk: dict[str, dict[str, Any]] = {}


def _from_disk(run: Run, stamp: Stamp) -> Summary | None:
    """What an earlier dashboard kept of a run, where its log has not changed since."""
    project = str(run.project)
    if project not in _on_disk:
        _on_disk[project] = kept.load(run.project)
    entry = _on_disk[project].get(str(run.folder))
    try:
        if entry is None or entry["stamp"] != kept.text_of(stamp):
            return None
        summary = Summary(LineSummary(**entry["line"]), tuple(entry["spark"]))
    except (KeyError, TypeError):
        return None
    _summaries.put(str(run.folder), stamp, summary)
    return summary


def _to_disk(run: Run, stamp: Stamp, summary: Summary) -> None:
    if summary.line is not None and not summary.problems and run.status != RUNNING:
        entry = {"stamp": kept.text_of(stamp), "line": asdict(summary.line), "spark": summary.spark}
        _on_disk.setdefault(str(run.project), {})[str(run.folder)] = entry


def summarise(scalars: Scalars) -> Summary:
    """The loss in numbers and as a line in small."""
    tag = next((tag for tag in TRAINING if tag in scalars.tags), None)
    if scalars.frame is None or tag is None:
        return Summary(problems=scalars.problems)
    part = scalars.frame[scalars.frame["tag"] == tag]
    return Summary(summarize(part)[tag], spark(part["value"].to_numpy()), scalars.problems)


def spark(value: np.ndarray, most: int = SPARK_POINTS) -> tuple[float | None, ...]:
    """The line in at most `most` values, the lowest of each stretch so that the best point stays."""
    parts = np.array_split(value, min(most, len(value))) if len(value) else []
    lows = [float(np.min(part[np.isfinite(part)])) if np.isfinite(part).any() else None for part in parts]
    return tuple(None if low is None else float(f"{low:.4g}") for low in lows)


def series(scalars: Scalars, tag: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One tag's steps, values and wall times, [n] each, steps rising."""
    if scalars.frame is None or tag not in scalars.tags:
        return np.empty(0), np.empty(0), np.empty(0)
    part = scalars.frame[scalars.frame["tag"] == tag]
    step, value, wall = (part[name].to_numpy() for name in ("step", "value", "wall_time"))
    if (np.diff(step) < 0).any():
        order = np.argsort(step, kind="stable")
        step, value, wall = step[order], value[order], wall[order]
    return step, value.astype(float), wall.astype(float)


def pace_of(run: Run) -> Pace:
    """Steps per epoch from the plan; images per step from batch size, accumulation and processes in force."""
    settings: dict[str, Any] = run.settings
    batch = settings.get("train_batch_size")
    many = settings.get("gradient_accumulation_steps") or 1
    processes = settings.get("num_processes") or 1
    images = float(batch * many * processes) if isinstance(batch, (int, float)) and batch > 0 else None
    return Pace(steps_per_epoch(run), images)


def per_epoch(tag: str) -> bool:
    """Whether sd-scripts logs the tag against the epoch's number instead of the step's."""
    return tag.endswith("epoch_average") or tag == "loss/epoch"


def slots(runs: Sequence[Run]) -> list[int]:
    """Each run's colour (see theme.run_colour), by its place among all runs of its project, so that it keeps it
    whatever else is picked; where two of the picked ones would share one, the later takes the next that is free.
    """
    places = {run.folder: at for folder in {run.project for run in runs} for at, run in enumerate(runs_of(folder))}
    many = len(theme.RUN_COLOURS)
    taken: dict[Path, int] = {}
    for run in sorted(dict.fromkeys(runs), key=lambda run: places.get(run.folder, len(places))):
        own = places.get(run.folder, 0) % many
        order = [turn * many + (own + step) % many for turn in range(len(runs) // many + 1) for step in range(many)]
        taken[run.folder] = next(slot for slot in order if slot not in taken.values())
    return [taken[run.folder] for run in runs]


def broken_off(run: Run, value: np.ndarray) -> str:
    """Why a run's line ends before its time, "" for one that went through. value: [n] as logged."""
    if len(value) and not np.isfinite(value[-1]):
        return "is not a number from here on"
    if run.status == FAILED:
        return "failed: not a number" if re.search(r"\bnan\b|not a number", run.record.outcome, re.I) else "failed"
    return "lost" if run.status == LOST else ""


def lines_of(runs: Sequence[Run], tag: str, axis: str) -> tuple[list[Line], list[Problem]]:
    """One line a run for a chart, and in words which runs have none and why."""
    lines: list[Line] = []
    problems: list[Problem] = []
    for slot, run in zip(slots(runs), runs, strict=True):
        scalars = scalars_of(run)
        step, value, wall = series(scalars, tag)
        problems += scalars.problems
        if not len(step):
            continue
        pace = pace_of(run)
        if per_epoch(tag):
            step = step * pace.steps_per_epoch if pace.steps_per_epoch else step
        x = axis_values(axis, step, wall, pace) if pace.steps_per_epoch or not per_epoch(tag) else None
        if x is None:
            problems.append(
                Problem(run.record.version, f"its record does not tell how {tag} lies over {axis}s", severity="hint")
            )
            continue
        colour, dash = theme.run_colour(slot), theme.run_dash(slot)
        lines.append(Line(run.record.version, tag, x, value, colour, dash, broken=broken_off(run, value)))
    return lines, problems

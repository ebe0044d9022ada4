"""A run's lines in numbers, kept beside its record so that a list of five hundred runs need not read their logs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import asdict

from kohyakit.errors import Problem
from kohyakit.runs.logs import metrics
from kohyakit.runs.logs.metrics import Summary
from kohyakit.runs.record_file import read_json, write_json
from kohyakit.runs.run import METRICS_FILE, RUNNING, Run

# What a run is judged by, the first that it has; validation loss is measured on images it did not train on.
VALIDATION = (
    "loss/validation/epoch_average", "loss/validation/step_average", "loss/validation/average", "loss/validation",
)  # fmt: skip
# The loss on the training's own photos, with noise that no step trained on.
FIXED_NOISE = ("loss/fixed_noise/epoch_average", "loss/fixed_noise/step_average")
TRAINING = ("loss/average", "loss/epoch_average", "loss/epoch", "loss/current")


def run_summary(run: Run) -> Mapping[str, Summary]:
    """Each tag of a run in numbers; {} for one without logs. Kept in the run's folder until its logs change."""
    folders = [folder for folder in run.logs if os.path.isdir(folder)]
    if not folders:
        return {}
    log = metrics.ScalarLog(folders)
    stamp = [[path.name, stat.st_size, stat.st_mtime_ns] for path in log.event_files() if (stat := path.stat())]
    kept = read_json(run.folder / METRICS_FILE)
    if kept is not None and kept.get("files") == stamp:
        with contextlib.suppress(TypeError, KeyError, AttributeError):
            return {tag: Summary(**numbers) for tag, numbers in kept["tags"].items()}
    log.refresh()
    found = metrics.summarize(metrics.joined(log.frame()))
    if run.status != RUNNING:
        with contextlib.suppress(OSError):
            tags = {tag: asdict(numbers) for tag, numbers in found.items()}
            write_json(run.folder / METRICS_FILE, {"files": stamp, "tags": tags}, sync=False)
    return found


def log_problems(run: Run) -> tuple[Problem, ...]:
    """What is damaged, cut off or gone in a run's logs."""
    gone = [
        Problem(run.record.version, f"its log folder {folder} is gone", "", "log_gone", "warning")
        for folder in run.logs if not os.path.isdir(folder)
    ]  # fmt: skip
    log = metrics.ScalarLog([folder for folder in run.logs if os.path.isdir(folder)])
    log.refresh()
    return (*gone, *log.problems)

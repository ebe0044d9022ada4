"""Callbacks that tests watch and steer a training with, as anybody could."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kohyakit.runs.registry import list_runs
from kohyakit.train.callbacks import Quiet, Seen, StepReport


class At(Quiet):
    """Does something once, in a given step."""

    def __init__(self, step: int, act: Callable[[], object]) -> None:
        self._step, self._act = step, act

    def step(self, report: StepReport) -> None:
        if report.synced and report.step == self._step:
            self._act()


def stop_at(step: int, project: Path) -> At:
    """Asks the newest run of a project to stop, as `kohyakit runs stop` does."""
    return At(step, lambda: max(list_runs(project), key=lambda run: run.version).request_stop())


class Batches(Quiet):
    """What each batch held: (epoch, image names, captions)."""

    def __init__(self) -> None:
        self.held: list[tuple[int, list[str], list[str]]] = []

    def seen(self, seen: Seen) -> None:
        examples = seen.batch.examples
        self.held.append((seen.epoch, [e.image.key for e in examples], [e.caption for e in examples]))


class Losses(Quiet):
    """Every loss as the callbacks hear it."""

    def __init__(self) -> None:
        self.heard: list[float] = []

    def step(self, report: StepReport) -> None:
        self.heard.append(report.loss)

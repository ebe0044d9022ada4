"""audit_dataset: walk, open every file once, judge, report."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from importlib.util import find_spec
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kohyakit.audit.check import COLUMNS, Check, load_checks, resolve_thresholds, row
from kohyakit.audit.look.facts import Task
from kohyakit.audit.look.pool import open_all
from kohyakit.audit.settings import settings_from
from kohyakit.config.train import TrainConfig
from kohyakit.dataset.captions.pairing import Pairing, pair
from kohyakit.dataset.walk import Tree, find_tree
from kohyakit.errors import MissingExtra

if TYPE_CHECKING:
    import pandas as pd

    from kohyakit.audit.look.survey import Survey
    from kohyakit.audit.report.report import AuditReport

Progress = Callable[[int, int], None]  # (files opened, files in all)


def audit_dataset(
    dir: Path | str,
    *,
    config: TrainConfig | Path | str | None = None,
    reg_dir: Path | str | None = None,
    checks: Iterable[str | Check] | None = None,
    thresholds: Mapping[str, Any] | None = None,
    workers: int | None = None,
    progress: bool | Progress = False,
    **asked: Any,
) -> AuditReport:
    """Open every image below a folder once and say what is wrong, how bad it is, and what to do.

    dir: a Kohya `img/` folder, a project with `img/` and `reg/`, or any folder of images. config: a preset or TOML
    (or what `kohyakit.load` gave) for the resolution, the buckets and the captions' extension; asked: `resolution`,
    `what_if`, `caption_extension`, `batch_size`, `upright` instead of it or above it, and `quick` for headers,
    captions, layout and buckets only. reg_dir: regularisation subsets that lie elsewhere. checks: names or Check
    objects, None for all. workers: processes, None for one a processor. progress: True for a bar on standard error.

    Nothing is changed on disk. Raises DatasetError for a folder that cannot be read, ConfigError for settings,
    thresholds or check names that do not exist, with all problems at once.
    """
    _need_packages()
    if isinstance(config, (str, Path)):
        from kohyakit.formats import load

        config = load(config)
    chosen = load_checks(checks)
    settings = settings_from(config, **asked)
    settings = replace(settings, thresholds=resolve_thresholds(chosen, thresholds or {}))
    tree = find_tree(dir, reg_dir)
    pairing = pair(tree, settings.caption_extension)
    survey = _look(tree, pairing, settings, chosen, workers, progress)
    from kohyakit.audit.report.report import AuditReport

    return AuditReport.of(survey, judge(survey, chosen), chosen)


def _need_packages() -> None:
    """Only looked for: pandas takes longer to import than a worker to start, so the workers come first."""
    for package in ("numpy", "pandas", "PIL", "cv2", "simplejpeg"):
        if find_spec(package) is None:
            raise MissingExtra("the audit", package, "audit")


def _tasks(tree: Tree, pairing: Pairing) -> Iterator[Task]:
    number = 0
    for folder, captions in zip(tree.folders, pairing.captions, strict=True):
        for image, caption in zip(folder.images, captions, strict=True):
            yield Task(number, os.path.join(folder.path, image), caption)
            number += 1


def _look(
    tree: Tree, pairing: Pairing, settings: Any, checks: Mapping[str, Check], workers: int | None, progress: Any
) -> Survey:
    from kohyakit.audit.look.survey import Rows, make_survey

    total = sum(len(folder.images) for folder in tree.folders)
    measured = [check for check in checks.values() if check.measure is not None and not settings.quick]
    rows = Rows(total, (name for check in measured for name in check.scores), settings.quick)
    if workers is None and total <= 2:
        workers = 1
    opened = open_all(
        _tasks(tree, pairing), [c.measure for c in measured if c.measure], quick=settings.quick, workers=workers
    )
    with _shown(progress, total) as step:
        for count, one in enumerate(opened, start=1):
            if count == 1:
                import kohyakit.audit.report.frames  # noqa: F401  takes pandas along, while the workers are at work
            rows.add(one)
            step(count, total)
    return make_survey(tree, pairing, settings, rows)


class _shown:
    """A progress bar on standard error, a person's own callback, or nothing."""

    def __init__(self, progress: bool | Progress, total: int) -> None:
        self._progress, self._total, self._at = progress, total, 0
        self._bar: Any = None

    def __enter__(self) -> Progress:
        if callable(self._progress):
            return self._progress
        if not self._progress or not self._total:
            return lambda count, total: None
        import sys

        import click

        self._bar = click.progressbar(length=self._total, label="opening", file=sys.stderr, show_pos=True)
        self._bar.__enter__()
        return self._update

    def _update(self, count: int, total: int) -> None:
        # the bar draws itself at every update; at 100,000 files that would cost more than the files
        if count - self._at >= max(1, total // 200) or count == total:
            self._bar.update(count - self._at)
            self._at = count

    def __exit__(self, *error: Any) -> None:
        if self._bar is not None:
            self._bar.__exit__(*error)


def judge(survey: Survey, checks: Mapping[str, Check]) -> pd.DataFrame:
    """All issues of all checks, the worst first: a frame of COLUMNS."""
    import pandas as pd

    from kohyakit.audit.look.survey import printable

    found = [
        problem
        for check in checks.values()
        if check.quick or not survey.settings.quick
        for problem in check.judge(survey)
    ]
    found.sort(key=attrgetter("rank"))
    rows = [(printable(path), *others) for path, *others in map(row, found)]
    return pd.DataFrame(rows, columns=list(COLUMNS))

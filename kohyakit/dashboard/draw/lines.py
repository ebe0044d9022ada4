"""The lines of several runs as a chart shows them, worked out again only when a log has grown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from kohyakit.dashboard.draw.curves import DRAWN_POINTS, Line, drawn, tag_group
from kohyakit.dashboard.read import store
from kohyakit.dashboard.read.memo import Memo
from kohyakit.errors import Problem
from kohyakit.runs.run import Run

_drawn = Memo(200)


@dataclass(frozen=True)
class Look:
    """How curves are drawn. part: the stretch of the axis that is shown, in per cent of the longest line."""

    axis: str = "step"
    smoothing: float = 0.6
    log: bool = False
    part: tuple[int, int] = (0, 100)


def all_tags(runs: Sequence[Run]) -> list[str]:
    """Every metric of the runs: losses first, then validation, learning rates, others."""
    return sorted({tag for run in runs for tag in store.scalars_of(run).tags}, key=_tag_order)


def _tag_order(tag: str) -> tuple[int, str]:
    return ("loss", "validation", "lr", "other").index(tag_group(tag)), tag


def drawn_lines(runs: Sequence[Run], tag: str, look: Look = Look()) -> tuple[list[Line], list[Problem]]:
    """The lines of one metric as they go on the page. Few points and learning rates are not smoothed."""

    def make() -> tuple[list[Line], list[Problem]]:
        lines, problems = store.lines_of(runs, tag, look.axis)
        few = tag_group(tag) in ("validation", "lr") or all(len(line.x) < 30 for line in lines)
        window = None
        if look.part != (0, 100) and lines:
            end = max(float(line.x[-1]) for line in lines)
            window = (end * look.part[0] / 100, end * look.part[1] / 100)
        smoothing = 0.0 if few else look.smoothing
        points = DRAWN_POINTS // 4 if tag_group(tag) == "lr" else DRAWN_POINTS  # small charts of smooth lines
        return drawn(lines, smoothing=smoothing, window=window, points=points), problems

    return kept((), runs, tag, look, make)


def kept(what: tuple[Any, ...], runs: Sequence[Run], tag: str, look: Look, make: Callable[[], Any]) -> Any:
    """What was made of these lines before, while their logs are as they were. what: tells it from the lines alone."""
    key = (*what, *(str(run.folder) for run in runs), tag, look.axis, look.smoothing, look.part)
    return _drawn.get(key, tuple(store.log_stamp(run) for run in runs), make)

"""How `kohyakit caption` shows where it is and what it did."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from kohyakit.captioning.run import Outcome

_MOST = 10  # problems shown one by one
_SECONDS = 2.0  # between two lines of progress in a log


@contextmanager
def progress(total: int) -> Iterator[Callable[[int], None]]:
    """A bar with the time left, on standard error; where that is a file or a page, a line now and then."""
    if not sys.stderr.isatty():
        yield _lines(total)
        return
    with click.progressbar(length=total, label="captioning", show_pos=True, file=sys.stderr) as bar:
        yield bar.update


def _lines(total: int) -> Callable[[int], None]:
    begun, told, done = time.monotonic(), 0.0, 0

    def step(count: int) -> None:
        nonlocal told, done
        done += count
        now = time.monotonic()
        if now - told >= _SECONDS or done >= total:
            told = now
            left = round((now - begun) / max(done, 1) * (total - done))
            click.echo(f"{min(done, total)} of {total} captioned, about {left} s left", err=True)

    return step


def show(outcome: Outcome) -> None:
    for problem in outcome.problems[:_MOST]:
        click.echo(f"{click.style(problem.severity, fg='yellow')}: {problem}", err=True)
    if len(outcome.problems) > _MOST:
        click.echo(f"and {len(outcome.problems) - _MOST} more", err=True)
    click.echo(f"{outcome.written} captions written, {outcome.left} left, {len(outcome.problems)} pictures without one")
    if outcome.stopped:
        click.echo("stopped; the same command goes on from here")

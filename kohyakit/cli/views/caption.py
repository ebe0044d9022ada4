"""How `kohyakit caption` shows where it is and what it did."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from kohyakit.captioning.run import Outcome

_MOST = 10  # problems shown one by one


@contextmanager
def progress(total: int) -> Iterator[Callable[[int], None]]:
    """A bar with the time left, on standard error."""
    with click.progressbar(length=total, label="captioning", show_pos=True, file=sys.stderr) as bar:
        yield bar.update


def show(outcome: Outcome) -> None:
    for problem in outcome.problems[:_MOST]:
        click.echo(f"{click.style(problem.severity, fg='yellow')}: {problem}", err=True)
    if len(outcome.problems) > _MOST:
        click.echo(f"and {len(outcome.problems) - _MOST} more", err=True)
    click.echo(f"{outcome.written} captions written, {outcome.left} left, {len(outcome.problems)} pictures without one")
    if outcome.stopped:
        click.echo("stopped; the same command goes on from here")

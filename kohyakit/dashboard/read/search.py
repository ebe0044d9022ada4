"""The filter field of the Runs page: an expression over settings and metrics, or plain words."""

from __future__ import annotations

from collections.abc import Sequence

from kohyakit.dashboard.read.rows import status_note
from kohyakit.errors import KohyakitError, Problem
from kohyakit.runs.run import Run


def filtered(runs: Sequence[Run], text: str) -> tuple[list[Run], Problem | None]:
    """The runs that fit. Words without an operator are looked for in version, name, note, status, outcome and changes.

    A text that is no expression leaves all runs and comes with the Problem that says why.
    """
    text = text.strip()
    if not text:
        return list(runs), None
    if not any(sign in text for sign in "<>=()"):
        words = text.lower().split()
        return [run for run in runs if all(word in _words_of(run) for word in words)], None
    try:
        return _by_expression(runs, text), None
    except KohyakitError as error:
        return list(runs), error.problems[0]


def _by_expression(runs: Sequence[Run], text: str) -> list[Run]:
    from kohyakit.runs.comparison.filter import matching

    return list(matching(runs, text))


def _words_of(run: Run) -> str:
    record = run.record
    own = [record.version, record.name, record.note, record.output_name, run.status, status_note(run)]
    return " ".join([*own, *record.changes]).lower()

"""What all views of the terminal share: its width, colours of severities, headings, tables, paths as seen from here."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import click

from kohyakit.words import cells, columns, cut

COLOURS: Mapping[str, str] = MappingProxyType({"error": "red", "warning": "yellow", "hint": "cyan", "good": "green"})


def width(most: int = 120, usual: int = 100) -> int:
    """Columns to write into: at least 60, none more than lines read well at, `usual` where there is no terminal."""
    return min(most, max(60, shutil.get_terminal_size((usual, 24)).columns)) - 1


def severity(name: str, text: str = "") -> str:
    """A severity's name, or another text, in its colour."""
    return click.style(text or name, fg=COLOURS.get(name))


def near(path: Path | str) -> str:
    """A path as a person would write it from here."""
    from kohyakit.dataset.images import shown

    try:
        return shown(Path(path).relative_to(Path.cwd())) if path else ""
    except ValueError:
        return shown(path)


def heading(text: str) -> None:
    click.echo()
    click.echo(click.style(text, bold=True))


def table(rows: Iterable[Sequence[str]], heads: Sequence[str] = (), *, right: Collection[int] = ()) -> None:
    """Columns as wide as their longest cell; the last one is cut to the terminal. right: columns set to the right."""
    everything = [list(row) for row in ([heads] if heads else []) + list(rows)]
    if not everything:
        return
    before = columns([row[:-1] for row in everything], right=right)
    room = max(12, width() - max(map(cells, before)) - 2)
    for place, line in enumerate(columns([[*row[:-1], cut(row[-1], room)] for row in everything], right=right)):
        click.echo(click.style(line, dim=True) if heads and place == 0 else line)

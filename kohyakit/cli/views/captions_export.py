"""How `kohyakit captions export` shows what it would do, does it and takes it back."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kohyakit.cli.views.captions import meant, settle, show_problems, without_shown
from kohyakit.errors import ConfigError, Problem
from kohyakit.words import count

if TYPE_CHECKING:
    from kohyakit.dataset.metadata.embed import Gifts

_INTO = {"text": "PNG", "exif": "JPEG", "xmp": "PNG or JPEG"}


def check(ways: Sequence[str], out: Path | None, *, take_back: bool) -> None:
    """Raises ConfigError for options that do not go together."""
    if take_back == bool(ways):
        what = "go with nothing else" if take_back else "is not given"
        raise ConfigError(Problem("--take-back" if take_back else "--to", what, "give --to json, or --take-back alone"))
    if ("metadata" in ways) != (out is not None):
        raise ConfigError(Problem("--out", "belongs to --to metadata", "give both or neither"))


def export(folder: Path, ways: Sequence[str], out: Path | None, **asked: Any) -> None:
    from kohyakit.dataset.metadata.give import metadata_of, preview_sidecars, write_metadata

    if out is not None:
        found = metadata_of(folder, meant(folder, pictures=True, **without_shown(asked)))
        if asked["dry_run"]:
            click.echo(f"{count(sum(1 for _ in found), 'caption')} would be written to {out}; nothing was.")
        else:
            click.echo(f"{count(write_metadata(out, found), 'caption')} written to {out}")
    into = [way for way in ways if way in _INTO]
    whole = not into or _embed(folder, into, **asked)
    if "json" in ways:
        settle(folder, "exported to JSON", preview_sidecars, pictures=True, **asked)
    if not whole:
        sys.exit(1)


def _embed(folder: Path, ways: Sequence[str], *, dry_run: bool, **asked: Any) -> bool:
    """Whether all could be done."""
    from kohyakit.dataset.metadata.embed import give, preview_gifts

    seen = preview_gifts(meant(folder, pictures=True, **without_shown(asked)), ways)
    _show_gifts(seen, ways)
    problems = list(seen.left)
    if dry_run:
        click.echo(f"{count(len(seen.gifts), 'picture')} of {seen.looked} would be given a caption; none was.")
    elif seen.gifts:
        made, left = give(folder, seen.gifts, f"captions put into pictures ({', '.join(ways)})")
        problems += left
        click.echo(f"{count(made, 'picture')} of {seen.looked} were given their caption. Take it out again with: "
                   f"kohyakit captions export {folder} --take-back")  # fmt: skip
    show_problems(problems)
    return not problems


def _show_gifts(seen: Gifts, ways: Sequence[str]) -> None:
    for way in ways:
        click.echo(f"{seen.by[way]:,} as {way} of a {_INTO[way]}")
    if seen.same:
        click.echo(f"{count(seen.same, 'picture')} already say it")
    if seen.other:
        click.echo(f"{count(seen.other, 'picture')} of another format, left as they are")


def take_back(folder: Path) -> None:
    from kohyakit.dataset.metadata.embed import take_back as undo

    what, made, left = undo(folder)
    click.echo(f"{count(made, 'picture')} as before ({what})")
    show_problems(left)
    if left:
        sys.exit(1)

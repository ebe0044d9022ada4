"""How `kohyakit captions` chooses captions and shows them: statistics, hits, before and after, history."""

from __future__ import annotations

import difflib
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kohyakit.errors import ConfigError, KohyakitError, Problem
from kohyakit.words import count, when

if TYPE_CHECKING:
    from kohyakit.dataset.captions.bulk import Preview
    from kohyakit.dataset.captions.statistics import Statistics
    from kohyakit.dataset.editing.captions import CaptionFile, Change, Edit
    from kohyakit.dataset.metadata.take import Taken

_MOST = 10  # problems shown one by one


def meant(
    folder: Path, subsets: Sequence[str], files: Sequence[str], where: str, finding: str | None, extension: str | None,
    *, pictures: bool = False,
) -> Iterator[CaptionFile]:  # fmt: skip
    """The captions that the options choose; pictures: once for each picture (see choose.chosen)."""
    from kohyakit.dataset.captions.choose import Selection, chosen

    paths = _named_by_audit(folder, finding, extension) if finding else None
    return chosen(folder, Selection(tuple(subsets), tuple(files), where, paths), extension, pictures=pictures)


def without_shown(asked: dict[str, Any]) -> dict[str, Any]:
    """The options that choose captions, without those that say how a change is shown."""
    return {name: value for name, value in asked.items() if name not in ("most", "dry_run")}


def _named_by_audit(folder: Path, finding: str, extension: str | None) -> frozenset[str]:
    """Absolute paths of what an audit names this finding of; only the check that looks for it is run."""
    from kohyakit.audit.check import load_checks
    from kohyakit.audit.run import audit_dataset

    owner = {issue: name for name, check in load_checks().items() for issue in check.issues}
    if finding not in owner:
        near = difflib.get_close_matches(finding, owner, n=1)
        cure = f"did you mean '{near[0]}'?" if near else "`kohyakit audit --list-checks` lists them"
        raise ConfigError(Problem("--finding", f"'{finding}' is no finding", cure))
    issues = audit_dataset(folder, checks=[owner[finding]], caption_extension=extension).issues
    return frozenset(os.path.abspath(path) for path in issues.loc[issues["issue"] == finding, "path"])


def show_statistics(
    found: Statistics, folder: Path, *, as_json: bool, csv: Path | None, html: Path | None, everything: bool
) -> None:
    from kohyakit.dataset.captions.report import as_html, as_text, write_csv

    if as_json:
        click.echo(json.dumps(found.to_dict(), ensure_ascii=False, indent=2))
    else:
        click.echo(as_text(found, rows=None if everything else 12))
    try:
        for path in write_csv(found, csv) if csv else ():
            click.echo(f"wrote {path}", err=True)
        if html:
            html.write_text(as_html(found, f"Captions of {folder.resolve().name}"), encoding="utf-8")
            click.echo(f"wrote {html}", err=True)
    except OSError as error:
        place = str(error.filename or csv or html)
        what, cure = f"cannot be written ({error.strerror or error})", "name a file in a folder that exists"
        raise KohyakitError(Problem(place, what, cure)) from None


def show_found(found: Sequence[CaptionFile], folder: Path, *, as_json: bool) -> None:
    from kohyakit.dataset.images import shown

    if as_json:
        rows = [{"image": _name(one.image, folder), "caption_file": _name(one.path, folder), "caption": one.text,
                 "problem": one.problem} for one in found]  # fmt: skip
        click.echo(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    for one in found:
        words = click.style(one.problem, fg="yellow") if one.problem else shown(one.text.strip())
        click.echo(f"{shown(_name(one.path, folder))}: {words}")
    click.echo(f"{count(len(found), 'caption')}", err=True)


def settle(
    folder: Path, what: str, look: Callable[[Iterable[CaptionFile]], Preview], *, most: int, dry_run: bool, **asked: Any
) -> None:
    """Show what would change, then change it, unless it is a dry run. Exit code 1 where something was left."""
    from kohyakit.dataset.editing import captions as edit

    seen = look(meant(folder, **asked))
    _show_preview(seen, folder, most)
    problems = list(seen.left)
    if dry_run:
        click.echo(f"{count(len(seen.edits), 'caption')} of {seen.looked} would change; nothing was." if seen.edits else
                   f"No caption of {seen.looked} would change.")  # fmt: skip
    elif seen.edits:
        change, left = edit.apply(folder, seen.edits, what)
        problems += left
        click.echo(f"{count(len(change.edits), 'caption')} of {seen.looked} changed. "
                   f"Take it back with: kohyakit captions undo {_quoted(folder)}")  # fmt: skip
    else:
        click.echo(f"No caption of {seen.looked} changes.")
    show_problems(problems)
    if problems:
        sys.exit(1)


def show_taken(taken: Taken) -> Preview:
    """Where captions were found, and what was left."""
    by = sorted(taken.by.items(), key=lambda one: (-one[1], one[0]))
    found = [f"{many:,} from {source}" for source, many in by]
    click.echo(f"{count(sum(taken.by.values()), 'caption')} found" + (f": {', '.join(found)}" if found else ""))
    if taken.kept:
        click.echo(f"there already, and left: {count(taken.kept, 'caption')} (--mode says otherwise)")
    if taken.silent:
        click.echo(f"{count(taken.silent, 'picture')} of which nothing is said")
    if taken.unknown:
        few = ", ".join(taken.unknown[:3]) + (f" and {len(taken.unknown) - 3:,} more" if taken.unknown[3:] else "")
        click.echo(f"{count(len(taken.unknown), 'name')} in the file that no picture was asked for: {few}", err=True)
    return taken.preview


def _show_preview(seen: Preview, folder: Path, most: int) -> None:
    for one in seen.edits[:most]:
        _show_edit(one, folder)
    if most and len(seen.edits) > most:
        click.echo(f"and {len(seen.edits) - most:,} more")


def _show_edit(one: Edit, folder: Path, *, back: bool = False) -> None:
    from kohyakit.dataset.images import shown

    before, after = (one.new, one.old) if back else (one.old, one.new)
    click.echo(shown(_name(one.path, folder)))
    for sign, raw, colour in (("-", before, "red"), ("+", after, "green")):
        words = "(no caption file)" if raw is None else shown(raw.decode("utf-8", "backslashreplace").rstrip("\r\n"))
        click.echo(click.style(f"  {sign} {words}", fg=colour))


def show_problems(problems: Sequence[Problem]) -> None:
    for problem in problems[:_MOST]:
        click.echo(f"{click.style('left as it is', fg='yellow')}: {problem}", err=True)
    if len(problems) > _MOST:
        click.echo(f"and {len(problems) - _MOST:,} more left as they are", err=True)


def show_history(changes: Sequence[Change], standing: Sequence[Change], folder: Path, *, as_json: bool) -> None:
    stand = {change.id for change in standing}
    numbers = {change.id: number for number, change in enumerate(changes, 1)}
    if as_json:
        rows = [{"step": numbers[one.id], "id": one.id, "time": one.time, "what": one.what, "captions": len(one.edits),
                 "stands": one.id in stand, "undoes": numbers.get(one.undoes), "cut": one.cut}
                for one in changes]  # fmt: skip
        click.echo(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    if not changes:
        click.echo(f"Nothing was changed in {folder} yet.")
        return
    from kohyakit.dataset.images import shown

    for one in changes:
        state = f"  takes back step {numbers[one.undoes]}" if one.undoes in numbers else ""
        state = state or ("" if one.id in stand else "  taken back")
        state += "  not all were written" * one.cut
        click.echo(f"{numbers[one.id]:4}  {when(one.time)}  {count(len(one.edits), 'caption'):>15}  "
                   f"{shown(one.what)}{click.style(state, dim=True)}")  # fmt: skip


def show_diff(number: int, change: Change, folder: Path, *, back: bool = False, as_json: bool = False) -> None:
    """back: as it would be taken back."""
    from kohyakit.dataset.images import shown

    if as_json:
        rows = [{"caption_file": _name(one.path, folder), "before": _text(one.old), "after": _text(one.new)}
                for one in change.edits]  # fmt: skip
        head = {"step": number, "id": change.id, "time": change.time, "what": change.what}
        click.echo(json.dumps({**head, "edits": rows}, ensure_ascii=False, indent=2))
        return
    click.echo(f"step {number}: {shown(change.what)} ({count(len(change.edits), 'caption')}, {when(change.time)})")
    for one in change.edits:
        _show_edit(one, folder, back=back)
    if back:
        click.echo(f"{count(len(change.edits), 'caption')} would be put back; nothing was.")


def show_undone(number: int, change: Change, undone: Change, problems: Sequence[Problem]) -> None:
    from kohyakit.dataset.images import shown

    if undone.edits:
        click.echo(f"Step {number} taken back ({shown(change.what)}): {count(len(undone.edits), 'caption')} as before.")
    elif not problems:
        click.echo(f"Step {number} ({shown(change.what)}) is taken back already.")
    show_problems(problems)
    if problems:
        sys.exit(1)


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _text(raw: bytes | None) -> str | None:
    return None if raw is None else raw.decode("utf-8", "backslashreplace")


def _quoted(folder: Path) -> str:
    """For the shell, where a name needs it."""
    text = str(folder)
    return text if re.fullmatch(r"[\w./\\:-]+", text) else f'"{text}"'

"""`kohyakit repair`: mend what audit found, with a way back."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click


@click.command()
@click.argument("dir", type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Show what would be done, change nothing.")
@click.option("--undo", is_flag=True, help="Take the last repair back: every file as it was.")
@click.option("--resume", is_flag=True, help="Go on with an unfinished repair that was begun on another machine.")
@click.option("--orientation/--no-orientation", default=True, help="Turn photos upright for good.")
@click.option("--extensions/--no-extensions", default=True, help="Rename files whose ending lies about their format.")
@click.option("--modes/--no-modes", default=True, help="Convert CMYK, 16 bits, palettes, transparency, TIFF and GIF.")
@click.option("--srgb", is_flag=True, help="Convert other colour profiles to sRGB.")
@click.option("--damaged", type=click.Choice(["quarantine", "reencode", "leave"]), default="quarantine",
              show_default=True, help="What to do with files that decode with damage.")  # fmt: skip
@click.option("--duplicates", type=click.Choice(["exact", "near", "none"]), default="exact", show_default=True,
              help="Of which copies within a subset to keep one, the best.")  # fmt: skip
@click.option("--shrink", type=int, default=0, metavar="PIXELS", help="Shrink photos whose longer side is above this.")
@click.option("--background", default="white", show_default=True, metavar="COLOUR", help="Goes under transparency.")
@click.option("--captions/--no-captions", default=True, help="Give captions their image's name, make them UTF-8.")
@click.option("--workers", type=click.IntRange(min=1), help="Processes that examine; one a processor otherwise.")
@click.option("--json", "as_json", is_flag=True, help="The same as one JSON object.")
def repair(
    dir: Path, dry_run: bool, undo: bool, resume: bool, workers: int | None, as_json: bool, **chosen: Any
) -> None:
    """Mend the photos in DIR and their captions: upright, readable, once each. Nothing is deleted.

    What does not decode, and copies, go to DIR/_quarantine with their captions. Originals are kept in
    DIR/.kohyakit_undo; --undo puts every byte back, also after a run that was killed.

    Exit code 0: all is well, 1: something is left to do, 2: wrong use.
    """
    from kohyakit.audit.repair.run import RepairOptions, repair_dataset, undo_repair

    if undo:
        undone = undo_repair(dir)
        _show_undone(undone, as_json)
        sys.exit(1 if undone.problems or undone.folder is None else 0)
    found = repair_dataset(
        dir, options=RepairOptions(**chosen), dry_run=dry_run, resume=resume, workers=workers, progress=not as_json
    )
    if as_json:
        click.echo(json.dumps(found.to_dict(), ensure_ascii=False, indent=2))
    else:
        _show(found)
    sys.exit(1 if found.problems or (dry_run and found.done) else 0)


def _show(found: Any) -> None:
    if found.resumed:
        click.echo("Went on with a repair that had been stopped.")
    for line in found.to_dict()["steps"]:
        target = "" if line["target"] == line["path"] else f" -> {line['target']}"
        companions = ", ".join(Path(one["path"]).name for one in line["companions"])
        with_it = f" with {companions}" if companions else ""
        how = f" ({line['how']})" if line["how"] and line["kind"] == "rewrite" else ""
        click.echo(f"{line['path']}{target}{with_it}: {line['reason']}{how}")
    for problem in found.problems:
        click.echo(f"{click.style('left to you', fg='yellow')}: {problem}")
    count = len(found.done)
    files = f"{count} file{'' if count == 1 else 's'}"
    if found.dry_run:
        click.echo(f"{files} would be changed; nothing was." if count else "Nothing to mend.")
    elif count:
        click.echo(f"{files} changed. Take it back with: kohyakit repair {found.root} --undo")
    else:
        click.echo("Nothing to mend.")


def _show_undone(undone: Any, as_json: bool) -> None:
    problems = [str(problem) for problem in undone.problems]
    if as_json:
        folder = str(undone.folder) if undone.folder else None
        edited = [str(problem) for problem in undone.edited]
        found = {"root": str(undone.root), "undone": folder, "problems": problems, "edited": edited}
        click.echo(json.dumps(found, indent=2))
        return
    for problem in undone.edited:
        click.echo(f"{click.style('kept aside', fg='yellow')}: {problem}")
    for problem in problems:
        click.echo(f"{click.style('left to you', fg='yellow')}: {problem}")
    if undone.folder is None:
        click.echo("There is no repair to take back.")
    elif not problems:
        click.echo("Taken back: every file is as it was.")

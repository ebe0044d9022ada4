"""kohyakit audit."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click


@click.command()
@click.argument("dir", type=click.Path(path_type=Path))
@click.option(
    "--config", type=click.Path(path_type=Path), help="A preset or TOML: its resolution, buckets and captions."
)
@click.option("--resolution", metavar="SIZE", help="Judge for this training size, such as 768 or 768,512.")
@click.option(
    "--what-if", metavar="SIZES", default="", help="Also show the buckets at other sizes, such as 512,768,1024."
)
@click.option("--reg", "reg_dir", type=click.Path(path_type=Path), help="Regularisation subsets that lie elsewhere.")
@click.option("--caption-extension", metavar="EXT", help="Such as .txt; else the config's, else the commonest.")
@click.option("--quick", is_flag=True, help="Headers, captions, layout and buckets only; nothing is decoded.")
@click.option(
    "--check", "checks", multiple=True, metavar="NAME", help="Run only this check; may be given several times."
)
@click.option("--threshold", "pairs", multiple=True, metavar="NAME=VALUE", help="Set a check's threshold.")
@click.option("--thresholds", type=click.Path(path_type=Path), help="A TOML file of thresholds.")
@click.option("--html", type=click.Path(path_type=Path), help="Write a report with thumbnails and charts.")
@click.option("--csv", type=click.Path(path_type=Path), help="Write the images, and the issues beside them.")
@click.option("--parquet", type=click.Path(path_type=Path), help="The same as Parquet.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object: images, issues, summary.")
@click.option("--all", "everything", is_flag=True, help="Print every finding, not the first of each kind.")
@click.option("--workers", type=click.IntRange(0), help="Processes; one a processor if not given.")
@click.option("--list-checks", is_flag=True, is_eager=True, expose_value=False, callback=lambda c, p, v: _list(c, v),
              help="Show checks, issues and thresholds.")  # fmt: skip
def audit(dir: Path, pairs: tuple[str, ...], thresholds: Path | None, html: Path | None, csv: Path | None,
          parquet: Path | None, as_json: bool, everything: bool, checks: tuple[str, ...],
          **asked: Any) -> None:  # fmt: skip
    """Find what is wrong with the images and captions below DIR.

    DIR is a Kohya img/ folder, a project with img/ and reg/, or any folder of images. Nothing is changed.
    Exit code: 0 nothing that would break or spoil a training, 1 something would, 2 wrong use.
    """
    from kohyakit.audit.run import audit_dataset

    _can_write(path for path in (html, csv, parquet) if path is not None)
    report = audit_dataset(
        dir, checks=checks or None, thresholds=_thresholds(pairs, thresholds), progress=sys.stderr.isatty(), **asked
    )
    if as_json:
        from kohyakit.audit.report.render import dump_json

        click.echo(dump_json(report))
    else:
        _print(report, everything)
    for path, write in ((html, report.to_html), (csv, report.to_csv), (parquet, report.to_parquet)):
        if path is not None:
            written = _written(path, write)
            click.echo(f"wrote {written}", err=True)
    sys.exit(0 if report.ok else 1)


def _print(report: Any, everything: bool) -> None:
    import shutil

    from kohyakit.audit.report.table import as_text

    colours: dict[str, dict[str, Any]] = {
        "error": {"fg": "red", "bold": True},
        "warning": {"fg": "yellow"},
        "hint": {"fg": "cyan"},
        "title": {"bold": True},
    }
    width = min(shutil.get_terminal_size((80, 24)).columns, 120)
    rows = None if everything else 8
    click.echo(as_text(report, width=width, rows=rows, paint=lambda text, kind: click.style(text, **colours[kind])))


def _can_write(paths: Iterable[Path]) -> None:
    """Said before an hour of opening pictures, not after it."""
    from kohyakit.errors import ConfigError, Problem

    problems = []
    for path in paths:
        if os.path.isdir(path):
            problems.append(Problem(str(path), "is a folder, but a file is to be written", "name a file in it"))
        elif not os.path.isdir(path.absolute().parent):
            problems.append(Problem(str(path), "its folder does not exist", "make it first, or name another"))
    if problems:
        raise ConfigError(problems)


def _written(path: Path, write: Any) -> str:
    from kohyakit.errors import KohyakitError, Problem

    try:
        paths = write(path)
    except OSError as error:
        raise KohyakitError(
            Problem(str(path), f"cannot be written ({error.strerror or error})", "name a file in a folder that exists")
        ) from None
    return ", ".join(map(str, paths)) if isinstance(paths, tuple) else str(paths)


def _thresholds(pairs: tuple[str, ...], file: Path | None) -> dict[str, Any]:
    """Thresholds of the file, then those of the command line above them."""
    from kohyakit.errors import ConfigError, Problem

    values: dict[str, Any] = {}
    if file is not None:
        import tomllib

        from kohyakit.files import read_text

        try:
            values = tomllib.loads(read_text(file, encoding="utf-8-sig"))
        except (OSError, ValueError) as error:
            raise ConfigError(
                Problem(str(file), f"cannot be read as TOML ({error})", "write lines such as blur_sharpness = 0.3")
            ) from None
    wrong = [pair for pair in pairs if "=" not in pair]
    if wrong:
        raise ConfigError(
            [Problem(f"--threshold {pair}", "a name and a value were wanted", "write NAME=VALUE") for pair in wrong]
        )
    return values | dict(pair.split("=", 1) for pair in pairs)


def _list(context: click.Context, wanted: bool) -> None:
    if not wanted or context.resilient_parsing:
        return
    from kohyakit.audit.check import load_checks
    from kohyakit.registry import CHECKS

    for name, check in load_checks().items():
        click.echo(f"{click.style(name, bold=True)}: {CHECKS[name].help}")
        for issue, title in check.issues.items():
            click.echo(f"  {issue:28} {title}")
        for threshold in check.thresholds:
            click.echo(f"  --threshold {threshold.name}={threshold.default:g}  {threshold.help}")
    context.exit()

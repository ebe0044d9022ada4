"""kohyakit doctor: what this machine has, and what stands in the way."""

from __future__ import annotations

import shutil
import sys
import textwrap
from pathlib import Path

import click

from kohyakit.cli.views.terminal import severity


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def doctor(as_json: bool) -> None:
    """Say what this machine has for kohyakit: Python, packages, devices, disk, sd-scripts nearby.

    What is printed can be shown to anybody: no path of yours, no name, no token. Exit code 0: nothing is
    broken, 1: something is.
    """
    from kohyakit.doctor.report import examine

    report = examine(Path.cwd())
    width = min(shutil.get_terminal_size((80, 24)).columns, 120)
    if as_json:
        import json

        click.echo(json.dumps(report.as_data(), ensure_ascii=False, indent=2))
    else:
        for title, rows in report.sections.items():
            click.echo(click.style(title, bold=True))
            for name, text in rows:
                lines = textwrap.wrap(text, width - 16, break_long_words=False, break_on_hyphens=False) or [""]
                click.echo((f"  {name:<13} " + f"\n{'':16}".join(lines)).rstrip())
        for problem in report.problems:
            click.echo(f"{severity(problem.severity)}: {problem}")
        if not report.problems:
            click.echo("Nothing stands in the way.")
    sys.exit(0 if report.ok else 1)

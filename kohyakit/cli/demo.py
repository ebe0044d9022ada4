"""kohyakit demo"""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option("--dir", "folder", type=click.Path(path_type=Path), default=Path("kohyakit-demo"), show_default=True,
              help="Where the demo's project is made; it must not exist yet.")  # fmt: skip
@click.option("--quiet", is_flag=True, help="No progress bar.")
def demo(folder: Path, quiet: bool) -> None:
    """Make a small project, check it and train it, offline, in about a minute.

    \b
        kohyakit demo
    """
    from kohyakit.cli.views.plan import show_plan
    from kohyakit.demo.walk import run_demo

    run_demo(folder, show=show_plan, echo=click.echo, progress=not quiet)

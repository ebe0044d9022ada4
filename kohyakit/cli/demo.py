"""kohyakit demo"""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command()
@click.option("--dir", "folder", type=click.Path(path_type=Path), default=Path("kohyakit-demo"), show_default=True,
              help="Where the demo's project is made; it must not exist yet.")  # fmt: skip
@click.option("--steps", type=click.IntRange(1), metavar="N",
              help="Train only so many steps, twice: too few to learn, enough to see how it goes.")  # fmt: skip
@click.option("--quiet", is_flag=True, help="No progress bar.")
def demo(folder: Path, steps: int | None, quiet: bool) -> None:
    """Teach a small Stable Diffusion a thing that it does not know, offline, in a few minutes.

    \b
        kohyakit demo
    """
    from kohyakit.cli.views.plan import show_plan
    from kohyakit.demo.walk import Teller, run_demo

    try:
        run_demo(folder, Teller(show_plan, click.echo, progress=not quiet), steps=steps)
    except KeyboardInterrupt:
        sys.exit(130)

"""kohyakit dashboard: the pages in the browser, on this machine only."""

from __future__ import annotations

import contextlib
from pathlib import Path

import click


@click.command()
@click.argument("project", type=click.Path(path_type=Path), default=".")
@click.option("--port", default=8501, show_default=True, help="Port to listen on; 0 takes a free one.")
@click.option(
    "--address", default="127.0.0.1", show_default=True, help="Listen elsewhere too; every page then asks for a token."
)
@click.option("--name", "names", multiple=True, metavar="HOST",
              help="A further DNS name under which you open it; every page then asks for a token.")  # fmt: skip
@click.option("--no-browser", is_flag=True, help="Print the address and open nothing.")
def dashboard(project: Path, port: int, address: str, names: tuple[str, ...], no_browser: bool) -> None:
    """Compare runs, samples and data sets of PROJECT (this folder by default) in the browser.

    Example: kohyakit dashboard my-lora
    """
    from kohyakit.dashboard.serve.server import serve

    def ready(where) -> None:
        click.echo(f"kohyakit dashboard: {where.url}")
        if where.token:
            click.echo("Anyone with this address can see the project and start trainings; it is not encrypted.")
        click.echo("Ctrl+C stops the dashboard; trainings go on.")

    with contextlib.suppress(KeyboardInterrupt):
        serve(project, address=address, port=port, names=names, browser=not no_browser, ready=ready)

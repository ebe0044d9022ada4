"""kohyakit schema: a JSON Schema for editors."""

from __future__ import annotations

import json

import click


@click.command()
@click.option(
    "--for", "kind", type=click.Choice(["toml", "gui-json", "dataset"]), default="toml", show_default=True,
    help="The file it describes: a config_file TOML, a GUI preset, or a dataset_config.",
)  # fmt: skip
def schema(kind: str) -> None:
    """Print a JSON Schema, for completion and red underlines in editors.

    TOML editors (Even Better TOML, taplo) read it from a first line such as  #:schema ./kohyakit.schema.json

    Example: kohyakit schema > kohyakit.schema.json
    """
    from kohyakit.describe.schema import schema as library

    click.echo(json.dumps(library(kind), indent=1, ensure_ascii=False))

"""kohyakit templates: presets to start from."""

from __future__ import annotations

import json
from pathlib import Path

import click

from kohyakit.cli import SuggestingGroup


@click.group(cls=SuggestingGroup)
def templates() -> None:
    """Presets, sample prompts and a project skeleton to start from: list, show, copy and own them."""


@templates.command("list")
@click.option("--json", "as_json", is_flag=True, help="The same as data.")
def list_templates(as_json: bool) -> None:
    """Every template with what it is for.

    Example: kohyakit templates list
    """
    from kohyakit.describe.templates import templates as library

    found = library()
    if as_json:
        rows = [
            {"name": t.name, "kind": t.kind, "summary": t.summary, "files": [p.name for p in t.paths]} for t in found
        ]
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    width = max(len(t.name) for t in found)
    for kind, title in (("preset", "Presets"), ("prompts", "Sample prompts"), ("project", "Project")):
        click.echo(click.style(title, bold=True))
        for template in found:
            if template.kind == kind:
                also = (
                    " (also .json, for the GUI)" if any(path.suffix == ".json" for path in template.paths[1:]) else ""
                )
                text = template.summary + also
                click.echo(click.wrap_text(text, 100, f"  {template.name:<{width}}  ", " " * (width + 4)))
        click.echo()
    click.echo("kohyakit templates copy NAME puts one into this folder.")


@templates.command()
@click.argument("name")
def show(name: str) -> None:
    """Print the template NAME; NAME.json is its GUI preset.

    Example: kohyakit templates show sd15-subject
    """
    from kohyakit.describe.templates import find

    template, path = find(name)
    if template.kind == "project":
        click.echo((path / "README.md").read_text(encoding="utf-8"), nl=False)
        for file in sorted(file for file in path.rglob("*") if file.is_file()):
            click.echo(file.relative_to(path).as_posix())
        return
    click.echo(path.read_text(encoding="utf-8"), nl=False)


@templates.command()
@click.argument("name")
@click.argument("dst", required=False, type=click.Path(path_type=Path))
@click.option("--preset", default="sd15-subject", show_default=True, help="Settings that a new project starts with.")
def copy(name: str, dst: Path | None, preset: str) -> None:
    """Copy the template NAME to DST (a file or a folder; this folder by default). Nothing is ever overwritten.

    Example: kohyakit templates copy sd15-subject portrait.toml
    """
    from kohyakit.describe.templates import copy as library

    for path in library(name, dst, preset=preset):
        click.echo(f"wrote {path}")

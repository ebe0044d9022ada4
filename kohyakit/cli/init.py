"""`kohyakit init`: a project folder with photos copied in."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--images", type=click.Path(path_type=Path), metavar="FOLDER", help="Photos to copy into img/.")
@click.option("--name", default="subject", show_default=True, help="What they show, as in 'sks dog'; names the folder.")
@click.option("--repeats", default=10, show_default=True, help="How often an epoch shows each photo.")
@click.option("--reg", type=click.Path(path_type=Path), metavar="FOLDER", help="Regularisation images for reg/.")
@click.option("--class", "class_name", default="", help="What the regularisation images show, as in 'dog'.")
@click.option("--model", default="", metavar="PATH", help="Base model for the config.")
@click.option("--json", "as_json", is_flag=True, help="Say what was made as one JSON object.")
def init(
    folder: Path,
    images: Path | None,
    name: str,
    repeats: int,
    reg: Path | None,
    class_name: str,
    model: str,
    as_json: bool,
) -> None:
    """Make a project in FOLDER: img/ reg/ log/ model/ and a config to start from.

    Photos are copied, with the captions beside them; the originals stay as they are.
    """
    from kohyakit.dataset.images import shown
    from kohyakit.dataset.project import Concept, make_project

    concepts = [Concept(images, name, repeats)] if images else []
    regs = [Concept(reg, class_name or name.split()[-1], 1)] if reg else []
    project = make_project(folder, concepts, regs, model=model)
    if as_json:
        data = {
            "folder": str(project.folder),
            "config": str(project.config),
            "copied": {str(source): count for source, count in project.copied.items()},
            "left": [str(path) for path in project.left],
        }
        click.echo(json.dumps(data, ensure_ascii=False, indent=2))
        return
    click.echo(f"Made {shown(project.folder)}")
    for source, count in project.copied.items():
        click.echo(f"  {count} image{'s' if count != 1 else ''} copied from {shown(source)}")
    if project.left:
        click.echo(f"  {len(project.left)} not copied, no trainer reads them: {shown(project.left[0].name)} ...")
    if not concepts:
        click.echo("  put photos into img/10_subject (repeats, underscore, subject)")
    click.echo(f"Next: kohyakit check {_quoted(shown(project.config))}")


def _quoted(path: str) -> str:
    return f'"{path}"' if " " in path else path

"""`kohyakit diff`: what differs between two presets, TOMLs or command lines."""

from __future__ import annotations

import json
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from kohyakit.config.train import TrainConfig
    from kohyakit.errors import Problem
    from kohyakit.formats.differences import Difference

_FORMATS = {"gui-json": "GUI preset", "toml": "config_file", "args": "command line"}


@click.command()
@click.argument("left", type=click.Path(path_type=Path))
@click.argument("right", type=click.Path(path_type=Path))
@click.option("--tab", type=click.Choice(["lora", "dreambooth", "finetune", "ti"]), help="The GUI's tab of a preset.")
@click.option("--as-gui", is_flag=True, help="Read presets exactly as a fresh GUI session would hand them over.")
@click.option("--json", "as_json", is_flag=True, help="The same as one JSON object.")
def diff(left: Path, right: Path, tab: str | None, as_gui: bool, as_json: bool) -> None:
    """Show what differs between two presets or TOML files, whatever their formats.

    Values that a file leaves open count as what sd-scripts takes for them.
    """
    from kohyakit.errors import ConfigError
    from kohyakit.formats import load
    from kohyakit.formats.differences import differences, in_force

    configs: list[TrainConfig] = []
    problems: list[Problem] = []
    for path in (left, right):
        try:
            configs.append(load(path, tab=tab, as_gui=as_gui))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    found = differences(*configs)
    same = len(in_force(configs[0]).keys() | in_force(configs[1]).keys()) - len(found)
    if as_json:
        click.echo(
            json.dumps({"differences": [_data(each) for each in found], "same": same}, ensure_ascii=False, indent=2)
        )
        return
    names = [
        f"{path.name} ({_FORMATS.get(config.source.format if config.source else 'args', 'another trainer')})"
        for path, config in zip((left, right), configs, strict=True)
    ]
    _show(names, found)
    click.echo(
        f"{len(found)} {'differs' if len(found) == 1 else 'differ'}, {same} are the same."
        if found
        else "No difference."
    )


def _data(each: Difference) -> dict[str, Any]:
    ratio = round(each.ratio, 6) if each.ratio is not None else None
    return {"name": each.name, "section": each.section, "left": each.left, "right": each.right, "ratio": ratio}


def _show(names: list[str], found: list[Difference]) -> None:
    """Three columns: name, left, right with the ratio; each section under its title."""
    if not found:
        return
    width = max(len(each.name) for each in found) + 4
    room = min(max(len(_text(each.left)) for each in found), 44)
    room = max(room, min(len(names[0]), 30))
    click.echo(f"{'':<{width}}{_cut(names[0], room):<{room}}  {names[1]}")
    for section, group in groupby(found, key=attrgetter("section")):
        click.echo(click.style(section, bold=True))
        for each in group:
            ratio = f"  {click.style(_ratio(each.ratio), dim=True)}" if each.ratio is not None else ""
            one, other = _cut(_text(each.left), room), _cut(_text(each.right), 58)
            click.echo(f"  {each.name:<{width - 2}}{one:<{room}}  {other}{ratio}")
    click.echo()


def _ratio(ratio: float) -> str:
    factor = max(ratio, 1 / ratio)
    return f"{'x' if ratio >= 1 else '/'}{factor:.3g}" if factor < 1000 else f"{'x' if ratio >= 1 else '/'}{factor:.0f}"


def _text(value: Any) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e9:
        return str(int(value))
    if isinstance(value, (tuple, list)):
        return " ".join(_text(item) for item in value)
    return str(value).replace("\n", " | ")


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else f"{text[: room - 1]}…"

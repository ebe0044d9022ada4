"""kohyakit explain: one parameter in plain words."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from kohyakit.describe.explain import Explanation


@click.command()
@click.argument("name", required=False)
@click.argument("config", required=False, type=click.Path(path_type=Path))
@click.option("--command", metavar="N", help="Which training of a command file, by its number or output_name.")
@click.option("--json", "as_json", is_flag=True, help="The same as data.")
@click.option("--list", "list_names", is_flag=True, help="Every name there is, one a line.")
@click.option("--markdown", is_flag=True, help="The page docs/parameters.md: all of them as a table.")
def explain(
    name: str | None, config: Path | None, command: str | None, as_json: bool, list_names: bool, markdown: bool
) -> None:
    """Say what NAME does, its bounds and defaults, what to try when; with CONFIG, the value in force and its origin.

    NAME is an option of sd-scripts, a field of the GUI, or an argument inside network_args or optimizer_args.

    Example: kohyakit explain network_alpha portrait.json
    """
    from kohyakit.describe import explain as library

    if markdown:
        from kohyakit.describe.table import parameters_markdown

        click.echo(parameters_markdown(), nl=False)
        return
    if list_names:
        names = library.explained_names()
        click.echo(json.dumps(names, indent=2) if as_json else "\n".join(names))
        return
    if name is None:
        raise click.UsageError("Which name? For example: kohyakit explain network_dim (or --list)")
    loaded = None
    if config is not None:
        from kohyakit.formats import load

        loaded = load(config, command=command)
    found = library.explain(name, loaded)
    if as_json:
        click.echo(json.dumps([asdict(one) for one in found], indent=2, ensure_ascii=False, default=str))
        return
    if all(one.name != name.strip().lstrip("-").replace("-", "_") for one in found):  # what people call it
        click.echo(f"Nothing is called '{name}'; this is {found[0].name}.\n")
    click.echo("\n\n".join(_shown(one, with_config=loaded is not None) for one in found))


def _shown(one: Explanation, *, with_config: bool) -> str:
    """An explanation as lines of text, wrapped to the terminal."""
    import shutil

    width = min(shutil.get_terminal_size().columns, 100)
    about = ", ".join(part for part in (one.kind, one.where, f"section {one.section}" if one.section else "") if part)
    rows = [
        ("try", one.tip),
        ("bounds", one.bounds),
        ("choices", ", ".join(str(choice) for choice in one.choices)),
        ("default", _default(one)),
        ("in the GUI", _gui(one)),
        ("becomes", one.becomes),
        ("read by", _readers(one.taken_by)),
    ]
    if with_config:
        value = "not given" if one.value is None else _plain(one.value)
        rows.append(("in force", f"{value} ({one.origin})" if one.origin else value))
        rows += [("check says", text) for text in one.findings]
    lines = [f"{click.style(one.name, bold=True)}  ({about})", click.wrap_text(one.help, width, "  ", "  "), ""]
    lines += [click.wrap_text(text, width, f"  {label:<11} ", " " * 14) for label, text in rows if text]
    return "\n".join(lines)


def _readers(names: tuple[str, ...]) -> str:
    """The programs, well-known groups of them by name."""
    from kohyakit.config.scripts import FINETUNE_SCRIPTS, LORA_SCRIPTS, TI_SCRIPTS

    left, told = set(names), []
    for group, words in (
        (LORA_SCRIPTS, "every LoRA program"),
        (FINETUNE_SCRIPTS, "every full-training program"),
        (TI_SCRIPTS, "the embedding programs"),
    ):
        if group <= left:
            told.append(words)
            left -= group
    return ", ".join(told + [name for name in names if name in left])


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, (list, tuple)):
        return " ".join(str(item) for item in value) or "an empty list"
    return str(value) if value != "" else "empty"


def _default(one: Explanation) -> str:
    if one.where not in ("parameter", "parameter of kohyakit"):
        return "" if one.default is None else _plain(one.default)
    whose = "kohyakit" if one.where == "parameter of kohyakit" else "sd-scripts"
    return f"{'not given' if one.default is None else _plain(one.default)} ({whose})"


def _gui(one: Explanation) -> str:
    """Defaults by tab, equal ones together."""
    by_value: dict[str, list[str]] = {}
    for tab, value in one.gui_defaults.items():
        by_value.setdefault(_plain(value), []).append(tab)
    told = "; ".join(f"{value} ({', '.join(tabs)} tab)" for value, tabs in by_value.items())
    if not told or not one.gui_names:
        return told
    return f"{told}; fields: {', '.join(one.gui_names)}"

"""`kohyakit convert`: presets, TOMLs and command lines into each other."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from kohyakit.formats.convert import Conversion

_FORMATS = {
    "gui-json": "GUI preset", "toml": "config_file", "args": "command line",
    "dataset-toml": "dataset_config", "dataset-json": "dataset_config", "lora-scripts": "lora-scripts",
    "easy-scripts": "LoRA_Easy_Training_Scripts", "onetrainer": "OneTrainer", "musubi": "musubi-tuner",
}  # fmt: skip
_LABELS = {"differs": "the GUI"}
_COLOURS = {"error": "red", "warning": "yellow", "unknown": "yellow", "dropped": "yellow", "repaired": "cyan"}
_WIDTH = 10
_ORDER = ("set", "repaired", "unknown", "dropped", "differs", "defaulted", "mapped")


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--to", type=click.Choice(["toml", "json", "args"]), help="The format, where TARGET's name does not say.")
@click.option("--tab", type=click.Choice(["lora", "dreambooth", "finetune", "ti"]), help="The GUI's tab of a preset.")
@click.option("--set", "assignments", multiple=True, metavar="NAME=VALUE", help="Replace a value; repeatable.")
@click.option("--command", metavar="N", help="Which training of a command file, by its number or output_name.")
@click.option("--as-gui", is_flag=True, help="Exactly what a fresh GUI session would hand over, faults included.")
@click.option("--keep-secrets", is_flag=True, help="Keep wandb_api_key and huggingface_token.")
@click.option("--force", is_flag=True, help="Overwrite TARGET.")
@click.option("--verbose", "-v", is_flag=True, help="List every key.")
@click.option("--json", "as_json", is_flag=True, help="The report as one JSON object.")
def convert(
    source: Path, target: Path, assignments: tuple[str, ...], verbose: bool, as_json: bool, **options: Any
) -> None:
    """Turn SOURCE into TARGET: a GUI preset (.json), a config_file (.toml), a dataset_config or a command line (.args).

    TARGET may be - for standard output. A folder is converted file by file into the folder TARGET. Exit code 0:
    converted, 1: some file of a folder was not, 2: a file that cannot be used, or wrong use.
    """
    from kohyakit.config.read import parse_assignments
    from kohyakit.formats.convert import STDOUT, Options, convert_folder
    from kohyakit.formats.convert import convert as convert_file

    chosen = Options(overrides=parse_assignments(assignments), **options)
    if source.is_dir():
        sys.exit(_folder(convert_folder(source, target, chosen), as_json))
    done = convert_file(source, target, chosen)
    if as_json:
        click.echo(json.dumps(_data(done, with_text=target == STDOUT), ensure_ascii=False, indent=2, default=str))
        return
    if target == STDOUT:
        click.echo(done.text, nl=False)
    _show(done, verbose, err=target == STDOUT)


def _folder(conversions: Any, as_json: bool) -> int:
    """Convert a folder, one line a file; 1 where a file failed."""
    done = []
    for each in conversions:
        done.append(each)
        if as_json:
            continue
        if each.failed:
            click.echo(click.style(f"{each.source}", bold=True))
            for problem in each.problems:
                click.echo(f"  {click.style(f'{problem.severity:<8}', fg=_COLOURS.get(problem.severity))} {problem}")
    failed = [each for each in done if each.failed]
    if as_json:
        data = {"ok": not failed, "files": [_data(each) for each in done]}
        click.echo(json.dumps(data, ensure_ascii=False, indent=2, default=str))
    elif not done:
        click.echo("No preset, TOML or command line there.")
    else:
        click.echo(f"{len(done) - len(failed)} of {len(done)} converted" + (f", {len(failed)} not." if failed else "."))
    return 1 if failed else 0


def _data(done: Conversion, with_text: bool = False) -> dict[str, Any]:
    return {
        "ok": not done.failed,
        "source": str(done.source),
        "target": str(done.target),
        "from": done.source_format,
        "to": done.target_format,
        "tab": done.tab or None,
        "written": [str(path) for path in done.written],
        "keys": [{"key": note.key, "action": note.action, "text": note.text} for note in done.notes],
        "problems": [
            {"where": p.where, "what": p.what, "cure": p.cure, "name": p.name, "severity": p.severity}
            for p in done.problems
        ],
        **({"text": done.text} if with_text else {}),
    }


def _show(done: Conversion, verbose: bool, err: bool) -> None:
    """What a person should know of one conversion: what was repaired, dropped, unknown; the rest as a count."""
    formats = " -> ".join(_FORMATS.get(kind, kind) for kind in (done.source_format, done.target_format))
    tab = f", {done.tab} tab" if done.tab else ""
    click.echo(
        f"{click.style(str(done.source), bold=True)} -> {click.style(str(done.target), bold=True)}  ({formats}{tab})",
        err=err,
    )
    rows = [(note.action, note.key, note.text) for note in done.notes]
    shown = rows if verbose else [row for row in rows if _worth_telling(done, *row)]
    room = min(max((len(key) for _, key, _ in shown), default=0), 32)
    last = ""
    for action, key, text in sorted(shown, key=lambda row: _ORDER.index(row[0]) if row[0] in _ORDER else -1):
        label = _LABELS.get(action, action)
        head = click.style(f"{label:<{_WIDTH}}", fg=_COLOURS.get(action)) if label != last else " " * _WIDTH
        click.echo(f"{head}{key:<{room}}  {text}".rstrip(), err=err)
        last = label
    unknown = {key for action, key, _ in shown if action == "unknown"}
    for problem in done.problems:
        if any(f"unknown parameter '{key}'" in problem.what for key in unknown):
            continue
        click.echo(
            f"{click.style(f'{problem.severity:<{_WIDTH}}', fg=_COLOURS.get(problem.severity))}{problem}", err=err
        )
    if rows and not verbose:
        click.echo(_counts(rows, shown, _FORMATS.get(done.source_format, done.source_format)), err=err)


def _worth_telling(done: Conversion, action: str, key: str, text: str) -> bool:
    if action == "dropped":
        return (
            done.values.get(key, True) not in (None, "", 0, False, -1)
            and "GUI's" not in text
            and not _is_default(done, key)
        )
    if action == "repaired":
        return not text.startswith("empty is") and done.values.get(key) != ""
    into_free_text = key == "additional_parameters" and done.target_format == "gui-json"
    return action in ("unknown", "differs", "set") or (action == "mapped" and into_free_text and text != "")


def _is_default(done: Conversion, key: str) -> bool:
    from kohyakit.formats.gui.fields import TABS, fields

    return any(key in fields(tab) and fields(tab)[key].default == done.values.get(key) for tab in TABS)


def _counts(rows: list[tuple[str, str, str]], shown: list[tuple[str, str, str]], source: str) -> str:
    whose = "the GUI" if source == _FORMATS["gui-json"] else source
    counts = Counter(action for action, _, _ in rows)
    told = [f"{counts['mapped']} mapped"]
    told += [f"{counts['defaulted']} defaults of {whose}"] if counts["defaulted"] else []
    quiet = sum(action == "dropped" for action, _, _ in rows) - sum(action == "dropped" for action, _, _ in shown)
    told += [f"{quiet} without effect"] if quiet else []
    return ", ".join(told) + "; -v lists every key"

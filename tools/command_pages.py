"""The pages docs/commands/*.md, a page for each command: what its help, its options and its library call say.

    python -m tools.command_pages

What stands between "## Example" and "## Options" is written by hand and kept: the example, which a test runs, the
exit code where the help does not tell it, what is written, and how that is taken back.
"""

from __future__ import annotations

import inspect
import json
import re
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from kohyakit.cli import COMMANDS, group

PLACE = Path(__file__).resolve().parent.parent / "docs" / "commands"
BY_HAND = re.compile(r"^## Example\n.*?(?=^## Options\n)", re.M | re.S)
# An option that so many commands of a group have is explained once, below them.
SEVERAL = 3
# command -> what it calls, where Python can call it too
CALLS: dict[str, str] = {
    "demo": "kohyakit.demo.walk:run_demo",
    "init": "kohyakit.dataset.project:make_project",
    "check": "kohyakit.planning.make:check_plan",
    "audit": "kohyakit.audit.run:audit_dataset",
    "caption": "kohyakit.captioning.run:caption_folder",
    "captions stats": "kohyakit.dataset.captions.statistics:statistics",
    "captions history": "kohyakit.dataset.editing.captions:history",
    "captions undo": "kohyakit.dataset.editing.captions:undo",
    "repair": "kohyakit.audit.repair.run:repair_dataset",
    "train": "kohyakit.train.start:train_network",
    "lora check": "kohyakit.lora.inspect:inspect",
    "lora convert": "kohyakit.lora.convert:convert",
    "lora merge": "kohyakit.lora.merge:merge",
    "lora average": "kohyakit.lora.average:average",
    "lora resize": "kohyakit.lora.resize:resize",
    "lora extract": "kohyakit.lora.extract:extract",
    "lora strip": "kohyakit.lora.relabel:strip",
    "lora set": "kohyakit.lora.relabel:set_metadata",
    "lora diff": "kohyakit.lora.compare:compare",
    "launch": "kohyakit.launch.accelerate:launch_builtin",
    "convert": "kohyakit.formats.convert:convert",
    "diff": "kohyakit.formats.differences:differences",
    "explain": "kohyakit.describe.explain:explain",
    "schema": "kohyakit.describe.schema:schema",
    "templates list": "kohyakit.describe.templates:templates",
    "templates copy": "kohyakit.describe.templates:copy",
    "runs list": "kohyakit.runs.registry:list_runs",
    "runs best": "kohyakit.runs.comparison.best:best",
    "runs import": "kohyakit.runs.old.importing:import_runs",
    "doctor": "kohyakit.doctor.report:examine",
    "dashboard": "kohyakit.dashboard.serve.server:serve",
}

Commands = dict[str, click.Command]


def page(name: str, by_hand: str) -> str:
    """The whole page of a command; by_hand: its example and what follows it, up to the options."""
    command = group.get_command(click.Context(group), name)
    assert command is not None
    below: Commands = getattr(command, "commands", {})
    title = f"kohyakit {name}"
    parts = [f"# {title}", COMMANDS[name][1], *_about(title, command), by_hand.strip(), "## Options"]
    if below:
        parts += _subcommands(title, below)
    else:
        parts += [_table(command.params)]
    calls = [_call(path) for words, path in CALLS.items() if words.split()[0] == name]
    return "\n\n".join([*parts, *(["## From Python", *calls] if calls else [])]) + "\n"


def index() -> str:
    """The page that names them all."""
    rows = [f"| [{name}]({name}.md) | {summary} |" for name, (_, summary) in COMMANDS.items()]
    return "\n\n".join([
        "# Commands",
        "A page for each command: an example, what it ends with, what it writes and how that is taken back, every "
        "option. `kohyakit COMMAND --help` tells the options in the terminal. The examples go on where `kohyakit demo` "
        "left off and are run by a test; `…` and `...` stand for what differs between machines, or was left out.",
        "\n".join(["| command | does |", "|---|---|", *rows]),
    ]) + "\n"  # fmt: skip


def _about(title: str, command: click.Command) -> list[str]:
    """How it is typed, and its help: lines that click keeps as they are become a block."""
    pieces = command.collect_usage_pieces(click.Context(command, info_name=title))
    told = [f"```\n{' '.join([title, *pieces])}\n```"]
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        if paragraph.startswith("\b\n"):
            told.append(f"```sh\n{inspect.cleandoc(paragraph[2:])}\n```")
        else:
            told.append(_plain(paragraph.replace("\n", " ")))
    return told


def _subcommands(title: str, below: Commands) -> list[str]:
    """A section for each, then the options that several of them have."""
    told: list[str] = []
    counts = Counter(_key(option) for command in below.values() for option in _options(command))
    shared = {key for key, count in counts.items() if count >= SEVERAL}
    for name, command in below.items():
        own = [one for one in command.params if not isinstance(one, click.Option) or _key(one) not in shared]
        theirs = [f"`{_names(one)}`" for one in _options(command) if _key(one) in shared]
        told += [f"### {title} {name}", *_about(f"{title} {name}", command)]
        told += [_table(own)] if any(isinstance(one, click.Option) for one in own) else []
        told += [f"Also {', '.join(theirs)}: see [below](#options-that-several-have)."] if theirs else []
    several = {_key(one): one for command in below.values() for one in _options(command) if _key(one) in shared}
    return [*told, *(["### Options that several have", _table(list(several.values()))] if several else [])]


def _options(command: click.Command) -> Iterator[click.Option]:
    return (one for one in command.params if isinstance(one, click.Option) and not one.hidden)


def _key(option: click.Option) -> tuple[object, ...]:
    return (*option.opts, option.help, option.required, _values(option))


def _table(params: list[click.Parameter]) -> str:
    options = [one for one in params if isinstance(one, click.Option) and not one.hidden]
    if not options:
        return "None but `--help`."
    rows = [f"| `{_names(one)}` | {_plain(one.help or '')} | {_values(one)} | {_default(one)} |" for one in options]
    return "\n".join(["| option | does | takes | without it |", "|---|---|---|---|", *rows])


def _names(option: click.Option) -> str:
    return ", ".join([*option.opts, *option.secondary_opts])


def _values(option: click.Option) -> str:
    """What may stand behind an option: choices, a number with its bounds, a path, a text."""
    kind = option.type
    if option.is_flag:
        return ""
    if isinstance(kind, click.Choice):
        return ", ".join(f"`{choice}`" for choice in kind.choices)
    if isinstance(kind, (click.IntRange, click.FloatRange)):
        ends = [
            f"from {kind.min:g}" if kind.min is not None else "",
            f"to {kind.max:g}" if kind.max is not None else "",
        ]
        return " ".join(["a whole number" if isinstance(kind, click.IntRange) else "a number", *filter(None, ends)])
    plain = {click.INT: "a whole number", click.FLOAT: "a number"}
    known = plain.get(kind) or (f"`{option.metavar}`" if option.metavar else "")
    return known or ("a path" if isinstance(kind, click.Path) else "a text")


def _default(option: click.Option) -> str:
    """What counts where an option is not given; nothing where its help says it, or there is nothing."""
    if option.required:
        return "must be given"
    value = option.to_info_dict()["default"]
    if option.is_flag:
        return f"`{option.opts[0]}`" if option.secondary_opts and value else ""
    return "" if value in (None, "", ()) else f"`{Path(value).as_posix() if isinstance(value, Path) else value}`"


def _call(path: str) -> str:
    """What a command calls, as one would write it, with the first words of its docstring."""
    module, _, name = path.partition(":")
    call = getattr(import_module(module), name)
    text = inspect.getdoc(call) or ""
    block = f"```python\nfrom {module} import {name}\n\n{name}({_arguments(call)})\n```"
    return "\n\n".join([block, *(paragraph.replace("\n", " ") for paragraph in text.split("\n\n"))])


def _arguments(call: Any) -> str:
    told: list[str] = []
    for one in inspect.signature(call).parameters.values():
        if one.kind is one.KEYWORD_ONLY and "*" not in told:
            told.append("*")
        default = one.default
        written = "..." if callable(default) else json.dumps(default) if isinstance(default, str) else repr(default)
        told.append(str(one.replace(annotation=one.empty, default=one.empty)))
        told[-1] += "" if one.default is one.empty else f"={written}"
    return ", ".join(told)


def _plain(text: str) -> str:
    """Signs that a page would take for its own."""
    return re.sub(r"(?<!`)<([^>`]*)>", r"&lt;\1&gt;", text.replace("|", r"\|"))


def main() -> None:
    PLACE.mkdir(exist_ok=True)
    (PLACE / "README.md").write_text(index(), encoding="utf-8", newline="\n")
    for name in COMMANDS:
        path = PLACE / f"{name}.md"
        kept = BY_HAND.search(path.read_text(encoding="utf-8")) if path.exists() else None
        path.write_text(page(name, kept.group() if kept else "## Example\n"), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()

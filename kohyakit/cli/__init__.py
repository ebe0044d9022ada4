"""The command line: a door. Each command is a few lines over one library call, imported when it is called."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import click

# name -> (module:object, summary); the summary stands here so that --help imports no command.
COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("kohyakit.cli.demo:demo", "Teach a small Stable Diffusion a thing that it does not know, offline."),
    "init": ("kohyakit.cli.init:init", "Make a project: img/ reg/ log/ model/, photos copied in."),
    "check": ("kohyakit.cli.check:check", "Say what a training will do, and what is wrong, before it starts."),
    "audit": ("kohyakit.cli.audit:audit", "Find what is wrong with a photo set and its captions."),
    "caption": ("kohyakit.cli.caption:caption", "Let a model caption a photo set, with a way back."),
    "captions": ("kohyakit.cli.captions:captions", "Count what stands in captions, change many at once, undo."),
    "repair": ("kohyakit.cli.repair:repair", "Mend what audit found, with a way back."),
    "train": ("kohyakit.cli.train:train", "Train a LoRA from a preset or a TOML."),
    "lora": ("kohyakit.cli.lora:lora", "Look at LoRA files, convert, merge, shrink and compare them."),
    "launch": ("kohyakit.cli.launch:launch", "Train through accelerate: several processes, machines or GPUs."),
    "convert": ("kohyakit.cli.convert:convert", "Turn presets into TOML, command lines and back, nothing lost."),
    "diff": ("kohyakit.cli.diff:diff", "Show what differs between two presets or TOML files."),
    "explain": ("kohyakit.cli.explain:explain", "Say what a parameter does and which value is in force."),
    "schema": ("kohyakit.cli.schema:schema", "Print a JSON Schema for editors."),
    "templates": ("kohyakit.cli.templates:templates", "List, show and copy presets to start from."),
    "runs": ("kohyakit.cli.runs:runs", "List, compare and import trainings: 1a, 1b, 2a."),
    "doctor": ("kohyakit.cli.doctor:doctor", "Say what this machine has, and what stands in the way."),
    "dashboard": ("kohyakit.cli.dashboard:dashboard", "Compare runs, samples and data sets in the browser."),
}


Resolved = tuple[str | None, click.Command | None, list[str]]


def with_suggestion(group: click.Group, ctx: click.Context, args: list[str]) -> list[str]:
    """The arguments as they are; a command that there is not ends in a sentence that names the nearest."""
    name = args[0] if args else ""
    if name and not name.startswith("-") and group.get_command(ctx, name) is None:
        import difflib

        near = difflib.get_close_matches(name.lower()[:40], group.list_commands(ctx), n=1, cutoff=0.6)
        told = f" Did you mean {near[0]}?" if near else f" There are {', '.join(group.list_commands(ctx))}."
        ctx.fail(f"No such command '{name[:40]}'.{told}")
    return args


class SuggestingGroup(click.Group):
    """A group that names the nearest command where there is none of a name."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Resolved:
        return super().resolve_command(ctx, with_suggestion(self, ctx, args))


class LazyGroup(click.Group):
    """A group that imports a command's module only when the command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[name][0].partition(":")
        return getattr(import_module(module), attribute)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Resolved:
        return super().resolve_command(ctx, with_suggestion(self, ctx, args))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="kohyakit", message="kohyakit %(version)s")
def group() -> None:
    """Train Stable Diffusion LoRAs the Kohya way: import a preset, audit the photos, train, compare."""


def main(args: list[str] | None = None) -> Any:
    """Run the command line; an error of ours becomes its sentences on standard error and exit code 2."""
    from kohyakit.errors import KohyakitError, missing_extra

    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="replace")
    given = sys.argv[1:] if args is None else args
    try:
        try:
            return group.main(args=args, prog_name="kohyakit", standalone_mode=True)
        except ModuleNotFoundError as error:
            missing = missing_extra(error, " ".join(["kohyakit", *given[:1]]))
            if missing is None:
                raise
            raise missing from error
    except KohyakitError as error:
        for problem in error.problems:
            click.echo(f"{click.style('error', fg='red')}: {problem}", err=True)
        sys.exit(error.exit_code)

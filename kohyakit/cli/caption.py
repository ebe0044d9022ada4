"""kohyakit caption"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--with", "name", metavar="NAME", required=True, help="The captioner; docs/captions.md lists them.")
@click.option("--model", "place", metavar="PLACE", help="Folder, hub name or address in place of the usual one.")
@click.option("--model-name", default="", help="server: the model to ask, as the server calls it.")
@click.option(
    "--mode", type=click.Choice(["skip", "overwrite", "append", "prepend"]), default="skip", show_default=True,
    help="What to do where a caption is there already.",
)  # fmt: skip
@click.option("--trigger", default="", help="A word that stands first in every caption.")
@click.option(
    "--keep-tokens", type=click.IntRange(min=0), default=0, help="Tags of the old caption that stay in front."
)
@click.option("--prefix", default="", help="Before what the model says.")
@click.option("--suffix", default="", help="After what the model says.")
@click.option("--prompt", default="", help="What a describer begins with, or a chat model is asked.")
@click.option("--system", default="", help="chat, server: what the model is told before the picture.")
@click.option(
    "--max-tokens", type=click.IntRange(min=1), help="The longest answer; not given, as the model's kind needs."
)
@click.option("--threshold", type=click.FloatRange(0, 1), help="Taggers: the least score of a general tag.")
@click.option("--character-threshold", type=click.FloatRange(0, 1), help="Taggers: the least score of a character.")
@click.option("--rating", type=click.Choice(["first", "last"]), help="Taggers: write the rating, and where.")
@click.option("--characters-first", is_flag=True, help="Taggers: characters before all other tags.")
@click.option("--keep-underscores", is_flag=True, help="Taggers: `blue_sky` as the model knows it.")
@click.option("--undesired", multiple=True, metavar="TAG", help="Taggers: never write this tag; repeatable.")
@click.option("--replace", multiple=True, metavar="OLD=NEW", help="Taggers: write NEW for OLD; repeatable.")
@click.option("--extension", metavar=".txt", help="Of the caption files; not given, what most of them have.")
@click.option("--batch-size", type=click.IntRange(min=1), help="Pictures at once.")
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto", show_default=True,
    help="What computes; auto takes a GPU where there is one.",
)  # fmt: skip
@click.option("--download", is_flag=True, help="Fetch the model from the hub where it is not there yet.")
@click.option("--dry-run", is_flag=True, help="Say what would be captioned, and stop.")
def caption(folder: Path, name: str, place: str | None, dry_run: bool, **asked: Any) -> None:
    """Let a model caption the pictures in FOLDER and below.

    \b
        kohyakit caption img --with wd-eva02 --trigger "sks" --download
        kohyakit caption img --with blip --mode overwrite --keep-tokens 1
        kohyakit caption img --with server --model http://127.0.0.1:11434/v1

    Every change stands in the caption history (`.kohyakit/captions.jsonl`) and can be undone. Ctrl-C keeps what is
    done; the same command goes on where it stopped. Code that lies beside a model never runs.
    """
    from kohyakit.captioning.choose import choose
    from kohyakit.captioning.run import caption_folder, due
    from kohyakit.cli.views.caption import progress, show
    from kohyakit.dataset.captions.compose import Rules
    from kohyakit.dataset.editing.captions import ready

    rules = Rules(asked["mode"], asked["trigger"], asked["keep_tokens"], asked["prefix"], asked["suffix"])
    waiting, left = due(folder, rules, asked["extension"])
    click.echo(f"{len(waiting)} pictures to caption, {len(left)} left as they are")
    if dry_run or not waiting:
        return
    ready(folder)
    captioner = choose(name, place=place, **asked)
    click.echo(captioner.about)
    with progress(len(waiting)) as step:
        outcome = caption_folder(folder, captioner, rules, extension=asked["extension"], progress=step)
    show(outcome)
    if outcome.stopped:
        sys.exit(130)
    if outcome.problems:
        sys.exit(1)

"""`kohyakit check`: everything that will happen and everything that is wrong, before a training starts."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--set", "assignments", multiple=True, metavar="NAME=VALUE", help="Override a parameter; repeatable.")
@click.option(
    "--dataset-config", type=click.Path(path_type=Path), metavar="FILE", help="Take the data sets from this TOML."
)
@click.option("--allow-code", "allow_code", multiple=True, metavar="NAME",
              help="A class of your own that train may import; check imports none.")  # fmt: skip
@click.option("--command", metavar="N", help="Which training of a command file, by its number or output_name.")
@click.option("--decode", is_flag=True, help="Decode every image too, as the start of a training does.")
@click.option("--backend", type=click.Choice(["kohyakit", "sd-scripts"]), default="kohyakit", show_default=True,
              help="What is going to train it.")  # fmt: skip
@click.option("--vram", metavar="SIZE", help="The card's memory, such as 8GB: say what makes the training fit. "
              "Without it an NVIDIA card that is here is asked.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="The same as one JSON object.")
def check(
    config: Path, assignments: tuple[str, ...], dataset_config: Path | None, allow_code: tuple[str, ...],
    command: str | None, decode: bool, backend: str, vram: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Say what a training will do, and what is wrong, before it starts.

    CONFIG is a kohya_ss GUI preset (.json) or an sd-scripts TOML. Exit code 0: fine, 1: findings that stop a
    training, 2: wrong use.
    """
    from kohyakit.cli.views.plan import show_plan
    from kohyakit.config.read import parse_assignments
    from kohyakit.errors import KohyakitError
    from kohyakit.formats import load
    from kohyakit.planning.as_json import finding_data, plan_data
    from kohyakit.planning.make import check_plan
    from kohyakit.planning.size.fitting import card_memory, parse_memory

    try:
        card = parse_memory(vram) if vram else card_memory()
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--vram") from None
    try:
        loaded = load(config, overrides=parse_assignments(assignments), dataset_config=dataset_config, command=command)
    except KohyakitError as error:
        if not as_json:
            raise
        findings = [finding_data(problem) for problem in error.problems]
        click.echo(json.dumps({"ok": False, "findings": findings}, ensure_ascii=False, indent=2))
        sys.exit(error.exit_code)
    loaded = loaded.allowing(allow_code)
    plan = check_plan(loaded, decode=decode, backend=backend, vram=card)
    if as_json:
        click.echo(json.dumps(plan_data(plan), ensure_ascii=False, indent=2))
    else:
        show_plan(loaded, plan)
    sys.exit(1 if plan.errors else 0)

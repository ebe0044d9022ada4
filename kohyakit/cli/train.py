"""kohyakit train"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from kohyakit.config.train import TrainConfig
    from kohyakit.runs.run import Run


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option(
    "--set", "assignments", multiple=True, metavar="NAME=VALUE", help="Replace a value of CONFIG; repeatable."
)
@click.option("--dataset-config", type=click.Path(path_type=Path), help="The dataset TOML to train on.")
@click.option("--allow-code", "allow_code", multiple=True, metavar="NAME",
              help="Let the training import this class of your own; repeatable.")  # fmt: skip
@click.option("--command", metavar="N", help="Which training of a command file, by its number or output_name.")
@click.option("--dry-run", is_flag=True, help="Say what would happen, as `kohyakit check` does, and stop.")
@click.option("--skip-bad-images", is_flag=True, help="Leave out images that do not decode, and go on.")
@click.option("--download", is_flag=True, help="Fetch a base model or VAE that has a name on the hub and is not here.")
@click.option("--version", "run_version", metavar="1b", help="The run's name; the next free one by default.")
@click.option("--parent", metavar="1a", help="The run that this one is compared with.")
@click.option("--note", default="", help="A remark kept with the run.")
@click.option(
    "--backend",
    type=click.Choice(["kohyakit", "sd-scripts"]),
    default="kohyakit",
    show_default=True,
    help="Train in this process, or drive an existing sd-scripts checkout.",
)
@click.option("--sd-scripts", "directory", type=click.Path(path_type=Path), help="The sd-scripts checkout.")
@click.option("--python", "python", metavar="EXE", help="The Python that has sd-scripts' packages.")
@click.option("--print-command", is_flag=True, help="Print the command for sd-scripts and stop.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
@click.pass_context
def train(
    context: click.Context,
    config: Path,
    assignments: tuple[str, ...],
    dataset_config: Path | None,
    allow_code: tuple[str, ...],
    command: str | None,
    dry_run: bool,
    skip_bad_images: bool,
    download: bool,
    run_version: str | None,
    parent: str | None,
    note: str,
    backend: str,
    directory: Path | None,
    python: str | None,
    print_command: bool,
    quiet: bool,
) -> None:
    """Train a LoRA from CONFIG, a kohya_ss preset (JSON) or an sd-scripts TOML.

    \b
        kohyakit train portrait.json
        kohyakit train portrait.toml --set network_dim=32 --set max_train_epochs=8
        kohyakit train flux.toml --backend sd-scripts --sd-scripts ../sd-scripts

    Ctrl-C finishes the step, saves, and says how to go on.
    """
    if dry_run:
        from kohyakit.cli.check import check

        context.invoke(
            check, config=config, assignments=assignments, dataset_config=dataset_config, allow_code=allow_code,
            command=command, backend=backend,
        )  # fmt: skip
        return
    from kohyakit.config.read import parse_assignments
    from kohyakit.formats import load

    overrides = parse_assignments(assignments)
    settings = load(config, overrides=overrides, dataset_config=dataset_config, command=command)
    settings = settings.allowing(allow_code)
    if download:
        from kohyakit.planning.inputs import hub

        for place in hub.fetch_missing(settings):
            click.echo(f"fetched {place}", err=True)
    told: dict[str, Any] = {"version": run_version, "parent": parent, "note": note}
    if backend == "sd-scripts" or print_command:
        from kohyakit.launch import sd_scripts

        run = sd_scripts.run(settings, directory, python=python, print_command=print_command, **told)
    else:
        told |= {"skip_bad_images": skip_bad_images, "progress": not quiet}
        run = _in_process(settings, own_code=bool(allow_code), **told)
    if run is not None and run.status == "interrupted":
        sys.exit(130)
    if run is not None:
        _judge(run)


def _in_process(settings: TrainConfig, *, own_code: bool, **asked: Any) -> Run | None:
    from kohyakit.train import ahead
    from kohyakit.train.start import train_network

    if not own_code:  # a class of one's own may want anything
        ahead.spare(*ahead.UNUSED)
    try:
        return train_network(settings, **asked)
    except KeyboardInterrupt:
        sys.exit(130)


def _judge(run: Run) -> None:
    """Say who reads what was trained; where torch is missing, as it may be beside sd-scripts, that is left out."""
    from kohyakit.errors import KohyakitError
    from kohyakit.runs.verdict import sentences

    with contextlib.suppress(KohyakitError, ModuleNotFoundError):
        from kohyakit.lora.verdict import judge_run

        verdict = judge_run(run).record.verdict
        for severity, sentence in sentences(verdict):
            if severity != "good":
                click.echo(f"{severity}: {verdict['file']}: {sentence}", err=True)

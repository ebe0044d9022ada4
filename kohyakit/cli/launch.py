"""kohyakit launch: training through accelerate."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command(context_settings={"ignore_unknown_options": False})
@click.argument("config", type=click.Path(path_type=Path))
@click.argument("accelerate_options", nargs=-1, type=click.UNPROCESSED)
@click.option("--num_processes", type=int, help="Processes, one for each GPU.")
@click.option("--num_machines", type=int, help="Computers that train together.")
@click.option("--machine_rank", type=int, help="Number of this computer, from 0.")
@click.option("--main_process_ip", metavar="IP", help="Address of computer 0.")
@click.option("--main_process_port", type=int, help="Port over which the processes meet.")
@click.option("--mixed_precision", type=click.Choice(["no", "fp16", "bf16"]), help="Replaces the config's.")
@click.option("--gpu_ids", metavar="0,1", help="The GPUs to use.")
@click.option("--num_cpu_threads_per_process", type=int, help="CPU threads of each process.")
@click.option("--multi_gpu", is_flag=True, help="Spread the run over this computer's GPUs.")
@click.option(
    "--set", "assignments", multiple=True, metavar="NAME=VALUE", help="Replace a value of CONFIG; may be repeated."
)
@click.option("--allow-code", "allow_code", multiple=True, metavar="NAME",
              help="Let the training import this class of your own; repeatable.")  # fmt: skip
@click.option("--command", metavar="N", help="Which training of a command file, by its number or output_name.")
@click.option("--backend", type=click.Choice(["kohyakit", "sd-scripts"]), default="kohyakit", show_default=True,
              help="Which trainer runs in the processes.")  # fmt: skip
@click.option("--sd-scripts", "directory", type=click.Path(path_type=Path), help="The sd-scripts checkout.")
@click.option("--python", metavar="EXE", help="The Python that has sd-scripts' packages.")
@click.option("--print-command", is_flag=True, help="Print the command and stop.")
def launch(config: Path, accelerate_options: tuple[str, ...], machine_rank: int | None, main_process_ip: str | None,
           assignments: tuple[str, ...], allow_code: tuple[str, ...], command: str | None, backend: str,
           directory: Path | None, python: str | None, print_command: bool, **settings: object) -> None:  # fmt: skip
    """Train CONFIG through accelerate: several processes, GPUs or computers, with either trainer.

    \b
        kohyakit launch portrait.toml --num_processes 2 --multi_gpu
        kohyakit launch flux.toml --backend sd-scripts --sd-scripts ../sd-scripts --gpu_ids 1
        kohyakit launch portrait.toml --num_processes 2 -- --rdzv_backend c10d

    What stands behind -- goes to accelerate launch as it is.
    """
    from kohyakit.config.read import parse_assignments
    from kohyakit.formats import command as command_line
    from kohyakit.formats import load
    from kohyakit.launch import accelerate, sd_scripts

    given = {name: str(value) for name, value in settings.items() if value is not None and value is not False}
    given |= parse_assignments(assignments)
    loaded = load(config, overrides=given, command=command).allowing(allow_code)
    extra = [*accelerate_options]
    extra += ["--machine_rank", str(machine_rank)] if machine_rank is not None else []
    extra += ["--main_process_ip", main_process_ip] if main_process_ip else []
    if backend == "sd-scripts":
        more = " ".join((loaded.launch.extra_accelerate_launch_args, command_line.join(extra))).strip()
        sd_scripts.run(
            loaded.with_values(extra_accelerate_launch_args=more).allowing(extra), directory, python=python,
            print_command=print_command,
        )  # fmt: skip
        return
    arguments = [word for name, value in given.items() for word in ("--set", f"{name}={value}")]
    arguments += [word for name in allow_code for word in ("--allow-code", name)]
    arguments += ["--command", command] if command else []
    if print_command:
        words = accelerate.command(loaded, [*accelerate.TRAIN, str(config), *arguments], extra=extra)
        click.echo(command_line.join(words))
        return
    sys.exit(accelerate.launch_builtin(loaded, config, arguments=arguments, extra=extra))

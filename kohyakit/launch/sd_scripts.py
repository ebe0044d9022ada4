"""Training with an existing sd-scripts checkout: the same config, the same record, the real cause of a failure."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from kohyakit.config.scripts import model_family
from kohyakit.config.train import TrainConfig
from kohyakit.dataset import layout
from kohyakit.errors import ConfigError, Problem, RunError
from kohyakit.formats import command as command_line
from kohyakit.formats import train_toml
from kohyakit.formats.prompt_lines import to_line
from kohyakit.launch import accelerate, checkout
from kohyakit.launch.cause import cause
from kohyakit.launch.stream import Ended, run_streamed
from kohyakit.planning.make import make_plan
from kohyakit.planning.plan import Plan
from kohyakit.registry.families import trained_here
from kohyakit.resources import safe_environment
from kohyakit.runs import redact, registry
from kohyakit.runs.earlier import keep_all_earlier
from kohyakit.runs.record_file import write_text
from kohyakit.runs.run import CONFIG_FILE, FAILED, FINISHED, INTERRUPTED, STOPPED, Run

PROMPTS_FILE = "prompts.txt"  # in the run's folder, for prompts that are text in the preset, or were repaired
LOGS_DIR = "logs"  # in the run's folder, for a config without logging_dir
_STEP = re.compile(r"steps:\s+\d+%\|[^|]*\|\s*(\d+)/(\d+)")
_LOSS = re.compile(r"avr_loss=([\d.]+(?:e-?\d+)?)")
_SAVED = re.compile(r"^(?P<name>.+?)(?:-step(?P<step>\d{8})|-(?P<epoch>\d{6}))?$")

Echo = Callable[[str], None]


def run(
    config: TrainConfig,
    directory: Path | str | None,
    *,
    python: str | None = None,
    print_command: bool = False,
    echo: Echo | None = None,
    version: str | None = None,
    parent: str | None = None,
    note: str = "",
) -> Run | None:
    """Train with the sd-scripts checkout in `directory` and return the run; its status says how it ended.

    print_command: print the command line (keys and tokens left out) and do nothing else. python: the interpreter
    that has sd-scripts' packages; the checkout's own venv by default. echo: takes each line meant for a person.
    Raises ConfigError for what would stop it at its start, RunError with the real cause when it fails.
    """
    if print_command:
        folder = str(directory) if directory is not None else "sd-scripts"
        print(command_line.join(command_line.build(config, sd_scripts=Path(folder).as_posix())))
        return None
    echo = echo or (lambda text: print(text, file=sys.stderr, flush=True))
    scan = layout.scan(config, by_sd_scripts=True)
    plan = make_plan(config, scan, backend="sd-scripts")
    if plan.errors:
        raise ConfigError(plan.errors)
    found = checkout.find(config, directory, python)
    started = registry.start(config, plan=plan, scan=scan, version=version, parent=parent, note=note)
    config = config.with_values(output_name=registry.output_name(config, started.version))
    try:
        ended = _through_checkout(config, plan, started, found, echo)
    except BaseException as error:
        with contextlib.suppress(RunError):
            started.finish(FAILED, f"could not be started: {str(error) or type(error).__name__}")
        if not isinstance(error, OSError):
            raise
        raise RunError(Problem(found.python, f"could not be started ({error})", "look at --python")) from error
    return _finish(config, started, ended, found.python, echo)


def _through_checkout(config: TrainConfig, plan: Plan, started: Run, found: checkout.Checkout, echo: Echo) -> Ended:
    """Write the run's materials, say what is started, and follow it to its end."""
    echo(f"run {started.version} in {started.folder}")
    _move_earlier(config, started, echo)
    records = (record for part in plan.datasets for subset in part.dataset.subsets for record in subset.records)
    turned = sum(record.orientation != 1 for record in records)
    packages = {**started.record.packages, **found.versions}
    started.update(packages=packages, steps=plan.steps, epochs=plan.epochs)
    if turned and config.dataset.exif_orientation == "apply":
        echo(
            f"{turned} picture(s) carry a turn mark (EXIF) that sd-scripts does not look at: it trains them as they "
            "are stored, lying on their side; kohyakit repair makes them upright"
        )
    given = _for_sd_scripts(config, plan, started)
    program = [str(found.script), "--config_file", str(started.folder / CONFIG_FILE)]
    program += command_line.split(config.launch.additional_parameters)
    words = accelerate.command(config, program, python=found.python, old=found.old)
    echo(command_line.join(words))
    return _stream(config, given, words, started, found)


def _move_earlier(config: TrainConfig, started: Run, echo: Echo) -> None:
    """sd-scripts writes over what lies there under its name, so that moves aside first."""
    output, name = Path(config.saving.output_dir or ".").absolute(), config.saving.name
    start = (config.training.resume, config.network.network_weights)
    moved = keep_all_earlier(started, output, name, (path for path in start if path))
    if moved:
        echo(f"{len(moved)} earlier file(s) of that name moved aside; kohyakit runs restore brings them back")


def _for_sd_scripts(config: TrainConfig, plan: Plan, started: Run) -> TrainConfig:
    """The config as this run gives it to sd-scripts, written to the run's config.toml: files where it wants files."""
    values: dict[str, object] = {}
    prompts = config.sampling.sample_prompts
    # of other families sd-scripts has other defaults than a plan, so theirs stay as they were written
    defaults = model_family(config.launch.script, v2=config.model.v2) in trained_here()
    mended = defaults and any(prompt.notes for prompt in plan.samples)
    if mended or train_toml.is_prompt_text(prompts):
        text = _as_meant(plan, config.sampling.sample_sampler) if mended else str(prompts).rstrip("\n")
        file = started.folder / PROMPTS_FILE
        write_text(file, text + "\n")
        values["sample_prompts"] = str(file)
    if config.saving.logging_dir is None:
        values["logging_dir"] = str(started.folder / LOGS_DIR)
    if plan.length.decided_by == "epoch" and config.training.max_train_epochs is None:
        values["max_train_epochs"] = config.training.epoch
    given = replace(redact.without_secrets(config), source=None).with_values(**values)
    write_text(started.folder / CONFIG_FILE, train_toml.dumps(given))
    return given


def _as_meant(plan: Plan, usual_sampler: str) -> str:
    """The sample prompts as lines that sd-scripts reads as the plan does."""
    own = (replace(it, sampler=None) if it.sampler == usual_sampler else it for it in plan.samples)
    return "\n".join(map(to_line, own))


def _environment(config: TrainConfig, found: checkout.Checkout) -> dict[str, str]:
    """Modules come from the checkout, never from the folder one stands in, and weights are read as tensors only."""
    return {**safe_environment(found.folder), "TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1", **_secrets(config)}


def _secrets(config: TrainConfig) -> dict[str, str]:
    """Keys and tokens go by the environment, where wandb and the Hugging Face hub look for them; never by a file."""
    found = {"WANDB_API_KEY": config.saving.wandb_api_key, "HF_TOKEN": config.saving.huggingface_token}
    return {name: value for name, value in found.items() if value}


def _stream(config: TrainConfig, given: TrainConfig, words: list[str], started: Run, found: checkout.Checkout) -> Ended:
    logging_dir = Path(given.saving.logging_dir or ".")
    there = set(logging_dir.glob("*/")) if logging_dir.is_dir() else set()
    values = redact.secret_values(config)

    def watch(fresh: str) -> bool:
        steps, loss = _STEP.findall(fresh), _LOSS.findall(fresh)
        if steps:
            step, total = steps[-1]
            started.report(step=int(step), steps=int(total), **({"loss": float(loss[-1])} if loss else {}))
        if not started.record.logs and logging_dir.is_dir():
            new = [path for path in logging_dir.iterdir() if path.is_dir() and path not in there]
            with contextlib.suppress(RunError):  # a record that cannot be written must not end the training
                if new:
                    started.update(logs=tuple(sorted(new)))
        return started.stop_requested()

    return run_streamed(
        words,
        started.log_file,
        clean=lambda line: redact.blot(line, values),
        environment=_environment(config, found),
        watch=watch,
    )


def _finish(config: TrainConfig, started: Run, ended: Ended, python: str, echo: Echo) -> Run:
    output = Path(config.saving.output_dir or ".").absolute()
    if (output / "sample").is_dir():
        started.update(samples=output / "sample")
    saved = _saved(config, started, output)
    if ended.stopped:
        status = INTERRUPTED if ended.stopped == "interrupted" else STOPPED
        started.finish(status, f"{ended.stopped}; {saved} file(s) saved")
        echo(f"{ended.stopped}; the run's record is in {started.folder}")
        return started
    what, cure = cause(ended.tail, ended.code, python=python)
    if what:
        started.finish(FAILED, what)
        echo(f"failed; the whole log is {started.log_file}")
        raise RunError(Problem(config.launch.script, what, cure, "run_failed"))
    started.finish(FINISHED, f"{saved} file(s) saved")
    echo(f"finished; {saved} file(s) saved in {output}")
    return started


def _saved(config: TrainConfig, started: Run, output: Path) -> int:
    """Note the models and states that came into being since the run began; returns how many models."""
    name = config.saving.name
    began = datetime.fromisoformat(started.record.started).timestamp() - 2  # some file systems keep even seconds only
    count = 0
    for path in sorted(output.glob(f"{_literal(name)}*")):
        if path.stat().st_mtime < began:
            continue
        state = path.is_dir() and path.name.endswith("-state")
        if not state and path.suffix not in (".safetensors", ".ckpt", ".pt"):
            continue
        found = _SAVED.match(path.name.removesuffix("-state") if state else path.stem)
        if found is None or found["name"] != name:
            continue
        epoch, step = (int(found[part]) if found[part] else None for part in ("epoch", "step"))
        started.add_checkpoint(path, kind="state" if state else "model", epoch=epoch, step=step)
        count += not state
    return count


def _literal(name: str) -> str:
    """A file name for glob, its brackets and stars meant as they are."""
    return re.sub(r"([*?\[])", r"[\1]", name)

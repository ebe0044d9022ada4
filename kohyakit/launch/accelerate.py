"""The `accelerate launch` command line for both backends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from kohyakit.config.train import TrainConfig
from kohyakit.errors import ConfigError, MissingExtra
from kohyakit.formats.command import accelerate_arguments
from kohyakit.planning.launch_words import launch_words
from kohyakit.resources import safe_environment

_FOR_OLD_PYTHON = (
    "import sys; del sys.path[0]; import runpy; runpy.run_module('accelerate.commands.launch', run_name='__main__')"
)
# What runs in every process: the same command as without accelerate.
TRAIN = ("-m", "kohyakit", "train")
# Said even at their defaults: accelerate prints a page of advice for each that is missing.
_ALWAYS = (("--num_machines", "1"), ("--dynamo_backend", "no"))
# Ways to train in several processes; without one of them num_processes may count for nothing.
_MANY = frozenset(("--multi_gpu", "--cpu", "--tpu", "--use_deepspeed", "--use_fsdp", "--use_megatron_lm"))


def command(
    config: TrainConfig,
    program: Sequence[str],
    *,
    python: str | None = None,
    old: bool = False,
    extra: Sequence[str] = (),
) -> list[str]:
    """`python -m accelerate.commands.launch [settings] program…`, ready for subprocess in a safe_environment.

    program: what accelerate shall start: a script and its arguments, or `-m`, a module and its arguments.
    python: the interpreter, this one by default; it needs accelerate. old: it is older than 3.11 and does
    not heed PYTHONSAFEPATH. extra: further options for accelerate.
    """
    words = [*accelerate_arguments(config)[2:], *extra]
    if config.launch.num_processes == 1:
        words = [word for word in words if word != "--multi_gpu"]  # which accelerate refuses for one process
    elif not _MANY.intersection(words):
        words.append("--multi_gpu")  # or accelerate, with a settings file of its own, may start a single process
    for option, value in _ALWAYS:
        if option not in words:
            words += [option, value]
    start = ["-c", _FOR_OLD_PYTHON] if old else ["-m", "accelerate.commands.launch"]
    return [python or sys.executable, *start, *words, *program]


def launch_builtin(config: TrainConfig, file: Path, *, arguments: Sequence[str] = (), extra: Sequence[str] = ()) -> int:
    """Train with kohyakit's own trainer in as many processes as the config says; returns accelerate's exit code.

    file: the preset or TOML, read again by each process; arguments: options for `kohyakit train`, such as the `--set`
    values that the config was read with. Raises MissingExtra without accelerate, ConfigError where the file carries
    options that would start something else.
    """
    problems = tuple(launch_words(config))
    if problems:
        raise ConfigError(problems)
    if find_spec("accelerate") is None:
        raise MissingExtra("kohyakit launch", "accelerate", "train")
    words = command(config, [*TRAIN, str(file), *arguments], extra=extra)
    safe = {**os.environ, **safe_environment()}
    if sys.platform == "win32":
        return _wait(subprocess.Popen(words, env=safe))
    with _handed_on(subprocess.Popen(words, env=safe, process_group=0)) as child:
        return _wait(child)


def _wait(child: subprocess.Popen[bytes]) -> int:
    while True:
        try:
            return child.wait()
        except KeyboardInterrupt:
            continue  # the child was told too; it finishes its step and saves


@contextlib.contextmanager
def _handed_on(child: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """Whatever asks this process to end asks the whole group of the child, and then its end is waited for.

    accelerate itself may end at once and leave the training alone, which is still saving.
    """

    def hand_on(number: int, frame: Any) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, number)

    numbers = [n for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) != signal.SIG_IGN]
    before = {number: signal.signal(number, hand_on) for number in numbers}
    try:
        yield child
        with contextlib.suppress(ProcessLookupError, PermissionError):
            while True:
                os.killpg(child.pid, 0)
                time.sleep(0.1)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

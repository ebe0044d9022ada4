"""Weights & Biases (`log_with`) and Trackio (`log_trackio`): what the event files hold is told there too.

Neither is a store of ours."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from kohyakit.config.train import SPECS, TrainConfig
from kohyakit.errors import MissingExtra
from kohyakit.planning.inputs.tracker import settings_of
from kohyakit.runs.comparison.meaning import is_place
from kohyakit.runs.redact import without_secrets
from kohyakit.runs.run import Run
from kohyakit.train.callbacks import Mirror

Echo = Callable[[str], None]
_PROJECT = "network_train"  # sd-scripts' own
_ELSEWHERE = {"space_id": "TRACKIO_SPACE_ID", "server_url": "TRACKIO_SERVER_URL"}  # whither Trackio sends them instead


class Wandb:
    """A run of Weights & Biases. What fails there is told once, and the training goes on without it."""

    title = "Weights & Biases"

    def __init__(self, begun: Any, echo: Echo) -> None:
        self._run, self._echo = begun, echo

    def write(self, values: dict[str, float], step: int, epoch: int) -> None:
        """All numbers of a moment, under their tags, as sd-scripts sends them."""
        self._tell(lambda run: run.log({**values, "global_step": step, "epoch": epoch}))

    def close(self) -> None:
        self._tell(lambda run: run.finish())
        self._run = None

    def _tell(self, what: Callable[[Any], Any]) -> None:
        if self._run is None:
            return
        try:
            what(self._run)
        except Exception as error:  # a network, a full disk, a service that is down: no reason to lose a training
            self._run = None
            self._echo(f"warning: {self.title} takes no more numbers ({error}); the training goes on")


class Trackio(Wandb):
    """A run in Trackio's own folder on this machine, for `trackio show`, or where a person has set it up."""

    title = "Trackio"

    def write(self, values: dict[str, float], step: int, epoch: int) -> None:
        """All numbers of a moment, under their tags, at their step."""
        self._tell(lambda run: run.log({**values, "epoch": epoch}, step=step))

    def close(self) -> None:
        with contextlib.redirect_stdout(io.StringIO()):  # it speaks of uploading
            super().close()


def mirrors(config: TrainConfig, run: Run, echo: Echo) -> list[Mirror]:
    """Where the numbers go besides the event files. Raises MissingExtra where a package for it is not installed."""
    asked = config.saving
    found = _wandb(config, run, echo) if asked.log_with in ("wandb", "all") else []
    return found + (_trackio(config, run, echo) if asked.log_trackio else [])


def _trackio(config: TrainConfig, run: Run, echo: Echo) -> list[Mirror]:
    try:
        trackio = import_module("trackio")
    except ModuleNotFoundError as error:
        raise MissingExtra("log_trackio", "trackio", "trackio") from error
    asked = config.saving
    given = {
        "project": asked.log_tracker_name or _PROJECT,
        "name": run.folder.name,
        **({"config": _settings(config)} if asked.log_config else {}),
        "embed": False, "auto_log_gpu": False, "auto_log_cpu": False,
        **settings_of(asked.log_tracker_config, "trackio"),
    }  # fmt: skip
    for argument, variable in _ELSEWHERE.items():
        if given.get(argument) or os.environ.get(variable):
            echo(f"Trackio: {argument if given.get(argument) else variable} is set, so the numbers leave this machine")
            break
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it greets
            return [Trackio(trackio.init(**given), echo)]
    except Exception as error:
        echo(f"warning: no run in Trackio ({error}); the training goes on without")
        return []


def _wandb(config: TrainConfig, run: Run, echo: Echo) -> list[Mirror]:
    asked = config.saving
    try:
        wandb = import_module("wandb")
    except ModuleNotFoundError as error:
        raise MissingExtra(f"log_with {asked.log_with}", "wandb", "wandb") from error
    if asked.wandb_api_key:
        os.environ.setdefault("WANDB_API_KEY", asked.wandb_api_key)  # which wandb.login would write into a file
    given = {
        "project": asked.log_tracker_name or _PROJECT,
        "dir": str(run.folder),
        **({"name": asked.wandb_run_name} if asked.wandb_run_name else {}),
        **({"config": _settings(config)} if asked.log_config else {}),
        **settings_of(asked.log_tracker_config, "wandb"),
    }
    if "mode" not in given and not os.environ.get("WANDB_MODE") and not _key_known():
        given["mode"] = "offline"  # it would ask for a key, and wait
        echo("Weights & Biases: no key is known, so the run is kept in the run's folder; send it with wandb sync")
    try:
        return [Wandb(wandb.init(**given), echo)]
    except Exception as error:
        echo(f"warning: no run at Weights & Biases ({error}); the training goes on without")
        return []


def _settings(config: TrainConfig) -> dict[str, Any]:
    """What is set, without keys and paths (`log_config`)."""
    found = {name: value for name, value in without_secrets(config).items() if value != SPECS()[name].default}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()
            if not is_place(name)}  # fmt: skip


def _key_known() -> bool:
    """In the environment, or where `wandb login` has put it."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    files = [os.environ.get("NETRC", ""), "~/.netrc", "~/_netrc"]
    for file in filter(None, files):
        try:
            if "wandb" in Path(file).expanduser().read_text(encoding="utf-8", errors="replace"):
                return True
        except (OSError, RuntimeError):
            continue
    return False

"""`log_tracker_config`: a TOML with a table a tracker, handed to it as it is."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kohyakit.config.train import TrainConfig
from kohyakit.dataset.images import shown
from kohyakit.errors import ConfigError, Problem
from kohyakit.files import read_text
from kohyakit.planning.inputs.missing import exists

_TRACKERS = ("wandb", "trackio")


def settings_of(name: str | None, tracker: str) -> dict[str, Any]:
    """A tracker's table; empty without one. Raises ConfigError in one sentence."""
    if not name:
        return {}
    try:
        found = tomllib.loads(read_text(Path(name))).get(tracker, {})
    except (OSError, ValueError, RecursionError) as error:
        what = f"is no TOML that can be read ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
        cure = f"write a table [{tracker}] of settings, or take log_tracker_config out"
        raise ConfigError(Problem(shown(name), what, cure, "tracker_config")) from error
    if not isinstance(found, dict):
        what, cure = f"{tracker} is no table", f"write a table [{tracker}] of settings"
        raise ConfigError(Problem(shown(name), what, cure, "tracker_config"))
    return found


def tracker_problems(config: TrainConfig) -> Iterator[Problem]:
    """A file that cannot be read. One that is not there is missing_files' finding."""
    name = config.saving.log_tracker_config
    if not name or not exists(name):
        return
    for tracker in _TRACKERS:
        try:
            settings_of(name, tracker)
        except ConfigError as error:
            yield from error.problems
            return

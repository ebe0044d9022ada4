"""The whole state of a training, from which it goes on exactly where it stopped."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from kohyakit.errors import Problem, RunError
from kohyakit.files import folder_in_place_of
from kohyakit.formats.weights.state_folder import (
    KEYS,
    NETWORK_FILE,
    POSITION_FILE,
    TENSORS_FILE,
    Position,
    StateFolder,
    read,
)
from kohyakit.networks.file import save_lora, unwritable, write_whole
from kohyakit.train.output.state_of_sd_scripts import check_optimizer, load_theirs, settings_asked


def save_state(
    folder: Path,
    position: Position,
    network: Mapping[str, torch.Tensor],
    rest: Mapping[str, Any],
    origin: Mapping[str, Any],
) -> None:
    """Write a state folder, whole or not at all. rest: optimizer, scheduler, scaler and random state dicts.

    origin: `run` and `made_with`, see StateFolder. Raises RunError naming the folder and the cause.
    """
    try:
        with folder_in_place_of(folder) as fresh:
            save_lora(fresh / NETWORK_FILE, network, None, {})
            buffer = io.BytesIO()
            torch.save(dict(rest), buffer)
            write_whole(fresh / TENSORS_FILE, buffer.getbuffer())
            write_whole(fresh / POSITION_FILE, json.dumps({**asdict(position), **origin}, indent=1).encode())
    except OSError as error:
        raise unwritable(folder, error) from error


def load_state(
    folder: Path, *, random_states: bool = True
) -> tuple[StateFolder, dict[str, torch.Tensor], dict[str, Any]]:
    """Read a state folder back: where it stands, network tensors, the rest. Raises KohyakitError in one sentence.

    random_states: of one by sd-scripts, whose pickle need not be opened where nothing asks for them.
    """
    from safetensors.torch import load_file

    state = read(folder)
    if state.by_sd_scripts:
        return state, *load_theirs(state, random_states=random_states)
    try:
        network = load_file(folder / NETWORK_FILE)
        rest = torch.load(folder / TENSORS_FILE, weights_only=True, map_location="cpu")
        missing = [key for key in KEYS if key not in rest]
    except Exception as error:
        why = str(error).partition("\n")[0][:200] or type(error).__name__
        raise _unusable(folder, f"the state cannot be read ({why})") from error
    if missing:
        raise _unusable(folder, f"{missing[0]} is missing from {TENSORS_FILE}")
    return state, network, rest


def _unusable(folder: Path, what: str) -> RunError:
    cure = "take an older state, or start from its LoRA with network_weights"
    return RunError(Problem(str(folder), what, cure, "state_unreadable"))


def restore_optimizer(
    optimizer: torch.optim.Optimizer,
    scheduler: Any,
    rest: Mapping[str, Any],
    fresh: Collection[str] | None,
    *,
    by_sd_scripts: bool = False,
) -> None:
    """Give optimizer and schedule their state back. Raises RunError where it is another optimizer's.

    fresh: settings of the optimizer's groups that stay as they are asked for now, and with them the schedule, as if
    it had been in force from the beginning; None brings back everything as it was. What the optimizer has learnt
    (moments, its own estimates) comes from the state in either case.
    """
    state = rest["optimizer"]
    if by_sd_scripts:
        check_optimizer(optimizer, state)
        fresh = settings_asked(optimizer, fresh or ())
    try:
        if fresh is not None:
            pairs = zip(state["param_groups"], optimizer.param_groups, strict=True)
            state = {**state, "param_groups": [_with_settings(held, own, fresh) for held, own in pairs]}
        optimizer.load_state_dict(state)
        if fresh is None:
            scheduler.load_state_dict(rest["scheduler"])
            return
    except (KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        why = str(error).partition("\n")[0][:200]
        what = f"the state's optimizer does not fit {type(optimizer).__name__} ({why})"
        raise RunError(Problem("resume", what, "resume with the settings that it was made with")) from error
    done = int(rest["scheduler"].get("last_epoch", 0))
    with warnings.catch_warnings():  # torch remarks on a schedule that moves before its optimizer
        warnings.simplefilter("ignore")
        if isinstance(scheduler, torch.optim.lr_scheduler.LambdaLR):
            scheduler.last_epoch, done = done - 1, 1
        for _ in range(done):
            scheduler.step()


def _with_settings(held: Mapping[str, Any], own: Mapping[str, Any], fresh: Collection[str]) -> dict[str, Any]:
    """A group of a state with settings as they are asked for now; `params` are numbers there."""
    return {**held, **{name: own[name] for name in fresh if name in own and name != "params"}}

"""The whole state of a training, from which it goes on exactly where it stopped."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from kohyakit.errors import Problem, RunError
from kohyakit.files import open_regular, read_text
from kohyakit.networks.file import save_lora, unwritable, write_whole

POSITION_FILE = "train_state.json"
NETWORK_FILE = "network.safetensors"
TENSORS_FILE = "state.pt"


@dataclass(frozen=True, slots=True)
class Position:
    """Where a training stands: steps done in all, the epoch it is in (from 1) and the batches of it that are done.

    losses: the newest loss of each batch position, from which loss/average goes on. sd-scripts' own file holds
    current_epoch and current_step; ours keeps both names.
    """

    current_step: int = 0
    current_epoch: int = 1
    batches_done: int = 0
    losses: tuple[float, ...] = field(default=())
    seed: int = 0
    rng_order: str = "kohyakit"


def save_state(folder: Path, position: Position, network: Mapping[str, torch.Tensor], rest: Mapping[str, Any]) -> None:
    """Write a state folder, whole or not at all. rest: optimizer, scheduler, scaler and random state dicts.

    Raises RunError naming the folder and the cause.
    """
    fresh = folder.with_name(folder.name + ".part")
    try:
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        save_lora(fresh / NETWORK_FILE, network, None, {})
        buffer = io.BytesIO()
        torch.save(dict(rest), buffer)
        write_whole(fresh / TENSORS_FILE, buffer.getbuffer())
        write_whole(fresh / POSITION_FILE, json.dumps(asdict(position), indent=1).encode())
        _put_in_place(fresh, folder)
    except OSError as error:
        raise unwritable(folder, error) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _put_in_place(fresh: Path, folder: Path) -> None:
    """A folder cannot be replaced in one go: the earlier one waits as .old and comes back when it must."""
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    try:
        fresh.rename(folder)
    except BaseException:
        if old.exists() and not folder.exists():
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def load_state(folder: Path) -> tuple[Position, dict[str, torch.Tensor], dict[str, Any]]:
    """Read a state folder back: position, network tensors, the rest. Raises RunError when it is not one of ours."""
    from safetensors.torch import load_file

    cure = "give the folder whose name ends in -state that kohyakit wrote beside the LoRA files"
    if not folder.is_dir():
        raise RunError(Problem(str(folder), "there is no such state folder to resume from", cure))
    try:
        for name in (POSITION_FILE, NETWORK_FILE, TENSORS_FILE):
            with open_regular(folder / name):
                pass  # a pipe would be waited on for ever
        data = json.loads(read_text(folder / POSITION_FILE))
        position = Position(**{**data, "losses": tuple(data.get("losses", ()))})
        network = load_file(folder / NETWORK_FILE)
        rest = torch.load(folder / TENSORS_FILE, weights_only=True, map_location="cpu")
    except FileNotFoundError as error:
        if (folder / "random_states_0.pkl").exists():
            what = "it is a state of sd-scripts, which only sd-scripts can resume"
            raise RunError(
                Problem(
                    str(folder), what, "train with --backend sd-scripts, or start from its LoRA with network_weights"
                )
            ) from error
        raise RunError(Problem(str(folder), f"{Path(error.filename).name} is missing from the state", cure)) from error
    except Exception as error:
        raise RunError(Problem(str(folder), f"the state cannot be read ({error})", cure)) from error
    return position, network, rest

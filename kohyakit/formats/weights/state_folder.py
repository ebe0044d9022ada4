"""A training state on disk: what stands in the folder, and whether it is whole. Read without torch.

train_state.json       where the training stands and what it was made with (written last, so it stands for the whole)
network.safetensors    the LoRA
state.pt               optimizer, schedule, scaler and random numbers, as torch writes them

A state of sd-scripts is accelerate's: model.safetensors, optimizer.bin, scheduler.bin, random_states_0.pkl, and a
train_state.json that counts the steps of its own run. How many there were in all is told by the schedule.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from kohyakit.errors import KohyakitError, Problem, RunError
from kohyakit.formats.weights import header, pickle_header, safetensors_header

POSITION_FILE = "train_state.json"
NETWORK_FILE = "network.safetensors"
TENSORS_FILE = "state.pt"
KEYS = ("optimizer", "scheduler", "scaler", "epoch_streams", "streams")  # of state.pt

RANDOM_FILE = "random_states_0.pkl"  # accelerate's, in a state of sd-scripts, as the four that follow
OPTIMIZER_FILE, SCHEDULER_FILE, SCALER_FILE = "optimizer.bin", "scheduler.bin", "scaler.pt"
_THEIR_NETWORKS = ("model.safetensors", "pytorch_model.bin")
_THEIR_KEYS = ("state", "param_groups")  # of optimizer.bin
_THEIR_RANDOM = ("random_state", "torch_manual_seed")
_HARMLESS = ("torch", "collections", "numpy", "_codecs")  # torch's own loader says which of their names it takes
_MOST = 1 << 28  # bytes of train_state.json; a loss for each of ten million batches fits
_CURE = "give a folder whose name ends in -state that kohyakit wrote beside the LoRA files"
_DAMAGED = "take an older state, or start from its LoRA with network_weights"


@dataclass(frozen=True, slots=True)
class Position:
    """Where a training stands: steps done in all, the epoch it is in (from 1) and the batches of it that are done.

    losses: the newest loss of each batch position, from which loss/average goes on. validation: the same of
    sd-scripts' validations after steps. best_loss, best_step: the lowest measured loss so far and where; since_best:
    measurements after it. steps: how long the training was to be.
    rng_order: "" where either will do. sd-scripts' own file holds current_epoch and current_step; ours keeps both
    names.
    """

    current_step: int = 0
    current_epoch: int = 1
    batches_done: int = 0
    losses: tuple[float, ...] = field(default=())
    seed: int = 0
    rng_order: str = "kohyakit"
    steps: int = 0
    validation: tuple[float, ...] = field(default=())
    best_loss: float | None = None
    best_step: int = 0
    since_best: int = 0


@dataclass(frozen=True, slots=True)
class StateFolder:
    """made_with: settings and data set (see runs.resume), {} for a state that does not tell. run: its maker.

    by_sd_scripts: it is one of theirs, whose position knows the steps alone.
    """

    folder: Path
    position: Position
    made_with: Mapping[str, Any] = field(default_factory=dict)
    run: str = ""
    by_sd_scripts: bool = False

    @property
    def network(self) -> Path:
        return _their_network(self.folder) if self.by_sd_scripts else self.folder / NETWORK_FILE


def read(folder: Path) -> StateFolder:
    """Position and origin of a state; the large files are not looked at. Raises RunError in one sentence."""
    if not os.path.isdir(folder):  # which also stands names that no folder can have
        there = os.path.exists(folder)
        what = "is a file, not a state folder" if there else "there is no such state folder to resume from"
        raise _wrong(folder, what, _CURE)
    if (folder / RANDOM_FILE).exists():
        return _of_sd_scripts(folder)
    for name in (POSITION_FILE, NETWORK_FILE, TENSORS_FILE):
        if not (folder / name).is_file():
            what = f"{name} is {'no regular file' if (folder / name).exists() else 'missing from the state'}"
            raise _wrong(folder, what, _CURE)
    try:
        if (folder / POSITION_FILE).stat().st_size > _MOST:
            raise ValueError("it is too large to be one")
        data = json.loads((folder / POSITION_FILE).read_text(encoding="utf-8"))
        return StateFolder(folder, _position(data), _mapping(data.get("made_with", {})), str(data.get("run", "")))
    except (OSError, ValueError, RecursionError) as error:
        no_json = isinstance(error, (json.JSONDecodeError, UnicodeError, RecursionError))
        what = "it is no JSON" if no_json else str(error)
        raise _wrong(folder, f"{POSITION_FILE} cannot be read ({what})", _DAMAGED) from error


def look(folder: Path, *, random_states: bool = False) -> StateFolder:
    """A state with its large files looked through. Raises RunError in one sentence where it could not be resumed.

    random_states: of one by sd-scripts too.
    """
    state = read(folder)
    try:
        if state.network.suffix == ".safetensors":
            _check_hash(state.network)
        else:
            header.read(state.network)
    except KohyakitError as error:
        problem = error.problems[0]
        raise _wrong(folder, f"{state.network.name} {problem.what}", _DAMAGED) from error
    for name, keys in _pickles(state, random_states=random_states).items():
        try:
            _look_through(folder / name, keys)
        except Exception as error:  # whatever zipfile and pickletools make of a damaged file
            why = str(error) if type(error) is ValueError else "it is damaged or cut off"
            raise _wrong(folder, f"{name} cannot be read ({why})", _DAMAGED) from error
    return state


def _pickles(state: StateFolder, *, random_states: bool) -> dict[str, Sequence[str]]:
    """The pickles in a state, and what must be in each."""
    if not state.by_sd_scripts:
        return {TENSORS_FILE: KEYS}
    return {OPTIMIZER_FILE: _THEIR_KEYS, **({RANDOM_FILE: _THEIR_RANDOM} if random_states else {})}


def _of_sd_scripts(folder: Path) -> StateFolder:
    """Steps in all, as its schedule has counted them: its own number restarts with every resume."""
    for name in (_their_network(folder).name, OPTIMIZER_FILE, SCHEDULER_FILE):
        if not (folder / name).is_file():
            what = f"it is a state of sd-scripts, and {name} is missing from it"
            raise _wrong(folder, what, "start from its LoRA with network_weights")
    try:
        found = pickle_header.values(folder / SCHEDULER_FILE)
        step = found["last_epoch"]
        if type(step) is not int or step < 0:
            raise ValueError(step)
    except (KohyakitError, KeyError, ValueError) as error:
        raise _wrong(folder, f"{SCHEDULER_FILE} does not tell how many steps were done", _DAMAGED) from error
    processes = sum(1 for _ in folder.glob("random_states_*.pkl"))  # with each, the schedule takes one step more
    return StateFolder(folder, Position(current_step=step // processes, rng_order=""), by_sd_scripts=True)


def _their_network(folder: Path) -> Path:
    return next((folder / name for name in _THEIR_NETWORKS if (folder / name).is_file()), folder / _THEIR_NETWORKS[0])


def standing_against(position: Position, rng_order: str, steps: int) -> Iterator[Problem]:
    """Why a training in this order of random numbers, of so many steps (0 is not known), cannot go on from there."""
    if position.rng_order not in ("", rng_order):
        cure = f"set rng_order to {position.rng_order}"
        what = f"the state was made with rng_order {position.rng_order}"
        yield Problem("resume", what, cure, "state_of_another_order")
    if steps and position.current_step >= steps:
        what = f"the state has done {position.current_step} steps, and only {steps} are asked for"
        yield Problem("resume", what, "raise max_train_epochs or max_train_steps", "state_beyond_the_end")


def _wrong(folder: Path, what: str, cure: str) -> RunError:
    return RunError(Problem(str(folder), what, cure, "state_unreadable"))


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("it is not what a training writes")
    return value


def _position(data: Any) -> Position:
    """Raises ValueError for numbers that no training writes."""
    data = _mapping(data)
    known = {f.name: data[f.name] for f in fields(Position) if f.name in data}
    names = ("current_step", "current_epoch", "batches_done", "seed", "steps", "best_step", "since_best")
    whole = {name: known[name] for name in names if name in known}
    lists = {name: known.get(name, []) for name in ("losses", "validation")}
    if "current_step" not in known:
        raise ValueError("the step is missing from it")
    for name, value in whole.items():
        if type(value) is not int or value < (1 if name == "current_epoch" else 0):
            raise ValueError(f"{name} is {str(value)[:40]}")
    for title, losses in lists.items():
        if not isinstance(losses, list) or not all(type(loss) in (int, float) for loss in losses):
            raise ValueError(f"{title} is no list of numbers")
    if type(known.get("best_loss")) not in (float, int, type(None)):
        raise ValueError("best_loss is no number")
    if not isinstance(known.get("rng_order", ""), str):
        raise ValueError("rng_order is no name")
    return Position(**{**known, **{title: tuple(map(float, losses)) for title, losses in lists.items()}})


def _check_hash(file: Path) -> None:
    """The LoRA against the hash that was written with it. Raises KohyakitError."""
    found = safetensors_header.read(file)
    told = found.metadata.get("sshs_model_hash")
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        opened.seek(found.data_start)
        while block := opened.read(1 << 22):
            digest.update(block)
    if told is not None and told != digest.hexdigest():
        raise KohyakitError(Problem(file.name, "has changed since it was written"))


def _look_through(file: Path, keys: Sequence[str]) -> None:
    """Every byte against its checksum, and what the pickle in it would call. Raises ValueError and others."""
    import pickletools
    import zipfile

    with zipfile.ZipFile(file) as archive:
        if archive.testzip() is not None:
            raise ValueError("bytes in it have changed")
        (pickled,) = [name for name in archive.namelist() if name.rpartition("/")[2] == "data.pkl"]
        texts, calls = set(), set()
        recent: list[str] = []
        for code, argument, _ in pickletools.genops(archive.read(pickled)):
            if code.name in ("GLOBAL", "INST"):
                calls.add(str(argument).partition(" ")[0])
            elif code.name == "STACK_GLOBAL":
                calls.update(recent[-2:-1])
            elif isinstance(argument, str):
                texts.add(argument)
                recent.append(argument)
        strange = sorted(name for name in calls if name.partition(".")[0] not in _HARMLESS)
        if strange:
            raise ValueError(f"it would run code of {strange[0][:60]}, which is not done")
        missing = [key for key in keys if key not in texts]
        if missing:
            raise ValueError(f"{missing[0]} is missing from it")

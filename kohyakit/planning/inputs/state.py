"""A state folder to go on from (`resume`), looked at before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from kohyakit.config.train import TrainConfig
from kohyakit.dataset.images import shown
from kohyakit.errors import KohyakitError, Problem
from kohyakit.formats import pickle_header, safetensors_header
from kohyakit.formats.model_kind import read_json
from kohyakit.planning.architecture import Architecture
from kohyakit.planning.inputs.missing import exists
from kohyakit.planning.inputs.network_weights import NetworkWeights, adapted, fitting, of_known_layers, rank_of

POSITION, NETWORK, TENSORS = "train_state.json", "network.safetensors", "state.pt"  # kohyakit's own
_THEIRS = ("random_states_0.pkl", "optimizer.bin")  # accelerate's, in a state of sd-scripts
_OURS = "give the folder whose name ends in -state that kohyakit wrote beside the LoRA files"


def state_problems(config: TrainConfig, steps: int, backend: str) -> Iterator[Problem]:
    """What keeps the state from being read, or from going on. A folder that is not there is another's finding."""
    name = config.training.resume
    if not name or config.saving.resume_from_huggingface or not exists(name):
        return
    folder, where = Path(name), shown(name)
    if not folder.is_dir():
        yield Problem(where, "is a file, and a state is a folder", _OURS, "state_unreadable")
    elif backend == "sd-scripts":
        yield from _for_sd_scripts(folder, where)
    elif not (folder / POSITION).is_file() or not (folder / NETWORK).is_file():
        yield _not_ours(folder, where)
    else:
        yield from _own_state(config, folder, where, steps)


def _for_sd_scripts(folder: Path, where: str) -> Iterator[Problem]:
    if (folder / TENSORS).is_file():
        cure = "train with kohyakit's own trainer, or start from the LoRA with network_weights"
        yield Problem(where, "it is a state of kohyakit, which sd-scripts cannot resume", cure, "state_unreadable")
    elif not any((folder / file).is_file() for file in _THEIRS):
        what = f"it is no state of sd-scripts: {' and '.join(_THEIRS)} are missing"
        yield Problem(where, what, "give a folder whose name ends in -state", "state_unreadable")


def _not_ours(folder: Path, where: str) -> Problem:
    if any((folder / file).is_file() for file in _THEIRS):
        what = "it is a state of sd-scripts, which only sd-scripts can resume"
        cure = "train with --backend sd-scripts, or start from its LoRA with network_weights"
        return Problem(where, what, cure, "state_unreadable")
    missing = next(file for file in (POSITION, NETWORK) if not (folder / file).is_file())
    return Problem(where, f"{missing} is missing from the state", _OURS, "state_unreadable")


def _own_state(config: TrainConfig, folder: Path, where: str, steps: int) -> Iterator[Problem]:
    try:
        position = read_json(folder / POSITION)
        safetensors_header.read(folder / NETWORK)
        pickle_header.read(folder / TENSORS)
    except KohyakitError as error:
        for problem in error.problems:
            what = f"the state cannot be read ({problem.where}: {problem.what})"
            yield Problem(where, what, _OURS, "state_unreadable")
        return
    done, order = position.get("current_step", 0), position.get("rng_order", "kohyakit")
    if not all(_is_count(position.get(key, 0)) for key in ("current_step", "current_epoch", "batches_done", "seed")):
        yield Problem(where, f"the state cannot be read ({POSITION} does not hold numbers)", _OURS, "state_unreadable")
        return
    if order != config.training.rng_order:
        cure = f"set rng_order to {order}"
        yield Problem("resume", f"the state was made with rng_order {order}", cure, "state_of_another_order")
    if steps and done >= steps:
        what = f"the state has done {done} steps, and only {steps} are asked for"
        yield Problem("resume", what, "raise max_train_epochs or max_train_steps", "state_beyond_the_end")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def network_in_state(
    config: TrainConfig, model: Architecture | None, weights: NetworkWeights | None, backend: str
) -> Iterator[Problem]:
    """Does the LoRA in the state fit the network that is asked for?"""
    file = Path(config.training.resume or "") / NETWORK
    if not config.training.resume or backend == "sd-scripts" or model is None or not model.known:
        return
    if not exists(str(file)) or not of_known_layers(config):
        return
    try:
        shapes = {name: tensor.shape for name, tensor in safetensors_header.read(file).tensors.items()}
    except KohyakitError:
        return  # state_problems has said it
    for problem in fitting("resume", shapes, adapted(config, model, weights), rank_of(config, weights)):
        yield replace(problem, name="state_of_another_network", cure="keep the settings of the run that is resumed")

"""A state folder to go on from (`resume`), looked at before anything is loaded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from kohyakit.config.train import TrainConfig
from kohyakit.dataset.images import shown
from kohyakit.errors import KohyakitError, Problem
from kohyakit.formats.weights import header, state_folder
from kohyakit.planning.inputs.missing import exists
from kohyakit.planning.inputs.network_weights import NetworkWeights, adapted, fitting, of_known_layers, rank_of
from kohyakit.planning.size.architecture import Architecture

_THEIRS = (state_folder.RANDOM_FILE, state_folder.OPTIMIZER_FILE)
_CURE = "give a folder whose name ends in -state"


def state_problems(config: TrainConfig, steps: int, backend: str) -> Iterator[Problem]:
    """What keeps the state from being read, or from going on. A folder that is not there is another's finding."""
    name = config.training.resume
    if not name or config.saving.resume_from_huggingface or not exists(name):
        return
    if backend == "sd-scripts":
        yield from _for_sd_scripts(Path(name), shown(name))
        return
    try:
        state = state_folder.look(Path(name), random_states=config.training.rng_order == "sd-scripts")
    except KohyakitError as error:
        yield from error.problems
    else:
        yield from state_folder.standing_against(state.position, config.training.rng_order, steps)


def _for_sd_scripts(folder: Path, where: str) -> Iterator[Problem]:
    if not os.path.isdir(folder):
        yield Problem(where, "is a file, and a state is a folder", _CURE, "state_unreadable")
    elif (folder / state_folder.TENSORS_FILE).is_file():
        cure = "train with kohyakit's own trainer, or start from the LoRA with network_weights"
        yield Problem(where, "it is a state of kohyakit, which sd-scripts cannot resume", cure, "state_unreadable")
    elif not any((folder / file).is_file() for file in _THEIRS):
        what = f"it is no state of sd-scripts: {' and '.join(_THEIRS)} are missing"
        yield Problem(where, what, _CURE, "state_unreadable")


def network_in_state(
    config: TrainConfig, model: Architecture | None, weights: NetworkWeights | None, backend: str
) -> Iterator[Problem]:
    """Does the LoRA in the state fit the network that is asked for?"""
    name = config.training.resume
    if not name or backend == "sd-scripts" or model is None or not model.known or not of_known_layers(config):
        return
    try:
        shapes = header.read(state_folder.read(Path(name)).network).shapes
    except KohyakitError:
        return  # state_problems has said it
    for problem in fitting("resume", shapes, adapted(config, model, weights), rank_of(config, model, weights)):
        yield replace(problem, name="state_of_another_network", cure="keep the settings of the run that is resumed")

"""The files beside the base model that a training opens: VAE, LoRA to start from, state, each looked into."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from kohyakit.config.scripts import FAMILIES
from kohyakit.config.train import TrainConfig
from kohyakit.dataset.images import shown
from kohyakit.errors import KohyakitError, Problem
from kohyakit.formats.weights import header as weight_header
from kohyakit.formats.weights.header import below
from kohyakit.planning.inputs import network_weights
from kohyakit.planning.inputs.base_model import missing_in_vae, missing_in_vae_folder
from kohyakit.planning.inputs.base_weights import base_weights_problems
from kohyakit.planning.inputs.missing import files_beside_model, locate
from kohyakit.planning.inputs.network_weights import NetworkWeights
from kohyakit.planning.inputs.state import network_in_state, state_problems
from kohyakit.planning.inputs.tracker import tracker_problems
from kohyakit.planning.size import architecture as arch
from kohyakit.registry.families import is_unet


def beside_the_model(
    config: TrainConfig, model: arch.Architecture | None, weights: NetworkWeights | None, steps: int, backend: str
) -> Iterator[Problem]:
    """Everything wrong with vae, network_weights, base_weights and resume."""
    yield from files_beside_model(config, backend)
    yield from _vae(config)
    yield from network_weights.judged(config, model, weights, backend)
    yield from base_weights_problems(config, model, backend)
    yield from tracker_problems(config)
    yield from state_problems(config, steps, backend)
    yield from network_in_state(config, model, weights, backend)


def _vae(config: TrainConfig) -> Iterator[Problem]:
    name = config.model.vae
    place = locate(name) if name else None
    if place is None or not is_unet(FAMILIES.get(config.launch.script, "")):
        return
    where = shown(name or "")
    try:
        if place.is_dir():
            yield from missing_in_vae_folder(place, where)
            return
        shapes = weight_header.read(place).shapes
        yield from missing_in_vae(below(shapes, arch.VAE) or shapes, where)
    except KohyakitError as error:
        for problem in error.problems:
            yield replace(problem, where=where, name="vae_unreadable", severity="error")
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, OSError):
        yield Problem(where, "is no VAE", "give a VAE file or folder as vae, or leave vae out", "vae_unreadable")

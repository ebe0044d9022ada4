"""A state of sd-scripts, as accelerate writes it, brought into the form of our own. Nothing in it is run."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kohyakit.errors import Problem, RunError
from kohyakit.formats.weights.state_folder import OPTIMIZER_FILE, RANDOM_FILE, SCALER_FILE, StateFolder
from kohyakit.models.weights import WeightFile

# How an optimizer does its step, which no training depends on and every release of torch writes otherwise.
_HOW = frozenset(("params", "foreach", "fused", "capturable", "differentiable", "maximize", "decoupled_weight_decay"))
_SHAPED = ("exp_avg", "exp_avg_sq", "momentum_buffer", "s", "z", "exp_inf")  # as large as the weight itself
# What a pickle may call to make numpy's random numbers, which stand beside torch's and Python's.
_NUMPY: list[Any] = [
    *((np.array(0).__reduce__()[0], f"{module}.multiarray._reconstruct") for module in ("numpy.core", "numpy._core")),
    np.ndarray, np.dtype, type(np.dtype(np.uint32)),
]  # fmt: skip


def load_theirs(state: StateFolder, *, random_states: bool) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Network tensors, and the rest as `state.load_state` gives it. Raises KohyakitError in one sentence.

    random_states: torch's and Python's too, which only sd-scripts' order needs.
    """
    folder, weights = state.folder, WeightFile(state.network)
    streams = _random_states(folder) if random_states else {}
    rest = {
        "optimizer": _opened(folder, OPTIMIZER_FILE),
        "scheduler": {"last_epoch": state.position.current_step},
        "scaler": _opened(folder, SCALER_FILE) if (folder / SCALER_FILE).is_file() else None,
        "streams": streams,
        "epoch_streams": streams,
    }
    return {name: weights.tensor(name) for name in weights}, rest


def settings_asked(optimizer: torch.optim.Optimizer, made: Collection[str]) -> set[str]:
    """What of an optimizer's groups is as it is asked for now: what is named in the config, and how it steps."""
    return set(made) | (_HOW - {"params"}).intersection(*(group.keys() for group in optimizer.param_groups))


def check_optimizer(optimizer: torch.optim.Optimizer, held: Any) -> None:
    """Refuse the state of another optimizer or of other weights, which torch would take. Raises RunError."""
    try:
        _compare(optimizer, held)
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # a pickle may hold anything in any place
        raise _unlike(f"{OPTIMIZER_FILE} holds no optimizer's state") from error


def _compare(optimizer: torch.optim.Optimizer, held: Any) -> None:
    name = type(optimizer).__name__
    groups, states = held.get("param_groups"), held.get("state")
    if not isinstance(groups, list) or not isinstance(states, dict):
        raise _unlike(f"{OPTIMIZER_FILE} holds no optimizer's state")
    for theirs, own in zip(groups, optimizer.param_groups, strict=False):
        if strange := sorted(set(theirs) - set(own) - _HOW):
            raise _unlike(f"its optimizer has settings that {name} does not know ({', '.join(map(str, strange[:3]))})")
    own_weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    counts = [len(group["params"]) for group in groups], [len(group["params"]) for group in optimizer.param_groups]
    if counts[0] != counts[1]:
        what = f"its optimizer trains {_listed(counts[0])} tensors, and here it is {_listed(counts[1])}"
        raise _unlike(what)
    in_8_bits = type(optimizer).__module__.startswith("bitsandbytes")
    for number, values in states.items():
        if not isinstance(number, int) or number >= len(own_weights) or not isinstance(values, Mapping):
            raise _unlike(f"{OPTIMIZER_FILE} holds no optimizer's state")
        if ("state1" in values) != in_8_bits and values:
            raise _unlike(f"its optimizer was {'none ' if in_8_bits else 'one '}of bitsandbytes")
        wrong = [key for key in _SHAPED if key in values and values[key].shape != own_weights[number].shape]
        if wrong:
            raise _unlike(f"its optimizer holds another network: {wrong[0]} of tensor {number} has another shape")


def _listed(counts: list[int]) -> str:
    return " + ".join(map(str, counts))


def _unlike(what: str) -> RunError:
    cure = "resume with the settings that it was made with, or start from its LoRA with network_weights"
    return RunError(Problem("resume", what, cure, "state_of_another"))


def _opened(folder: Path, name: str) -> Any:
    try:
        return torch.load(folder / name, weights_only=True, map_location="cpu")
    except Exception as error:
        why = str(error).partition("\n")[0][:200] or type(error).__name__
        cure = "start from its LoRA with network_weights"
        raise RunError(Problem(str(folder), f"{name} cannot be read ({why})", cure, "state_unreadable")) from error


def _random_states(folder: Path) -> dict[str, Any]:
    with torch.serialization.safe_globals(_NUMPY):
        found = _opened(folder, RANDOM_FILE)
    try:
        streams = {"torch": found["torch_manual_seed"], "python": found["random_state"]}
        version, numbers, gauss = streams["python"]
        streams["python"] = (version, tuple(numbers), gauss)
        cuda = found.get("torch_cuda_manual_seed")
        return {**streams, "cuda": cuda[0]} if cuda else streams
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        what = f"{RANDOM_FILE} does not hold torch's and Python's random numbers"
        cure = "start from its LoRA with network_weights"
        raise RunError(Problem(str(folder), what, cure, "state_unreadable")) from error

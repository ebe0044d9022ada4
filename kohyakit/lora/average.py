"""Saves of one training averaged: what a moving average during it would have given, of a width chosen afterwards."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from kohyakit.errors import ConfigError, Problem
from kohyakit.networks.weights import file as lora_file
from kohyakit.networks.weights.file import LoraFile
from kohyakit.networks.weights.updates import method_of, update_of

WIDEST = 1 / math.sqrt(12)  # of a plain mean from the first step on


@dataclass(frozen=True, slots=True)
class Share:
    """A file of an average. steps: of the training when it was saved, where the file tells. share: of the whole."""

    path: Path
    steps: int | None
    share: float


@dataclass(frozen=True, slots=True)
class Averaged:
    """shares: of the files, in the order of their steps. errors: layer -> how far its update is from the mean of the
    updates, as a share of that; layers whose update cannot be told without the base model are not in it.
    """

    shares: tuple[Share, ...]
    errors: dict[str, float]


def average(
    sources: Sequence[Path],
    target: Path,
    *,
    width: float | None = None,
    dtype: torch.dtype | None = None,
    overwrite: bool = False,
) -> Averaged:
    """Write the mean of several saves of one training, tensor by tensor, so that rank and method stay.

    width: None weighs all alike; else later saves weigh more, as in a moving average whose weights spread over this
    share of the training (their standard deviation; 0.05 to 0.25 are usual). Raises ConfigError with every reason why
    the files cannot be averaged.
    """
    lora_file.check_free(target, overwrite=overwrite)
    files = [lora_file.read(path) for path in sources]
    problems = [*_unlike(files), *(_untold(files, width) if width is not None else ())]
    if len(files) < 2:
        problems.append(Problem("", "one file has no average", "name the saves of a training", "too_few"))
    if problems:
        raise ConfigError(problems)
    files.sort(key=lambda file: _steps(file) or 0)
    steps = [_steps(file) or 0 for file in files]
    shares = [1 / len(files)] * len(files) if width is None else power_shares(steps, exponent_of(width))
    mean = _mean(files, shares)
    errors = {name: error for name in mean if (error := _error(name, mean, files, shares)) is not None}
    last = files[-1]
    told = tuple(Share(file.path, _steps(file), share) for file, share in zip(files, shares, strict=True))
    parts = ", ".join(f"{one.path.stem}:{one.share:.3g}" for one in told)
    metadata = last.metadata | {
        "ss_training_comment": f"averaged from {parts}",
        "modelspec.merged_from": ", ".join(file.path.stem for file in files),
    }
    rest = {name: _weighed([file.rest[name] for file in files], shares) for name in last.rest}
    result = LoraFile(target, mean, metadata, rest=rest)
    lora_file.write(target, result, dtype=dtype or last.dtype, overwrite=overwrite)
    return Averaged(told, errors)


def exponent_of(width: float) -> float:
    """The g of the profile t^g whose standard deviation over a training of length 1 is `width`.

    That is (g + 1)^(1/2) / ((g + 2) (g + 3)^(1/2)). Source: Karras et al. 2024, on power function averages.
    """
    if not 0 < width <= WIDEST:
        what = f"is {width:g}, but a width lies above 0 and not above {WIDEST:.3f}, which weighs all alike"
        raise ConfigError(Problem("--width", what, "0.05 to 0.25 are usual", "bad_width"))
    low, high = 0.0, 2 / width
    for _ in range(100):
        middle = (low + high) / 2
        wide = math.sqrt(middle + 1) / ((middle + 2) * math.sqrt(middle + 3))
        low, high = (middle, high) if wide > width else (low, middle)
    return low


def power_shares(steps: Sequence[int], exponent: float) -> list[float]:
    """What each save stands for: the profile t^g over the steps nearer to it than to another one. They make 1."""
    between = [(a + b) / 2 for a, b in pairwise(steps)]
    ends = [(end / steps[-1]) ** (exponent + 1) for end in (0, *between, steps[-1])]
    return [after - before for before, after in pairwise(ends)]


def _steps(file: LoraFile) -> int | None:
    told = file.metadata.get("ss_steps", "")
    return int(told) if told.isdecimal() else None


def _untold(files: Sequence[LoraFile], width: float) -> Iterator[Problem]:
    exponent_of(width)
    for file in files:
        if not _steps(file):
            what = "does not tell its steps (ss_steps), by which a width weighs"
            yield Problem(str(file.path), what, "leave --width out", "steps_unknown")


def _unlike(files: Sequence[LoraFile]) -> Iterator[Problem]:
    """Files that are not of one training: other layers, sizes or strengths than the first."""
    for file in files[1:]:
        first, own = files[0].tensors(), file.tensors()
        other = [name for name in first.keys() | own.keys() if name not in first or name not in own]
        other += [name for name in first.keys() & own.keys() if first[name].shape != own[name].shape]
        alphas = (name for name in first.keys() & own.keys() if name.endswith(".alpha"))
        other += [name for name in alphas if float(first[name]) != float(own[name])]
        if other:
            what = f"is of another shape than {files[0].path.name} ({len(other)} tensors, such as {min(other)})"
            cure = "average saves of one training; `kohyakit lora merge` adds up any"
            yield Problem(str(file.path), what, cure, "not_one_training")


def _weighed(tensors: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    if not tensors[0].is_floating_point():
        return tensors[-1]
    total = torch.zeros(tensors[0].shape, dtype=torch.float64)
    for tensor, share in zip(tensors, shares, strict=True):
        total += share * tensor.double()
    return total.float()


def _mean(files: Sequence[LoraFile], shares: Sequence[float]) -> lora_file.Layers:
    return {
        name: {ending: _weighed([file.layers[name][ending] for file in files], shares) for ending in layer}
        for name, layer in files[0].layers.items()
    }


def _error(name: str, mean: lora_file.Layers, files: Sequence[LoraFile], shares: Sequence[float]) -> float | None:
    method = method_of(mean[name])
    if method is None or method.update is None or "dora_scale" in mean[name]:
        return None
    wanted = _weighed([update_of(file.layers[name]) for file in files], shares)
    size = float(wanted.norm())
    return float((update_of(mean[name]).float() - wanted).norm()) / size if size else 0.0

"""Two LoRAs beside each other: what was set, how large the updates are, how far they point the same way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from kohyakit.errors import ConfigError, Problem
from kohyakit.networks.weights import file as lora_file
from kohyakit.networks.weights.file import LoraFile
from kohyakit.networks.weights.updates import Factors, is_plain, lora_factors, method_of, update_of, update_size
from kohyakit.planning.size.lora_names import block_of


@dataclass(frozen=True, slots=True)
class Overlap:
    """One block of two LoRAs.

    first, second: Frobenius norms of their updates. cosine: -1 to 1, of the updates as long vectors. shared: 0 to 1,
    how much of the smaller one's input directions the larger one uses too, whatever it does with them.
    """

    block: str
    first: float
    second: float
    cosine: float
    shared: float


@dataclass(frozen=True, slots=True)
class Compared:
    """settings: name -> (first, second) where the metadata differ. blocks: by block; `all` is the last one.

    only_first, only_second: layers that the other has not.
    """

    settings: Mapping[str, tuple[str | None, str | None]]
    blocks: tuple[Overlap, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]

    @property
    def whole(self) -> Overlap:
        return self.blocks[-1]

    def strength_where_they_fight(self) -> float | None:
        """At which strength of both their common part is as large as either alone at strength 1; None below no limit.

        Two updates add up to |s| sqrt(a² + b² + 2abc); where they point the same way (c > 0) that grows beyond what
        each was trained for. The strength is the one that brings the sum back to the larger of the two.
        """
        one = self.whole
        together = (one.first**2 + one.second**2 + 2 * one.first * one.second * one.cosine) ** 0.5
        largest = max(one.first, one.second)
        return largest / together if together > largest > 0 else None


# What differs between any two files and tells nothing.
_TIMES = ("ss_session_id", "ss_training_started_at", "ss_training_finished_at", "modelspec.date", "sshs_")


def compare(first: Path, second: Path) -> Compared:
    """Put two LoRAs of one family beside each other. Raises ConfigError where no layer is common to both."""
    files = [lora_file.read(path) for path in (first, second)]
    names = [[name for name, layer in file.layers.items() if _has_update(layer)] for file in files]
    common = [name for name in names[0] if name in set(names[1])]
    wrong = [name for name in common if len({update_size(file.layers[name]) for file in files}) > 1]
    if wrong:
        what = f"has layers of another size than the other ({len(wrong)}, such as {wrong[0]})"
        raise ConfigError(Problem(str(second), what, "give two LoRAs of one model family", "sizes_differ"))
    if not common:
        what = "has no layer in common with the other"
        raise ConfigError(Problem(str(second), what, "give two LoRAs of one model family", "nothing_in_common"))
    return Compared(
        settings=_settings(*files),
        blocks=tuple(_overlaps(common, *files)),
        only_first=tuple(name for name in names[0] if name not in set(names[1])),
        only_second=tuple(name for name in names[1] if name not in set(names[0])),
    )


def _has_update(layer: Mapping[str, Tensor]) -> bool:
    method = method_of(layer)
    return method is not None and method.update is not None


def _settings(first: LoraFile, second: LoraFile) -> dict[str, tuple[str | None, str | None]]:
    names = sorted({*first.metadata, *second.metadata})
    pairs = {
        name: (first.metadata.get(name), second.metadata.get(name)) for name in names if not name.startswith(_TIMES)
    }
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _overlaps(names: Iterable[str], first: LoraFile, second: LoraFile) -> Iterable[Overlap]:
    sums: dict[str, list[float]] = {}
    for name in names:
        row = _measure(first.layers[name], second.layers[name])
        for block in (block_of(name), "all"):
            kept = sums.setdefault(block, [0.0] * 5)
            for i, value in enumerate(row):
                kept[i] += value
    whole = sums.pop("all")
    for block, (a, b, product, weight, shared) in [*sums.items(), ("all", whole)]:
        cosine = product / (a * b) ** 0.5 if a and b else 0.0
        yield Overlap(block, a**0.5, b**0.5, cosine, shared / weight if weight else 0.0)


def _measure(first: dict[str, Tensor], second: dict[str, Tensor]) -> tuple[float, float, float, float, float]:
    """Squared norms, inner product, and the shared directions weighted by the smaller norm."""
    one, two = _factors(first), _factors(second)
    a, b, product = _inner(one, one), _inner(two, two), _inner(one, two)
    weight = min(a, b) ** 0.5
    return a, b, product, weight, weight * _shared(one, two)


def _factors(layer: dict[str, Tensor]) -> Factors:
    if is_plain(layer):
        found = lora_factors(layer)
        return Factors(found.up.double(), found.down.double(), found.shape)
    matrix = update_of(layer).double().flatten(1)
    return Factors(torch.eye(len(matrix), dtype=torch.float64), matrix, tuple(matrix.shape))


def _inner(one: Factors, two: Factors) -> float:
    """Sum of the elementwise product of two updates, without multiplying them out."""
    return float(((one.up.T @ two.up) * (one.down @ two.down.T)).sum())


def _shared(one: Factors, two: Factors) -> float:
    """Mean squared cosine of the angles between the input directions of two updates, 0 to 1."""
    first, second = (torch.linalg.qr(factors.down.T)[0] for factors in (one, two))
    return float((first.T @ second).square().sum() / min(first.shape[1], second.shape[1]))

"""A LoRA with fewer directions: the best of each layer kept, by rank, by share, by ratio or by the file's size."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from kohyakit.errors import ConfigError, Problem
from kohyakit.networks.weights import file as lora_file
from kohyakit.networks.weights import model as whole_model
from kohyakit.networks.weights.factors import Parts, take_apart, take_apart_matrix
from kohyakit.networks.weights.updates import lora_factors, method_of

_SMALLEST = 1e-6  # a layer whose largest singular value is below has learnt nothing; as sd-scripts


@dataclass(frozen=True, slots=True)
class Resized:
    """One layer: rank before and after, and the share of its update's norm that is kept, 0 to 1."""

    name: str
    old_rank: int
    new_rank: int
    kept: float


def _by_rank(values: Tensor, amount: float) -> int:
    return int(amount)


def _by_fro(values: Tensor, share: float) -> int:
    """The fewest directions that hold `share` of the Frobenius norm."""
    sums = values.square().cumsum(0) / values.square().sum()
    return int(torch.searchsorted(sums, share**2)) + 1


def _by_cumulative(values: Tensor, share: float) -> int:
    """The fewest directions whose singular values sum up to `share` of them all."""
    return int(torch.searchsorted(values.cumsum(0) / values.sum(), share)) + 1


def _by_ratio(values: Tensor, ratio: float) -> int:
    """The directions above the largest one over `ratio`."""
    return int((values > values[0] / ratio).sum())


def _above(values: Tensor, least: float) -> int:
    """The directions of at least this singular value."""
    return int((values >= least).sum())


RULES: dict[str, Callable[[Tensor, float], int]] = {
    "rank": _by_rank,
    "sv_fro": _by_fro,
    "sv_cumulative": _by_cumulative,
    "sv_ratio": _by_ratio,
    "of_base": _above,
}


def chosen_rank(values: Tensor, rule: str, amount: float, *, most: int, as_sd_scripts: bool = False) -> int:
    """How many directions of a layer stay, 1 to `most`.

    as_sd_scripts: its count, which keeps one direction more than the rule asks for.
    """
    if float(values[0]) <= _SMALLEST:
        return 1
    count = RULES[rule](values, amount)
    if as_sd_scripts and rule != "rank":
        count = max(1, min(count, len(values) - 1)) + 1
    return max(1, min(count, most))


@dataclass(frozen=True, slots=True)
class Shrink:
    """How many directions of each layer stay.

    rule: rank, sv_fro, sv_cumulative or sv_ratio, with its amount, or size, whose amount is the most bytes that the
    tensors may take and for which directions compete over all layers, or of_base, whose amount is the least share of
    the base weight's Frobenius norm. conv_rank: for 3x3 convolutions with rule rank; most: no layer keeps more.
    as_sd_scripts: count as its resize_lora.py does. base: the model whose weights directions are measured by, wanted
    by of_base; with size they compete by their share of its weights.
    """

    amount: float
    rule: str = "rank"
    conv_rank: int | None = None
    most: int | None = None
    as_sd_scripts: bool = False
    base: Path | None = None


def resize(
    path: Path, target: Path, asked: Shrink, *, dtype: torch.dtype | None = None, overwrite: bool = False
) -> list[Resized]:
    """Write a LoRA of fewer directions; scales (alpha over rank) stay as they are.

    LoHa and LoKr layers become plain ones; what has no rank (norms, full differences, OFT …) stays.
    Raises ConfigError for a file that is no LoRA, or a target that is there already.
    """
    lora_file.check_free(target, overwrite=overwrite)
    found = lora_file.read(path)
    dtype = dtype or found.dtype
    wide = {name for name, layer in found.layers.items() if _is_wide(layer)}
    limit = {name: asked.conv_rank or asked.most if name in wide else asked.most for name in found.layers}
    norms = _norms(asked.base, found.layers) if asked.base else dict.fromkeys(found.layers, 1.0)
    if asked.rule == "size":
        ranks = _within(found.layers, limit, int(asked.amount), dtype.itemsize, norms)
    done = []
    for name, layer in found.layers.items():
        if (parts := _apart(layer)) is None:
            continue
        if asked.rule == "size":
            rank = ranks[name]
        else:
            room = min(limit[name] or len(parts.values), len(parts.values))
            own = asked.conv_rank if name in wide and asked.rule == "rank" else None
            amount = own or (asked.amount * norms[name] if asked.rule == "of_base" else asked.amount)
            rank = chosen_rank(parts.values, asked.rule, amount, most=room, as_sd_scripts=asked.as_sd_scripts)
        done.append(Resized(name, _rank(layer), rank, parts.kept(rank)))
        found.layers[name] = {key: value.to(dtype) for key, value in _plain(layer, parts, rank).items()}
    if not done:
        what = "holds no layer whose rank could be changed"
        raise ConfigError(Problem(str(path), what, "give a LoRA, LoHa or LoKr file", "nothing_to_resize"))
    found.metadata = _described(found.metadata, done, asked.rule, asked.amount)
    lora_file.write(target, found, dtype=dtype, overwrite=overwrite)
    return done


def _is_wide(layer: Mapping[str, Tensor]) -> bool:
    """Whether it is of a convolution of more than one pixel."""
    return any(tensor.ndim == 4 and tensor.shape[2:] != (1, 1) for tensor in layer.values())


def _apart(layer: dict[str, Tensor]) -> Parts | None:
    """A layer's update taken apart; None where it has none that a rank is defined for."""
    method = method_of(layer)
    if method is None or method.update is None or method.name == "full" or "dora_scale" in layer:
        return None
    return take_apart(lora_factors(layer)) if method.name == "lora" else take_apart_matrix(method.update(layer))


def _rank(layer: dict[str, Tensor]) -> int:
    for ending in ("lora_down.weight", "hada_w1_b", "lokr_w2_b", "lokr_w1_b"):
        if ending in layer:
            return layer[ending].shape[0]
    return 0


def _plain(layer: dict[str, Tensor], parts: Parts, rank: int) -> dict[str, Tensor]:
    """A plain LoRA layer of that rank with the scale that the layer had."""
    old = _rank(layer)
    alpha = layer.get("alpha")
    scale = 1.0 if alpha is None or not old else float(alpha) / old
    cut = parts.cut(rank)
    kernel = parts.shape[2:]
    return {
        "alpha": torch.tensor(scale * cut.rank),
        "lora_down.weight": cut.down.reshape(cut.rank, *parts.shape[1:]).contiguous(),
        "lora_up.weight": (cut.up / (scale or 1.0)).reshape(-1, cut.rank, *([1] * len(kernel))).contiguous(),
    }


def _norms(base: Path, layers: lora_file.Layers) -> dict[str, float]:
    """The Frobenius norm of each layer's weight in the base model. Raises ConfigError where it has no such layer."""
    held = whole_model.layers(whole_model.load(base), convolutions=True)
    if missing := [name for name in layers if name not in held and _apart(layers[name]) is not None]:
        what = f"has no layer {missing[0]}" + (f" and {len(missing) - 1} more of the LoRA's" if missing[1:] else "")
        raise ConfigError(Problem(str(base), what, "give the model family that it was trained on", "wrong_model"))
    return {name: float(whole_model.weight(held[name]).norm()) for name in layers if name in held}


def _within(
    layers: lora_file.Layers, limit: Mapping[str, int | None], size: int, width: int, norms: Mapping[str, float]
) -> dict[str, int]:
    """Ranks whose tensors take `size` bytes at most: the directions that hold most for their bytes stay.

    norms: by which a layer's directions are divided before they are compared with those of others.
    """
    costs: dict[str, int] = {}
    candidates: list[tuple[float, str]] = []
    for name, layer in layers.items():
        if (parts := _apart(layer)) is not None:
            costs[name] = (parts.shape[0] + parts.right.shape[1]) * width
            weighed = parts.values[1 : limit[name]] / (norms[name] or 1.0)
            candidates += ((float(value) ** 2 / costs[name], name) for value in weighed)
    ranks = dict.fromkeys(costs, 1)
    spent = sum(costs.values())
    for _, name in sorted(candidates, reverse=True):
        if spent + costs[name] <= size:
            ranks[name] += 1
            spent += costs[name]
    return ranks


def _described(metadata: dict[str, str], done: list[Resized], rule: str, amount: float) -> dict[str, str]:
    """The metadata with the new ranks; the old ones would be believed by everybody."""
    old, new = max(layer.old_rank for layer in done), {layer.new_rank for layer in done}
    said = f"Dynamic resize with {rule}: {amount:g} from {old}"
    if rule == "rank":
        said = f"dimension is resized from {old} to {amount:g}"
    one = str(new.pop()) if rule == "rank" and len(new) == 1 else "Dynamic"
    comment = metadata.get("ss_training_comment", "")
    return metadata | {
        "ss_training_comment": f"{said}; {comment}",
        "ss_network_dim": one,
        "ss_network_alpha": "Dynamic",
    }

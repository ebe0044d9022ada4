"""Several LoRAs as one: the true weighted sum of their updates, in a chosen rank or exactly in the sum of ranks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from kohyakit.errors import ConfigError, Problem
from kohyakit.networks.weights import file as lora_file
from kohyakit.networks.weights.factors import add, take_apart, take_apart_matrix
from kohyakit.networks.weights.file import LoraFile
from kohyakit.networks.weights.updates import Factors, is_plain, is_sum, lora_factors, update_of, update_size
from kohyakit.planning.size.lora_names import block_of


@dataclass(frozen=True, slots=True)
class Source:
    """One LoRA of a merge. strength: what its update is multiplied by. blocks: further factors by block (`up 1`)."""

    path: Path
    strength: float = 1.0
    blocks: Mapping[str, float] | None = None

    def weight(self, name: str) -> float:
        return self.strength * (self.blocks or {}).get(block_of(name), 1.0)


def parse_source(text: str, blocks: Sequence[str] = ()) -> Source:
    """`style.safetensors:0.6` and `up 1=0.5` as they are written on a command line. Raises ConfigError."""
    path, colon, strength = text.rpartition(":")
    if not colon or not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)", strength):
        path, strength = text, "1"  # a colon of a Windows drive is none of ours
    factors = {}
    for block in blocks:
        name, _, factor = block.partition("=")
        try:
            factors[name.strip()] = float(factor)
        except ValueError:
            cure = "write a block of `kohyakit lora check` and a factor, like `up 1=0.5`"
            raise ConfigError(Problem("--block", f"'{block}' is no BLOCK=FACTOR", cure)) from None
    return Source(Path(path), float(strength), factors or None)


@dataclass(frozen=True, slots=True)
class Merged:
    """One layer of the result. error: how far it is from the true sum, as a share of the sum's Frobenius norm."""

    name: str
    rank: int
    error: float


def merge(
    sources: Sequence[Source],
    target: Path,
    *,
    rank: int | None = None,
    conv_rank: int | None = None,
    dtype: torch.dtype | None = None,
    overwrite: bool = False,
) -> list[Merged]:
    """Write one LoRA whose update is the weighted sum of several.

    rank: of the result, with the best approximation of that rank; None keeps every direction, which is exact.
    conv_rank: for 3x3 convolutions, as rank where not given. Sources may be of different ranks and methods (LoRA,
    LoHa, LoKr, full). Raises ConfigError with every layer that cannot be summed, and for LoRAs of two families.
    """
    lora_file.check_free(target, overwrite=overwrite)
    files = [lora_file.read(source.path) for source in sources]
    check_sum(sources, files)
    layers: lora_file.Layers = {}
    done = []
    for name in dict.fromkeys(name for file in files for name in file.layers):
        terms = [
            (source.weight(name), file.layers[name])
            for source, file in zip(sources, files, strict=True)
            if name in file.layers
        ]
        layers[name], merged = _sum(name, terms, rank, conv_rank)
        done.append(merged)
    metadata = _described(sources, files, rank, done)
    lora_file.write(target, LoraFile(target, layers, metadata), dtype=dtype or torch.float32, overwrite=overwrite)
    return done


def check_sum(
    sources: Sequence[Source], files: Sequence[LoraFile], *, fits: Callable[[Mapping[str, Tensor]], bool] = is_sum
) -> None:
    """Raises ConfigError with every reason why these cannot be summed. fits: which layers can."""
    problems = []
    sizes: dict[str, tuple[int, int]] = {}
    if len({file.is_sdxl for file in files}) > 1:
        wrong = next(s.path for s, file in zip(sources, files, strict=True) if file.is_sdxl)
        what, cure = "is for SDXL, and another one is not", "merge LoRAs of one model family"
        problems.append(Problem(str(wrong), what, cure, "two_families"))
    for source, file in zip(sources, files, strict=True):
        lost = [name for name, layer in file.layers.items() if not fits(layer)]
        if lost:
            what = f"has layers that are no plain sum ({len(lost)}, such as {lost[0]})"
            cure = "leave it out; its update cannot be told without the base model"
            problems.append(Problem(str(source.path), what, cure, "not_a_sum"))
        problems += [Problem(str(source.path), what, "merge LoRAs of one model family", "sizes_differ")
                     for what in _other_sizes(sizes, found=file)]  # fmt: skip
    if problems:
        raise ConfigError(problems)


def _other_sizes(sizes: dict[str, tuple[int, int]], found: LoraFile) -> Iterator[str]:
    """What is wrong where layers are of another size than in the files before; `sizes` takes up those of this one."""
    own = {name: size for name, layer in found.layers.items() if (size := update_size(layer)) is not None}
    wrong = [name for name, size in own.items() if sizes.get(name, size) != size]
    if wrong:
        yield f"has layers of another size than the others ({len(wrong)}, such as {wrong[0]})"
    sizes |= own


def _sum(
    name: str, terms: list[tuple[float, dict[str, Tensor]]], rank: int | None, conv_rank: int | None
) -> tuple[dict[str, Tensor], Merged]:
    factors = _together([(weight, _factors(layer)) for weight, layer in terms])
    wide = len(factors.shape) == 4 and factors.shape[2:] != (1, 1)
    wanted = (conv_rank or rank) if wide else rank
    error = 0.0
    if wanted is not None and wanted < factors.rank:
        parts = take_apart(factors)
        factors = parts.cut(wanted)
        error = max(0.0, 1.0 - parts.kept(factors.rank) ** 2) ** 0.5
    return plain_layer(factors), Merged(name, factors.rank, error)


def _factors(layer: dict[str, Tensor]) -> Factors:
    if is_plain(layer):
        return lora_factors(layer)
    parts = take_apart_matrix(update_of(layer))
    rank = int((parts.values > parts.values[0] * 1e-6).sum()) or 1
    return parts.cut(rank)


def _together(terms: list[tuple[float, Factors]]) -> Factors:
    """The sum; a 1x1 convolution and a Linear of one name are the same layer."""
    shape = max((factors.shape for _, factors in terms), key=len)
    summed = add(terms)
    return Factors(summed.up, summed.down, shape)


def plain_layer(factors: Factors) -> dict[str, Tensor]:
    """A networks.lora layer whose alpha is its rank, so that its strength is 1."""
    ones = [1] * (len(factors.shape) - 2)
    return {
        "alpha": torch.tensor(float(factors.rank)),
        "lora_down.weight": factors.down.reshape(factors.rank, *factors.shape[1:]).contiguous(),
        "lora_up.weight": factors.up.reshape(-1, factors.rank, *ones).contiguous(),
    }


_KEPT = ("ss_v2", "ss_base_model_version", "modelspec.architecture", "modelspec.implementation",
         "modelspec.prediction_type", "modelspec.resolution", "modelspec.sai_model_spec")  # fmt: skip


def _described(
    sources: Sequence[Source], files: Sequence[LoraFile], rank: int | None, done: Sequence[Merged]
) -> dict[str, str]:
    """What holds for the sum: the family, the rank, what it was made from. Not the first one's training."""
    found = {key: files[0].metadata[key] for key in _KEPT if key in files[0].metadata}
    ranks = {layer.rank for layer in done}
    dim = str(ranks.pop()) if len(ranks) == 1 else "Dynamic"
    parts = ", ".join(f"{source.path.stem}:{source.strength:g}" for source in sources)
    return found | {
        "ss_network_module": "networks.lora",
        "ss_network_dim": dim,
        "ss_network_alpha": dim,
        "ss_training_comment": f"merged from {parts}",
        "modelspec.merged_from": ", ".join(source.path.stem for source in sources),
    }

"""A LoRA of the difference between two models: layer by layer from memory-mapped files, nothing clamped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from kohyakit.errors import ConfigError, Problem
from kohyakit.lora.merge import plain_layer
from kohyakit.models import Model
from kohyakit.networks.weights import file as lora_file
from kohyakit.networks.weights import model as whole_model
from kohyakit.networks.weights.factors import Parts, take_apart_matrix
from kohyakit.networks.weights.file import LoraFile
from kohyakit.registry.families import MODELS

_LEAST = 1e-6  # of a weight's norm; a smaller difference is rounding


@dataclass(frozen=True, slots=True)
class Extracted:
    """One layer. kept: the share of the difference's norm that its rank holds, 0 to 1."""

    name: str
    rank: int
    kept: float


@dataclass(frozen=True, slots=True)
class Kept:
    """What of a difference goes into the LoRA.

    rank: of each layer, at most; conv_rank: of 3x3 convolutions, None leaves them out. share: as many directions as
    hold that share of the difference's Frobenius norm. clamp: cut both matrices at this quantile of theirs, as
    sd-scripts always does with 0.99.
    """

    rank: int = 32
    conv_rank: int | None = None
    share: float | None = None
    clamp: float | None = None


def extract(
    tuned: Path | str,
    base: Path | str,
    target: Path,
    kept: Kept = Kept(),
    *,
    family: str | None = None,
    dtype: torch.dtype = torch.float16,
    overwrite: bool = False,
    progress: Callable[[str], None] = lambda name: None,
) -> list[Extracted]:
    """Write what a tuned model adds to its base as a LoRA. Layers without a difference are left out.

    family: of both; not given, what the base is seen to be. Raises ConfigError for models that are missing or of
    different shapes, and where nothing differs.
    """
    lora_file.check_free(target, overwrite=overwrite)
    before = whole_model.load(base, family)
    after = whole_model.load(tuned, before.family.name)
    layers: lora_file.Layers = {}
    done = []
    for name, (new, old) in _pairs(after, before, convolutions=kept.conv_rank is not None).items():
        progress(name)
        before_it = whole_model.weight(old)
        difference = whole_model.weight(new) - before_it
        if float(difference.norm()) <= _LEAST * float(before_it.norm()):
            continue
        parts = take_apart_matrix(difference)
        wide = kept.conv_rank and difference.ndim == 4 and difference.shape[-1] > 1
        count = _count(parts, kept.conv_rank if wide and kept.conv_rank else kept.rank, kept.share)
        layers[name] = _clamped(plain_layer(parts.cut(count)), kept.clamp)
        done.append(Extracted(name, count, parts.kept(count)))
    if not layers:
        what = "does not differ from the base in any layer that a LoRA has"
        raise ConfigError(Problem(str(tuned), what, "give the tuned model first, then its base", "no_difference"))
    metadata = _described(before.family.name, kept.rank, done, Path(tuned), Path(base))
    lora_file.write(target, LoraFile(target, layers, metadata), dtype=dtype, overwrite=overwrite)
    return done


def _pairs(after: Model, before: Model, *, convolutions: bool) -> dict[str, tuple[nn.Module, nn.Module]]:
    """Kohya name -> the layer in both models. Raises ConfigError where their shapes differ."""
    found = [whole_model.layers(model, convolutions=convolutions) for model in (after, before)]
    wrong = [
        name
        for name, layer in found[0].items()
        if name not in found[1] or layer.weight.shape != found[1][name].weight.shape
    ]
    if wrong:
        what = f"has another shape than the base ({len(wrong)} layers, such as {wrong[0]})"
        raise ConfigError(Problem(after.source.name, what, "give the model that it was made from", "shapes_differ"))
    return {name: (layer, found[1][name]) for name, layer in found[0].items()}


def _count(parts: Parts, most: int, share: float | None) -> int:
    if share is None:
        return min(most, len(parts.values))
    sums = parts.values.square().cumsum(0) / parts.values.square().sum()
    return min(most, int(torch.searchsorted(sums, share**2)) + 1, len(parts.values))


def _clamped(layer: dict[str, Tensor], quantile: float | None) -> dict[str, Tensor]:
    if quantile is None:
        return layer
    up, down = layer["lora_up.weight"], layer["lora_down.weight"]
    limit = torch.quantile(torch.cat([up.flatten(), down.flatten()]).float(), quantile)
    return layer | {"lora_up.weight": up.clamp(-limit, limit), "lora_down.weight": down.clamp(-limit, limit)}


def _described(family: str, rank: int, done: list[Extracted], tuned: Path, base: Path) -> dict[str, str]:
    ranks = {layer.rank for layer in done}
    dim = str(rank) if ranks == {rank} else "Dynamic"
    entry = MODELS[family]
    return {
        "ss_v2": str(entry.v2), "ss_base_model_version": entry.record(v=False).version,
        "ss_network_module": "networks.lora", "ss_network_dim": dim, "ss_network_alpha": dim,
        "ss_training_comment": f"extracted from {tuned.stem} minus {base.stem}",
    }  # fmt: skip

"""What sd-scripts' merge_lora.py makes of several LoRAs: no sum of updates, kept for who wants its very numbers.

It adds up and down matrices apart, each times a root of the ratio of alphas, so that cross terms appear and a strength
acts twice; with `concat` it puts them side by side. Source: sd-scripts 0.10.1, `networks/merge_lora.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from kohyakit.errors import ConfigError, Problem
from kohyakit.lora.merge import Source, check_sum
from kohyakit.networks.weights import file as lora_file
from kohyakit.networks.weights.file import LoraFile

_ENDINGS = {"lora_up.weight", "lora_down.weight", "alpha"}


def merge_as_sd_scripts(
    sources: Sequence[Source],
    target: Path,
    *,
    concat: bool = False,
    dtype: torch.dtype | None = None,
    overwrite: bool = False,
) -> int:
    """Write what merge_lora.py would, numbers and ss_ metadata; returns the number of layers.

    concat: put the matrices side by side instead of adding them, as its --concat. Raises ConfigError for anything but
    plain LoRAs under Kohya's names, for block weights, and for ranks that differ without concat.
    """
    lora_file.check_free(target, overwrite=overwrite)
    files = [lora_file.read(source.path) for source in sources]
    _check(sources, files, concat=concat)
    check_sum(sources, files)
    alphas: dict[str, float] = {}
    layers: lora_file.Layers = {}
    for source, found in zip(sources, files, strict=True):
        for name, layer in found.layers.items():
            own = float(layer["alpha"]) if "alpha" in layer else float(len(layer["lora_down.weight"]))
            root = math.sqrt(own / alphas.setdefault(name, own))
            merged = layers.setdefault(name, {"alpha": torch.tensor(alphas[name])})
            for side, dim, scale in (("up", 1, abs(root * source.strength)), ("down", 0, root * source.strength)):
                key = f"lora_{side}.weight"
                added = layer[key].float() * scale
                merged[key] = _joined(merged.get(key), added, dim if concat else None)
    metadata = _described(files, alphas)
    lora_file.write(target, LoraFile(target, layers, metadata), dtype=dtype or torch.float32, overwrite=overwrite)
    return len(layers)


def _joined(before: Tensor | None, added: Tensor, dim: int | None) -> Tensor:
    if before is None:
        return added
    return before + added if dim is None else torch.cat([before, added], dim=dim)


def _check(sources: Sequence[Source], files: Sequence[LoraFile], *, concat: bool) -> None:
    problems = []
    shapes: dict[str, tuple[int, ...]] = {}
    for source, found in zip(sources, files, strict=True):
        where = str(source.path)
        strange = [name for name, layer in found.layers.items()
                   if set(layer) - _ENDINGS or not {"lora_up.weight", "lora_down.weight"} <= set(layer)]  # fmt: skip
        if strange or found.layout != "kohya":
            what = "is no plain LoRA under Kohya's names, which merge_lora.py alone takes"
            problems.append(Problem(where, what, "leave --as-sd-scripts out", "not_plain"))
            continue
        if source.blocks:
            problems.append(Problem("--block", "merge_lora.py has no weights of blocks", "leave one of the two out"))
        if any(float(layer.get("alpha", torch.ones(()))) <= 0 for layer in found.layers.values()):
            what, cure = "has alphas of 0 or below, of which no root is", "leave --as-sd-scripts out"
            problems.append(Problem(where, what, cure, "not_plain"))
        own = {f"{name}.{side}": tuple(layer[f"lora_{side}.weight"].shape)
               for name, layer in found.layers.items() for side in ("up", "down")}  # fmt: skip
        if not concat and any(shapes.get(name, shape) != shape for name, shape in own.items()):
            what = "has another rank than the first, where merge_lora.py stops"
            problems.append(Problem(where, what, "add --concat, or leave --as-sd-scripts out", "ranks_differ"))
        shapes |= own
    if problems:
        raise ConfigError(problems)


def _described(files: Sequence[LoraFile], alphas: dict[str, float]) -> dict[str, str]:
    """Its ss_ metadata: rank and alpha are those of the first file to have a layer, with concat too."""
    dims: dict[str, int] = {}
    for found in files:
        for name, layer in found.layers.items():
            dims.setdefault(name, len(layer["lora_down.weight"]))
    said = {
        key: next((text for found in files if (text := found.metadata.get(key)) is not None), None)
        for key in ("ss_v2", "ss_base_model_version")
    }
    one_dim, one_alpha = set(dims.values()), set(alphas.values())
    return {key: text for key, text in said.items() if text is not None} | {
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(one_dim.pop()) if len(one_dim) == 1 else "Dynamic",
        "ss_network_alpha": str(one_alpha.pop()) if len(one_alpha) == 1 else "Dynamic",
    }

"""What a file of LyCORIS' kinds holds of each layer, read from shapes alone: for `dim_from_weights`, without torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from kohyakit.config.arguments.adapters import AdapterSettings
from kohyakit.config.arguments.presets import Preset
from kohyakit.errors import ConfigError, Problem
from kohyakit.planning.size.layers import NORM, Target

Shape = tuple[int, ...]
_SCALARS = ("alpha", "on_input")
_KNOWN = frozenset(
    (
        *_SCALARS, "dora_scale", "diff", "diff_b", "weight", "w_norm", "b_norm", "oft_blocks", "rescale",
        "lora_up.weight", "lora_mid.weight", "lora_down.weight", "hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b",
        "hada_t1", "hada_t2", "lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2",
        "a1.weight", "a2.weight", "b1.weight", "b2.weight", "q_layer.weight", "p_layer.weight", "lambda_layer",
    )
)  # fmt: skip

# Algorithm -> one of the tensors that only it has, and the tensor whose first axis is its rank.
_MARKS = {
    "loha": (("hada_w1_a",), "hada_w1_b"),
    "lokr": (("lokr_w1", "lokr_w1_a"), "lokr_w2_b"),
    "glora": (("a1.weight",), "a2.weight"),
    "tlora": (("lambda_layer",), "q_layer.weight"),
    "diag-oft": (("oft_blocks",), ""),
    "ia3": (("on_input",), ""),
    "full": (("diff",), ""),
    "lora": (("lora_down.weight",), "lora_down.weight"),
}  # fmt: skip


def held_settings(
    base: AdapterSettings, found: Iterable[Target], shapes: Mapping[str, Shape], numbers: Mapping[str, float]
) -> AdapterSettings:
    """Settings by which exactly the layers of a file are made, each as it is there.

    numbers: of the file's scalars, by key, as far as they are known. Raises ConfigError for a file of another model.
    """
    layers: dict[str, dict[str, Shape]] = {}
    for key, shape in shapes.items():
        name, _, ending = key.partition(".")
        if ending in _KNOWN:
            layers.setdefault(name, {})[ending] = () if ending in _SCALARS else shape
    made: dict[str, AdapterSettings] = {}
    wrong: list[str] = []
    for target in found:
        name = f"{base.prefix}_{target.path.replace('.', '_')}" if base.prefix and not target.part else target.name
        tensors = layers.get(name)
        algo = algorithm(tensors) if tensors else ""
        if tensors and algo and _fits(target, algo, tensors):
            made[name] = _held(base, algo, tensors, {e: numbers[f"{name}.{e}"] for e in _SCALARS
                                                     if f"{name}.{e}" in numbers})  # fmt: skip
        elif tensors:
            wrong.append(name)
    missing = [name for name in layers if name not in made and name not in wrong]
    for lost, what in ((wrong, "holds layers of other sizes than this model's"),
                       (missing, "holds layers that this model does not have")):  # fmt: skip
        if lost:
            cure = "give a file of the same model family, under Kohya's names"
            raise ConfigError(Problem("network_weights", f"{what} ({len(lost)}, such as {lost[0]})", cure))
    return replace(base, held=made)


def algorithm(tensors: Mapping[str, Shape]) -> str:
    """ "norm" for a normalisation, "" for what is nothing that is known."""
    if "w_norm" in tensors:
        return "norm"
    found = next((algo for algo, (marks, _) in _MARKS.items() if any(mark in tensors for mark in marks)), "")
    return "boft" if found == "diag-oft" and len(tensors["oft_blocks"]) == 4 else found


def _held(
    base: AdapterSettings, algo: str, tensors: Mapping[str, Shape], numbers: Mapping[str, float]
) -> AdapterSettings:
    rank = _rank(algo, tensors)
    alpha = numbers.get("alpha", float(rank))
    dora = tensors.get("dora_scale", ())
    shapes = dict(tensors) if algo in ("ia3", "full", "norm") else {"alpha": (), **tensors}
    return AdapterSettings(
        algo="lora" if algo == "norm" else algo, preset=Preset(), dim=rank, alpha=alpha, conv_dim=rank,
        conv_alpha=alpha, dora=bool(dora), dora_on_output=bool(dora) and dora[0] > 1,
        constraint=numbers.get("alpha", 0.0), rescaled="rescale" in tensors, on_input=bool(numbers.get("on_input")),
        vectors=base.vectors, min_rank=base.min_rank, rank_power=base.rank_power,
        native=base.native, as_lycoris=base.as_lycoris, shapes=shapes,
    )  # fmt: skip


def _rank(algo: str, tensors: Mapping[str, Shape]) -> int:
    """1 for what has none."""
    ending = _MARKS[algo][1] if algo in _MARKS else ""
    if algo == "lokr" and ending not in tensors:
        ending = "lokr_w1_b"
    return tensors[ending][0] if ending in tensors else 1


def _fits(target: Target, algo: str, tensors: Mapping[str, Shape]) -> bool:
    """Whether the tensors are for a layer of this size."""
    if (target.layer.kernel == NORM) != (algo == "norm"):
        return False
    layer = target.layer
    kernel = max(1, layer.kernel) ** 2
    try:
        sizes = _SPANS[algo](tensors, kernel)
    except (LookupError, KeyError):
        return False
    return all(size in (0, own) for size, own in zip(sizes, (layer.outputs, layer.inputs), strict=True)) or (
        algo == "ia3" and sizes[0] in (layer.inputs, layer.outputs)
    )


# Algorithm -> outputs and inputs of a layer by its tensors; 0 where they do not tell.
_Span = Callable[[Mapping[str, Shape], int], tuple[int, int]]


def _loha(tensors: Mapping[str, Shape], kernel: int) -> tuple[int, int]:
    if "hada_t1" in tensors:
        return tensors["hada_w1_a"][1], tensors["hada_w1_b"][1]
    return tensors["hada_w1_a"][0], tensors["hada_w1_b"][1] // kernel


def _lokr(tensors: Mapping[str, Shape], kernel: int) -> tuple[int, int]:
    first = tensors.get("lokr_w1") or (tensors["lokr_w1_a"][0], tensors["lokr_w1_b"][1])
    if "lokr_w2" in tensors:
        second: Shape = tensors["lokr_w2"]
    elif "lokr_t2" in tensors:
        second = (tensors["lokr_w2_a"][1], tensors["lokr_w2_b"][1])
    else:
        second = (tensors["lokr_w2_a"][0], tensors["lokr_w2_b"][1] // kernel)
    return first[0] * second[0], first[1] * second[1]


_SPANS: Mapping[str, _Span] = {
    "loha": _loha,
    "lokr": _lokr,
    "glora": lambda tensors, kernel: (tensors["b1.weight"][0], tensors["a1.weight"][0]),
    "tlora": lambda tensors, kernel: (tensors["p_layer.weight"][0], tensors["q_layer.weight"][1]),
    "diag-oft": lambda tensors, kernel: (math.prod(tensors["oft_blocks"][:2]), 0),
    "boft": lambda tensors, kernel: (math.prod(tensors["oft_blocks"][1:3]), 0),
    "ia3": lambda tensors, kernel: (math.prod(tensors["weight"]), 0),
    "full": lambda tensors, kernel: (tensors["diff"][0], tensors["diff"][1]),
    "norm": lambda tensors, kernel: (tensors["w_norm"][0], 0),
    "lora": lambda tensors, kernel: (tensors["lora_up.weight"][0], tensors["lora_down.weight"][1]),
}  # fmt: skip


def scalars(keys: Iterable[str]) -> Iterator[str]:
    """Those of a file's keys whose numbers `held_settings` looks at."""
    return (key for key in keys if key.rpartition(".")[2] in _SCALARS)

"""What a file holds of a layer, by algorithm of LyCORIS: ending -> shape; without torch.

From these both the layer that is trained and the size before a training are made.
"""

from __future__ import annotations

import math

from kohyakit.config.arguments.adapters import AdapterSettings
from kohyakit.planning.size.layers import Layer, Target

Tensors = dict[str, tuple[int, ...]]
CUTTING = frozenset(("boft", "diag-oft", "dylora"))  # algorithms that cut a layer's outputs, or its rank, into blocks


def _kernel(layer: Layer) -> tuple[int, ...]:
    return (layer.kernel, layer.kernel) if layer.kernel else ()


def lora(target: Target, rank: int, settings: AdapterSettings) -> Tensors:
    layer, kernel = target.layer, _kernel(target.layer)
    small = (1,) * len(kernel)
    if settings.tucker and layer.kernel > 1:
        return {
            "alpha": (), "lora_down.weight": (rank, layer.inputs, *small),
            "lora_mid.weight": (rank, rank, *kernel), "lora_up.weight": (layer.outputs, rank, *small),
        }  # fmt: skip
    return {
        "alpha": (), "lora_down.weight": (rank, layer.inputs, *kernel), "lora_up.weight": (layer.outputs, rank, *small),
    }  # fmt: skip


def loha(target: Target, rank: int, settings: AdapterSettings) -> Tensors:
    layer, kernel = target.layer, _kernel(target.layer)
    found: Tensors = {"alpha": ()}
    for number in (1, 2):
        if settings.tucker and layer.kernel > 1:
            found[f"hada_t{number}"] = (rank, rank, *kernel)
            found[f"hada_w{number}_a"] = (rank, layer.outputs)
            found[f"hada_w{number}_b"] = (rank, layer.inputs)
        else:
            found[f"hada_w{number}_a"] = (layer.outputs, rank)
            found[f"hada_w{number}_b"] = (rank, layer.inputs * math.prod(kernel))
    return found


def lokr(target: Target, rank: int, settings: AdapterSettings) -> Tensors:
    layer, kernel = target.layer, _kernel(target.layer)
    rows, large_rows = factors(layer.outputs, settings.factor)
    if settings.unbalanced:
        rows, large_rows = large_rows, rows
    columns, large_columns = factors(layer.inputs, settings.factor)
    found: Tensors = {"alpha": ()}
    if settings.decompose_both and rank < max(rows, columns) / 2 and not settings.full_matrix:
        found |= {"lokr_w1_a": (rows, rank), "lokr_w1_b": (rank, columns)}
    else:
        found["lokr_w1"] = (rows, columns)
    if settings.full_matrix or rank >= max(large_rows, large_columns) / 2:
        found["lokr_w2"] = (large_rows, large_columns, *kernel)
    elif settings.tucker and layer.kernel > 1:
        found |= {
            "lokr_t2": (rank, rank, *kernel), "lokr_w2_a": (rank, large_rows), "lokr_w2_b": (rank, large_columns),
        }  # fmt: skip
    else:
        found |= {"lokr_w2_a": (large_rows, rank), "lokr_w2_b": (rank, large_columns * math.prod(kernel))}
    return found


def factors(length: int, factor: int) -> tuple[int, int]:
    """Two whole numbers with this product, the smaller first: `factor` where it divides, else the nearest pair.

    A factor of -1 asks for the most even pair. 128: 8, 16; with 4: 4, 32. 250 with 4: 2, 125.
    """
    if factor > 0 and length % factor == 0:
        small, large = sorted((factor, length // factor))
        return small, large
    limit = length if factor < 0 else factor
    small = max(one for one in range(1, math.isqrt(length) + 1) if length % one == 0 and one <= max(1, limit))
    return small, length // small


def full(target: Target, rank: int, settings: AdapterSettings) -> Tensors:
    layer = target.layer
    found: Tensors = {"diff": (layer.outputs, layer.inputs, *_kernel(layer))}
    return found | ({"diff_b": (layer.outputs,)} if target.bias else {})


def ia3(target: Target, rank: int, settings: AdapterSettings) -> Tensors:
    layer = target.layer
    length = layer.inputs if scales_inputs(target, settings) else layer.outputs
    return {"weight": (1, length, 1, 1) if layer.kernel else (length,), "on_input": ()}


def scales_inputs(target: Target, settings: AdapterSettings) -> bool:
    """Whether (IA)^3 scales what goes into the layer, and not what comes out."""
    return settings.on_input or target.path.endswith(settings.preset.on_input or ("\0",))


def dylora(target: Target, rank: int, settings: AdapterSettings) -> Tensors:
    """A LoRA's; LyCORIS' own writes up without the kernel's axes."""
    found = lora(target, rank, settings)
    if settings.as_lycoris and not settings.native:
        found["lora_up.weight"] = found["lora_up.weight"][:2]
    return found


def glora(target: Target, rank: int, settings: AdapterSettings) -> Tensors:
    layer, kernel = target.layer, _kernel(target.layer)
    small = (1,) * len(kernel)
    return {
        "alpha": (), "a1.weight": (layer.inputs, rank, *small), "a2.weight": (rank, layer.inputs, *small),
        "b1.weight": (layer.outputs, rank, *small), "b2.weight": (rank, layer.inputs, *kernel),
    }  # fmt: skip


def tlora(target: Target, rank: int, settings: AdapterSettings) -> Tensors:
    layer, kernel = target.layer, _kernel(target.layer)
    small = (1,) * len(kernel)
    return {
        "alpha": (), "q_layer.weight": (rank, layer.inputs, *kernel), "p_layer.weight": (layer.outputs, rank, *small),
        "lambda_layer": (1, rank),
    }  # fmt: skip


def diag_oft(target: Target, rank: int, settings: AdapterSettings) -> Tensors:
    """Rank: how many blocks in sd-scripts, how large they are at the most in LyCORIS."""
    outputs = target.layer.outputs
    size, count = (outputs // rank, rank) if settings.native else factors(outputs, rank)
    return {"alpha": (), "oft_blocks": (count, size, size)} | _rescale(target, settings)


def boft(target: Target, rank: int, settings: AdapterSettings) -> Tensors:
    size = butterfly(target.layer.outputs, rank)
    count = target.layer.outputs // size
    return {"alpha": (), "oft_blocks": (count.bit_length(), count, size, size)} | _rescale(target, settings)


def _rescale(target: Target, settings: AdapterSettings) -> Tensors:
    side = (1,) * (3 if target.layer.kernel else 1)
    return {"rescale": (target.layer.outputs, *side)} if settings.rescaled else {}


def butterfly(length: int, largest: int) -> int:
    """The largest even size up to `largest` that cuts the length into blocks whose number is a power of two; 0: none.

    320 with 10 to 19: 10, which makes 32 blocks; with 4: none.
    """
    even = range(min(largest, length) // 2 * 2, 0, -2)
    return next((size for size in even if length % size == 0 and (length // size).bit_count() == 1), 0)


def fits(target: Target, rank: int, settings: AdapterSettings) -> bool:
    """Whether a layer's outputs, or its rank, can be cut into blocks, where its algorithm does so."""
    if settings.algo == "dylora":
        return rank % settings.group == 0
    if settings.algo == "boft":
        return butterfly(target.layer.outputs, rank) > 0
    return settings.algo != "diag-oft" or not settings.native or target.layer.outputs % rank == 0

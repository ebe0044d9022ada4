"""Ranks, alphas and rates of the U-Net's blocks (`block_dims`, `down_lr_weight`, …), as networks.lora reads them.

Blocks are counted as there: SD 1.x and 2.x have 25 (12 down, the middle, 12 up), SDXL 23 (one before, 9 down, 3 in the
middle, 9 up, one after).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from kohyakit.config.arguments.network_args import NetworkArgs
from kohyakit.errors import ConfigError, Problem

LISTS = ("block_dims", "block_alphas", "conv_block_dims", "conv_block_alphas")
WEIGHTS = ("down_lr_weight", "mid_lr_weight", "up_lr_weight")

# Place from 0 at the first block to 1 at the last -> factor. sd-scripts' cosine is its sine read backwards.
CURVES: Mapping[str, Callable[[float], float]] = MappingProxyType(
    {
        "sine": lambda place: math.sin(math.pi * place / 2),
        "cosine": lambda place: math.sin(math.pi * (1 - place) / 2),
        "linear": lambda place: place,
        "reverse_linear": lambda place: 1 - place,
        "zeros": lambda place: 0.0,
    }
)
_INSIDE = re.compile(r"(up|down)_blocks_(\d+)_(resnets|upsamplers|downsamplers|attentions)_(\d+)_")
_ORIGINAL = re.compile(r"lora_unet_(input_blocks|middle_block|output_blocks)_(\d+)_")
_FIRST = {"input_blocks": 1, "middle_block": 10, "output_blocks": 13}


@dataclass(frozen=True, slots=True)
class Blocks:
    """Of each block: its rank and alpha, those of its 3x3 convolutions (None: they are left alone), and the factor on
    its learning rate (None: one group for all)."""

    dims: tuple[int, ...]
    alphas: tuple[float, ...]
    conv_dims: tuple[int, ...] | None = None
    conv_alphas: tuple[float, ...] = ()
    rates: tuple[float, ...] | None = None

    def size_of(self, name: str, kernel: int) -> tuple[int, float]:
        """Rank and alpha of a layer of the U-Net; a rank of 0 leaves it out."""
        number = block_number(name)
        if kernel <= 1:
            return self.dims[number], self.alphas[number]
        return (self.conv_dims[number], self.conv_alphas[number]) if self.conv_dims else (0, 0.0)


def block_number(name: str) -> int:
    """Which block a layer of the U-Net lies in, by its name in a Kohya file; -1, the last one, for one in none."""
    original = _ORIGINAL.match(name)
    if original:
        return _FIRST[original[1]] + int(original[2])
    inside = _INSIDE.search(name)
    if inside is None:
        return 12 if "mid_block_" in name else -1
    way, level, kind, place = inside.groups()
    return (1 if way == "down" else 13) + 3 * int(level) + (2 if kind.endswith("samplers") else int(place))


def blocks_of(args: NetworkArgs, dim: int, alpha: float, count: int) -> Blocks | None:
    """What the arguments ask of each block; None where they speak of none. count: of the model's blocks.

    Raises ConfigError with every list of another length, and every factor that is neither a number nor a curve.
    """
    if not asked(args):
        return None
    problems = [*wrong_lengths(args, count), *unreadable(args, count)]
    if problems:
        raise ConfigError(problems)
    rates = _rates(args, count)
    convolved = args.conv_block_dims or ((args.conv_dim,) * count if args.conv_dim is not None else None)
    conv_alpha = 1.0 if args.conv_alpha is None else args.conv_alpha
    given = args.conv_block_alphas if args.conv_block_dims else None

    def kept(dims: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(rank if rate else 0 for rank, rate in zip(dims, rates or (1.0,) * count, strict=True))

    return Blocks(
        kept(args.block_dims or (dim,) * count),
        args.block_alphas or (alpha,) * count,
        None if convolved is None else kept(convolved),
        given or (conv_alpha,) * count,
        rates,
    )


def asked(args: NetworkArgs) -> bool:
    """Whether any of them speaks of blocks; block_alphas and what convolutions have alone do not."""
    return args.block_dims is not None or any(getattr(args, name) is not None for name in WEIGHTS)


def wrong_lengths(args: NetworkArgs, count: int) -> Iterator[Problem]:
    for name in LISTS:
        values = getattr(args, name)
        if values is not None and len(values) != count:
            what = f"{name} has {len(values)} numbers, but {count} are needed"
            yield Problem("network_args", what, "give one for each block", "block_count_wrong")


def unreadable(args: NetworkArgs, count: int) -> Iterator[Problem]:
    for name in WEIGHTS:
        text = getattr(args, name)
        try:
            if text is not None:
                _factors(name, text, lengths(count)[0])
        except ValueError:
            what = f"{name} is {text!r}, which is neither numbers nor a curve"
            curves = "" if name == WEIGHTS[1] else f", or one of {', '.join(CURVES)}, each with +base"
            yield Problem("network_args", what, f"write numbers joined by commas{curves}", "block_weight_unreadable")


def _factors(name: str, text: str, length: int) -> tuple[float, ...]:
    """Raises ValueError. A blank between two commas is 0, as in sd-scripts."""
    if "," in text or name == WEIGHTS[1]:
        return tuple(float(part) if part.strip() else 0.0 for part in text.split(","))
    curve, _, base = text.partition("+")
    if curve.strip() not in CURVES:
        raise ValueError(text)
    added, drawn = float(base or 0), CURVES[curve.strip()]
    return tuple(drawn(place / (length - 1)) + added for place in range(length))


def _rates(args: NetworkArgs, count: int) -> tuple[float, ...] | None:
    if all(getattr(args, name) is None for name in WEIGHTS):
        return None
    lowest = args.block_lr_zero_threshold or 0.0
    found: list[float] = []
    for name, length in zip(WEIGHTS, lengths(count), strict=True):
        text = getattr(args, name)
        factors = (1.0,) * length if text is None else _factors(name, text, length)
        whole = (*factors, *(1.0,) * (length - len(factors)))[:length]
        found += [factor if factor > lowest or text is None else 0.0 for factor in whole]
    outer = (count - len(found)) // 2  # of SDXL one before and one after, which no factor is for
    return (*(1.0,) * outer, *found, *(1.0,) * outer)


def lengths(count: int) -> tuple[int, int, int]:
    """How many blocks go down, stand in the middle and go up."""
    return (12, 1, 12) if count == 25 else (9, 3, 9)

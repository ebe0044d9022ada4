"""The transformer blocks of a U-Net: how large each is, and which of them wait in main memory; without torch."""

from __future__ import annotations

from kohyakit.planning.size.architecture import UNetShape

PLACES = 2  # on the device, for those that wait: one for the block that computes, one for the next


def block_sizes(unet: UNetShape) -> tuple[int, ...]:
    """How many numbers each transformer block holds, in the order in which they compute: down, mid, up."""
    levels = list(zip(unet.channels, unet.transformers, strict=True))
    down = [(width, count) for width, count in levels for _ in range(unet.layers_per_block)]
    up = [(width, count) for width, count in reversed(levels) for _ in range(unet.layers_per_block + 1)]
    attentions = [*down, (unet.channels[-1], unet.mid_transformers), *up]
    return tuple(_numbers(width, unet.context) for width, count in attentions for _ in range(count))


def _numbers(width: int, context: int) -> int:
    """Of one block.

    Self-attention has four matrices, attention to the text two and two of the text's width, the gated MLP one of eight
    and one of four times the width; beside them 17 widths of biases and norms.
    """
    return 18 * width**2 + 2 * width * context + 17 * width


def waiting(count: int, total: int) -> tuple[int, ...]:
    """Which of `total` blocks wait where `count` of them shall: spread evenly, so that others compute between."""
    count = min(count, total)
    return tuple(number * total // count for number in range(count))

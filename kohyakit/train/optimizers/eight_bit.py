"""The 8-bit and paged optimizers of bitsandbytes: states in a quarter of the memory, or moved out of the GPU's."""

from __future__ import annotations

from functools import partial
from typing import Any

from kohyakit.train.optimizers.recipe import Recipe


def _of_bitsandbytes(name: str, settings: dict[str, Any], learning_rate: float) -> Recipe:
    import bitsandbytes.optim

    return Recipe(getattr(bitsandbytes.optim, name), settings, learning_rate)


adamw_8bit = partial(_of_bitsandbytes, "AdamW8bit")
paged_adamw_8bit = partial(_of_bitsandbytes, "PagedAdamW8bit")
paged_adamw = partial(_of_bitsandbytes, "PagedAdamW")
paged_adamw_32bit = partial(_of_bitsandbytes, "PagedAdamW32bit")
lion_8bit = partial(_of_bitsandbytes, "Lion8bit")
paged_lion_8bit = partial(_of_bitsandbytes, "PagedLion8bit")
ademamix_8bit = partial(_of_bitsandbytes, "AdEMAMix8bit")
paged_ademamix_8bit = partial(_of_bitsandbytes, "PagedAdEMAMix8bit")


def sgd_nesterov_8bit(settings: dict[str, Any], learning_rate: float) -> Recipe:
    import bitsandbytes.optim

    return Recipe(bitsandbytes.optim.SGD8bit, {"momentum": 0.9} | settings, learning_rate, fixed={"nesterov": True})

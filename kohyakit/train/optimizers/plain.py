"""AdamW and SGD of torch, and Lion."""

from __future__ import annotations

from typing import Any

from kohyakit.train.optimizers.recipe import Recipe


def adamw(settings: dict[str, Any], learning_rate: float) -> Recipe:
    from torch.optim import AdamW

    return Recipe(AdamW, settings, learning_rate)


def sgd_nesterov(settings: dict[str, Any], learning_rate: float) -> Recipe:
    from torch.optim import SGD

    return Recipe(SGD, {"momentum": 0.9} | settings, learning_rate, fixed={"nesterov": True})


def lion(settings: dict[str, Any], learning_rate: float) -> Recipe:
    from lion_pytorch import Lion

    return Recipe(Lion, settings, learning_rate)

"""Adafactor as transformers has it, with what sd-scripts decides around it."""

from __future__ import annotations

from typing import Any

from kohyakit.train.optimizers.recipe import Recipe


def adafactor(settings: dict[str, Any], learning_rate: float) -> Recipe:
    """With a relative step, the default, Adafactor finds its own rate: all learning rates are left aside.

    warmup_init switches the relative step on, as in sd-scripts.
    """
    from transformers.optimization import Adafactor

    if settings.get("warmup_init"):
        settings = {**settings, "relative_step": True}
    if settings["relative_step"]:
        return Recipe(Adafactor, settings, None, keep_group_rates=False, lr_scheduler=f"adafactor:{learning_rate}")
    return Recipe(Adafactor, settings, learning_rate)

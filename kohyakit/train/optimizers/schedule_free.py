"""Schedule-free optimizers: an average of the steps takes the place of a falling rate."""

from __future__ import annotations

from functools import partial
from typing import Any

from kohyakit.train.optimizers.recipe import Recipe


def _schedule_free(name: str, settings: dict[str, Any], learning_rate: float) -> Recipe:
    import schedulefree

    return Recipe(getattr(schedulefree, name), settings, learning_rate, schedule_free=True)


adamw = partial(_schedule_free, "AdamWScheduleFree")
radam = partial(_schedule_free, "RAdamScheduleFree")
sgd = partial(_schedule_free, "SGDScheduleFree")

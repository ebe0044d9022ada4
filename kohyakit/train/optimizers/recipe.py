"""What an optimizer's file hands over: the class, its settings, and what it changes about the run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to make one optimizer.

    settings: the person's, plus what sd-scripts adds; they are recorded in the file's metadata.
    fixed: further arguments that belong to the name and are not recorded.
    learning_rate: the default rate, None where the optimizer finds its own. keep_group_rates: off drops the
    separate rates of U-Net and text encoder. lr_scheduler: replaces the run's schedule.
    """

    kind: type
    settings: dict[str, Any]
    learning_rate: float | None
    fixed: dict[str, Any] = field(default_factory=dict)
    keep_group_rates: bool = True
    lr_scheduler: str | None = None

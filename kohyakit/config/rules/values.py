"""Values that the constructors of optimizers and schedules stop for, which would come after the model is loaded."""

from __future__ import annotations

import difflib
import re
from typing import Any

from kohyakit.config.rules.reading import Finding, optimizer, optimizer_args, rule, scheduler, scheduler_args
from kohyakit.config.train import TrainConfig
from kohyakit.registry.optimizers import OPTIMIZER_ARGUMENTS, optimizer_entry
from kohyakit.registry.schedules import NOT_FROM_TEXT, SCHEDULE_CLASSES, required

_NUMBER = r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?"
_STEP_RULES = re.compile(rf"(\s*{_NUMBER}\s*:\s*\d+\s*,)*\s*{_NUMBER}\s*")


@rule("error")
def optimizer_argument_refused(config: TrainConfig) -> Finding:
    name, given = optimizer(config), optimizer_args(config)
    if name == "adafactor":
        return None
    for key, value in given.items():
        allowed = _refused(name, key, value)
        if allowed:
            return (
                f"{config.optimizer.in_force} does not take {key}={value!r}",
                f"{key} must be {allowed}",
            )
    return None


def _refused(name: str, key: str, value: Any) -> str:
    """What a value must be, where it is not; one of another kind is told as that."""
    about, entry = OPTIMIZER_ARGUMENTS.get(key), optimizer_entry(name)
    if about is None or about.wrong_kind(value):
        return ""
    if entry is not None and entry.finds_rate:  # their packages look at no others, and at eps more closely
        if key == "eps" and value == 0:
            return "above 0, such as 1e-8"
        if key not in ("betas", "eps"):
            return ""
    return about.wanted if about.out_of_bounds(value) else ""


@rule("error")
def step_rules_unreadable(config: TrainConfig) -> Finding:
    rules = scheduler_args(config).get("step_rules")
    if scheduler(config) == "piecewise_constant" and rules is not None and not _STEP_RULES.fullmatch(str(rules)):
        return f"step_rules {str(rules)!r} cannot be read", (
            "write it like step_rules='1:500,0.1:800,0.01' (factor:until step, and the last factor)"
        )
    return None


@rule("error")
def scheduler_class_unknown(config: TrainConfig) -> Finding:
    name = config.optimizer.lr_scheduler_type
    if not name or "." in name or name in SCHEDULE_CLASSES:
        return None
    if name in NOT_FROM_TEXT:
        return f"lr_scheduler_type {name} needs more than settings in text can say", (
            f"choose one of {', '.join(SCHEDULE_CLASSES)}, or an lr_scheduler"
        )
    near = difflib.get_close_matches(name, SCHEDULE_CLASSES, n=1)
    return f"lr_scheduler_type is {name!r}, which torch.optim.lr_scheduler has not", (
        f"did you mean '{near[0]}'?" if near else f"choose one of {', '.join(SCHEDULE_CLASSES)}"
    )


@rule("error")
def schedule_argument_missing(config: TrainConfig) -> Finding:
    name, given = config.optimizer.lr_scheduler_type, scheduler_args(config)
    entry = SCHEDULE_CLASSES.get(name)
    if entry is None or entry.all_listed:  # those have a rule of their own
        return None
    missing = [key for key in required(entry) if key not in given]
    if name == "OneCycleLR" and "total_steps" not in given and not {"epochs", "steps_per_epoch"} <= set(given):
        missing.append("total_steps")
    if missing:
        return f"{name} does not go without {' and '.join(missing)}", f"add {missing[0]}=… to lr_scheduler_args"
    return None

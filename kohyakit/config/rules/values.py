"""Values that the constructors of optimizers and schedules stop for, which would come after the model is loaded."""

from __future__ import annotations

import difflib
import re
from typing import Any

from kohyakit.config.rules.reading import Finding, optimizer, optimizer_args, rule, scheduler, scheduler_args
from kohyakit.config.train import TrainConfig

# Classes of torch.optim.lr_scheduler that settings in text can make -> what they must be given.
_SCHEDULE_CLASSES: dict[str, tuple[str, ...]] = {
    "CosineAnnealingLR": (), "CosineAnnealingWarmRestarts": (),  # these two have a rule of their own
    "StepLR": ("step_size",), "MultiStepLR": ("milestones",), "ExponentialLR": ("gamma",), "ConstantLR": (),
    "LinearLR": (), "PolynomialLR": (), "CyclicLR": ("base_lr", "max_lr"), "OneCycleLR": ("max_lr",),
}  # fmt: skip
# Those that want what no text can say: functions, other schedules, or a loss at every step.
_NOT_FROM_TEXT = ("LambdaLR", "MultiplicativeLR", "SequentialLR", "ChainedScheduler", "ReduceLROnPlateau")
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
                f"{config.optimizer.optimizer_type or name} does not take {key}={value!r}",
                f"{key} must be {allowed}",
            )
    return None


def _refused(name: str, key: str, value: Any) -> str:
    """What a value must be, where it is not."""
    adaptive = name.startswith(("prodigy", "dadapt"))
    if key == "betas" and isinstance(value, tuple):
        inside = all(isinstance(beta, (int, float)) and 0 <= beta < 1 for beta in value)
        return "" if inside else "numbers from 0 to below 1, such as 0.9,0.99"
    if not isinstance(value, (int, float)):
        return ""
    if key == "eps" and (value < 0 or (adaptive and value == 0)):
        return "above 0, such as 1e-8"
    if key in ("weight_decay", "momentum") and value < 0 and not adaptive:
        return "0 or more"
    return ""


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
    if not name or "." in name or name in _SCHEDULE_CLASSES:
        return None
    if name in _NOT_FROM_TEXT:
        return f"lr_scheduler_type {name} needs more than settings in text can say", (
            f"choose one of {', '.join(_SCHEDULE_CLASSES)}, or an lr_scheduler"
        )
    near = difflib.get_close_matches(name, _SCHEDULE_CLASSES, n=1)
    return f"lr_scheduler_type is {name!r}, which torch.optim.lr_scheduler has not", (
        f"did you mean '{near[0]}'?" if near else f"choose one of {', '.join(_SCHEDULE_CLASSES)}"
    )


@rule("error")
def schedule_argument_missing(config: TrainConfig) -> Finding:
    name, given = config.optimizer.lr_scheduler_type, scheduler_args(config)
    missing = [key for key in _SCHEDULE_CLASSES.get(name, ()) if key not in given]
    if name == "OneCycleLR" and "total_steps" not in given and not {"epochs", "steps_per_epoch"} <= set(given):
        missing.append("total_steps")
    if missing:
        return f"{name} does not go without {' and '.join(missing)}", f"add {missing[0]}=… to lr_scheduler_args"
    return None

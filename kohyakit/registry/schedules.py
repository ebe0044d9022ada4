"""The learning rate schedules by sd-scripts' names: what each takes, and which options it looks at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from kohyakit.registry.arguments import NUMBER, TEXT, WHOLE, Argument
from kohyakit.registry.table import Entry, Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule(Entry):
    """arguments: what it takes from lr_scheduler_args, with what counts where it is not given; `...` must be given.

    reads: the options that it looks at beside the rate. refuses_warmup: any lr_warmup_steps stops it. all_listed: off
    for a class that takes others too.
    """

    arguments: Mapping[str, Any] = field(default_factory=dict)
    reads: tuple[str, ...] = ()
    refuses_warmup: bool = False
    all_listed: bool = True


_SHAPES = ("linear", "cosine", "1-sqrt")
SCHEDULE_ARGUMENTS: Mapping[str, Argument] = MappingProxyType(
    {
        "T_max": Argument(
            (WHOLE,), "CosineAnnealingLR: steps down to the lowest rate.", "The number of steps of the run.", gt=0
        ),
        "eta_min": Argument(
            (NUMBER,), "CosineAnnealingLR: the rate at which the fall ends.", "A tenth of the learning rate, or 0.",
            ge=0,
        ),
        "T_0": Argument(
            (WHOLE,), "CosineAnnealingWarmRestarts: steps until the first restart.", "A third of the run.", gt=0
        ),
        "T_mult": Argument(
            (WHOLE,), "CosineAnnealingWarmRestarts: how much longer each cycle is than the last.", "1 or 2.", gt=0
        ),
        "step_rules": Argument(
            (TEXT,), "piecewise_constant: factor:step pairs and a last factor.", "'1:500,0.1:800,0.01'.",
            example="'1:500,0.1:800,0.01'",
        ),
        "lr_end": Argument((NUMBER,), "polynomial: the rate at which the run ends.", "1e-7.", ge=0),
        "min_lr": Argument(
            (NUMBER,), "cosine_with_min_lr: lowest rate, in place of lr_scheduler_min_lr_ratio.",
            "A tenth of the rate.", ge=0,
        ),
        "warmup_type": Argument(
            (TEXT,), "warmup_stable_decay: shape of the climb: linear, cosine or 1-sqrt.", "'linear'.",
            choices=_SHAPES,
        ),
        "decay_type": Argument(
            (TEXT,), "warmup_stable_decay: shape of the fall: linear, cosine or 1-sqrt.", "'cosine'.",
            choices=_SHAPES,
        ),
        "last_epoch": Argument(
            (WHOLE,), "Step to go on from; a schedule that begins has none, and torch stops at any other than -1.",
            "Leave it out; it is refused. resume goes on with a training.",
        ),
        "num_training_steps": Argument(
            (WHOLE,), "warmup_stable_decay: length of the run, which is known without it.",
            "Leave it out; it is refused.",
        ),
        "num_cycles": Argument(
            (NUMBER,), "cosine: waves over the run; 0.5 falls once from the full rate to 0.", "0.5.", gt=0
        ),
    }
)  # fmt: skip

_WARMUP = "lr_warmup_steps"


def _schedule(
    name: str, text: str, *reads: str, arguments: Mapping[str, Any] | None = None, refuses_warmup: bool = False
) -> Schedule:
    target = f"kohyakit.train.optimizers.schedulers:{name}"
    return Schedule(target, text, arguments=arguments or {}, reads=reads, refuses_warmup=refuses_warmup)


_ALL = (
    _schedule("constant", "the same rate throughout; no warm-up", refuses_warmup=True),
    _schedule("constant_with_warmup", "climbs over lr_warmup_steps, then stays", _WARMUP),
    _schedule("linear", "falls in a straight line to 0", _WARMUP),
    _schedule("cosine", "falls slowly, quickly, slowly to 0", _WARMUP, arguments={"num_cycles": 0.5}),
    _schedule(
        "cosine_with_restarts", "lr_scheduler_num_cycles cosines in a row", _WARMUP, "lr_scheduler_num_cycles"
    ),
    _schedule(
        "polynomial", "falls by the power lr_scheduler_power to lr_end, 1e-7", _WARMUP, "lr_scheduler_power",
        arguments={"lr_end": 1e-7},
    ),
    _schedule(
        "inverse_sqrt", "falls with the root of the steps, from lr_scheduler_timescale on", _WARMUP,
        "lr_scheduler_timescale",
    ),
    _schedule(
        "cosine_with_min_lr", "a cosine that stops at lr_scheduler_min_lr_ratio", _WARMUP, "lr_scheduler_num_cycles",
        "lr_scheduler_min_lr_ratio", arguments={"min_lr": None},
    ),
    _schedule(
        "warmup_stable_decay", "climbs, stays, and falls over the last lr_decay_steps", _WARMUP, "lr_decay_steps",
        "lr_scheduler_num_cycles", "lr_scheduler_min_lr_ratio",
        arguments={"warmup_type": "linear", "decay_type": "cosine"},
    ),
    _schedule(
        "piecewise_constant", "steps down by lr_scheduler_args step_rules='1:500,0.1:800,0.01'",
        arguments={"step_rules": ...},
    ),
    _schedule(
        "adafactor", "reports the rate that Adafactor with a relative step chooses itself", refuses_warmup=True
    ),
)  # fmt: skip

SCHEDULERS: Table[Schedule] = Table(
    "learning rate scheduler", {entry.target.partition(":")[2]: entry for entry in _ALL}
)

_CLASSES: Mapping[str, Mapping[str, Any]] = {
    "CosineAnnealingLR": {"T_max": ..., "eta_min": 0.0},
    "CosineAnnealingWarmRestarts": {"T_0": ..., "T_mult": 1, "eta_min": 0.0},
    "StepLR": {"step_size": ...}, "MultiStepLR": {"milestones": ...}, "ExponentialLR": {"gamma": ...},
    "ConstantLR": {}, "LinearLR": {}, "PolynomialLR": {}, "CyclicLR": {"base_lr": ..., "max_lr": ...},
    "OneCycleLR": {"max_lr": ...},
}  # fmt: skip
# Classes of torch.optim.lr_scheduler that settings in text can make, for lr_scheduler_type, by their exact names.
SCHEDULE_CLASSES: Mapping[str, Schedule] = MappingProxyType(
    {
        name: Schedule(
            f"torch.optim.lr_scheduler:{name}", f"torch.optim.lr_scheduler.{name}", arguments=arguments,
            refuses_warmup=True, all_listed=name.startswith("CosineAnnealing"),
        )
        for name, arguments in _CLASSES.items()
    }
)  # fmt: skip

# Those that want what no text can say: functions, other schedules, or a loss at every step.
NOT_FROM_TEXT = ("LambdaLR", "MultiplicativeLR", "SequentialLR", "ChainedScheduler", "ReduceLROnPlateau")


def schedule_entry(name: str) -> Schedule | None:
    """What is known of a schedule by its name in lr_scheduler, or of a class named in lr_scheduler_type."""
    return SCHEDULERS[name] if name in tuple(SCHEDULERS) else SCHEDULE_CLASSES.get(name)


def required(entry: Schedule) -> tuple[str, ...]:
    """The arguments that must be given."""
    return tuple(name for name, usual in entry.arguments.items() if usual is ...)

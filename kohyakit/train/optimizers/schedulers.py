"""Learning rate schedules as pure functions: a factor on every group's learning rate for each step.

The curves are those of transformers and diffusers, which sd-scripts uses. Nothing here needs torch before a
scheduler is built, so that a curve can be drawn without it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kohyakit.config.arguments.key_values import parse_key_values
from kohyakit.config.rules.arguments import schedule_argument_problems
from kohyakit.config.sections.optimizer import OptimizerConfig
from kohyakit.errors import ConfigError, Problem
from kohyakit.registry import SCHEDULERS

if TYPE_CHECKING:
    from torch import Tensor

# Field of a Schedule -> the argument of lr_scheduler_args that sets it.
_ARGUMENTS = {
    "lr_end": "lr_end", "waves": "num_cycles", "warmup_type": "warmup_type", "decay_type": "decay_type",
    "step_rules": "step_rules",
}  # fmt: skip


def _usual(name: str, argument: str) -> Any:
    return SCHEDULERS[name].arguments[argument]


@dataclass(frozen=True, slots=True)
class Schedule:
    """The numbers that shape a curve; warmup, decay and total are optimizer steps.

    learning_rate: the optimizer's default rate, of which lr_end is a share. waves: of the plain cosine, over the run.
    warmup_type, decay_type: the shapes of warmup_stable_decay: linear, cosine or 1-sqrt.
    step_rules: piecewise_constant's "factor:until_step,…,last_factor".
    """

    total: int
    warmup: int = 0
    decay: int = 0
    num_cycles: int = 1
    power: float = 1.0
    timescale: int | None = None
    min_lr_ratio: float | None = None
    learning_rate: float = 1.0
    lr_end: float = _usual("polynomial", "lr_end")
    waves: float = _usual("cosine", "num_cycles")
    warmup_type: str = _usual("warmup_stable_decay", "warmup_type")
    decay_type: str = _usual("warmup_stable_decay", "decay_type")
    step_rules: str = ""

    @classmethod
    def of(cls, options: OptimizerConfig, total: int) -> Schedule:
        """From the options of a run of `total` steps; a float warm-up or decay is a share of them."""
        settings = parse_key_values(options.lr_scheduler_args, "lr_scheduler_args")
        ratio, least = options.lr_scheduler_min_lr_ratio, settings.get("min_lr")
        if ratio is None and least is not None and _is_rate(least) and options.learning_rate:
            ratio = least / options.learning_rate
        return cls(
            total=total,
            warmup=_steps(options.lr_warmup_steps, total),
            decay=_steps(options.lr_decay_steps, total),
            num_cycles=options.lr_scheduler_num_cycles,
            power=options.lr_scheduler_power,
            timescale=options.lr_scheduler_timescale,
            min_lr_ratio=ratio,
            learning_rate=options.learning_rate,
            **{field: settings[argument] for field, argument in _ARGUMENTS.items() if argument in settings},
        )


def _is_rate(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _steps(steps: int | float, total: int) -> int:
    return int(steps * total) if isinstance(steps, float) else steps


def constant(step: int, s: Schedule) -> float:
    return 1.0


def constant_with_warmup(step: int, s: Schedule) -> float:
    return step / max(1, s.warmup) if step < s.warmup else 1.0


def linear(step: int, s: Schedule) -> float:
    if step < s.warmup:
        return step / max(1, s.warmup)
    return max(0.0, (s.total - step) / max(1, s.total - s.warmup))


def cosine(step: int, s: Schedule) -> float:
    if step < s.warmup:
        return step / max(1, s.warmup)
    return max(0.0, _half_wave(2 * s.waves * _progress(step, s)))


def cosine_with_restarts(step: int, s: Schedule) -> float:
    if step < s.warmup:
        return step / max(1, s.warmup)
    progress = _progress(step, s)
    return max(0.0, _half_wave((s.num_cycles * progress) % 1.0)) if progress < 1 else 0.0


def polynomial(step: int, s: Schedule) -> float:
    if step < s.warmup:
        return step / max(1, s.warmup)
    if step > s.total:
        return s.lr_end / s.learning_rate
    remaining = 1 - (step - s.warmup) / max(1, s.total - s.warmup)
    return ((s.learning_rate - s.lr_end) * remaining**s.power + s.lr_end) / s.learning_rate


def inverse_sqrt(step: int, s: Schedule) -> float:
    if step < s.warmup:
        return step / max(1, s.warmup)
    timescale = s.timescale or s.warmup or 10_000
    return 1.0 / math.sqrt((step + timescale - s.warmup) / timescale)


def cosine_with_min_lr(step: int, s: Schedule) -> float:
    if step < s.warmup:
        return step / max(1, s.warmup)
    return max(0.0, _raised(_half_wave(s.num_cycles * _progress(step, s)), s.min_lr_ratio or 0.0))


def warmup_stable_decay(step: int, s: Schedule) -> float:
    floor = s.min_lr_ratio or 0.0
    stable_until = s.total - s.decay
    if step < s.warmup:
        return _raised(_CLIMBS[s.warmup_type](step / max(1, s.warmup)), floor)
    if step < stable_until:
        return 1.0
    if step < s.total:
        fallen = (step - stable_until) / max(1, s.decay)
        return max(0.0, _raised(_FALLS[s.decay_type](fallen, s.num_cycles), floor))
    return floor


def piecewise_constant(step: int, s: Schedule) -> float:
    rules, last = _rules(s.step_rules)
    return next((factor for until, factor in rules if step < until), last)


def _progress(step: int, s: Schedule) -> float:
    return (step - s.warmup) / max(1, s.total - s.warmup)


def _half_wave(turns: float) -> float:
    """1 at 0, 0 at 1, 1 again at 2: the falling half of a cosine."""
    return 0.5 * (1.0 + math.cos(math.pi * turns))


# How warmup_stable_decay climbs with its progress from 0 to 1, and how it falls; only a cosine has cycles.
_CLIMBS: dict[str, Callable[[float], float]] = {
    "linear": lambda done: done,
    "cosine": lambda done: 1 - _half_wave(done),
    "1-sqrt": lambda done: 1 - math.sqrt(1 - done),
}
_FALLS: dict[str, Callable[[float, int], float]] = {
    "linear": lambda done, cycles: 1 - done,
    "cosine": lambda done, cycles: _half_wave(cycles * done),
    "1-sqrt": lambda done, cycles: 1 - math.sqrt(done),
}


def _raised(factor: float, floor: float) -> float:
    return factor * (1 - floor) + floor


def _rules(text: str) -> tuple[list[tuple[int, float]], float]:
    """ "1:10,0.1:20,0.005" -> ([(10, 1.0), (20, 0.1)], 0.005). Raises ConfigError."""
    *rules, last = text.split(",")
    try:
        pairs = [(int(until), float(factor)) for factor, until in (rule.split(":") for rule in rules)]
        return sorted(pairs), float(last)
    except ValueError:
        cure = "write it like step_rules='1:500,0.1:800,0.01' (factor:until step, and the last factor)"
        raise ConfigError(Problem("lr_scheduler_args", f"step_rules '{text}' cannot be read", cure)) from None


def factor(name: str, shape: Schedule) -> Callable[[int], float]:
    """The curve of a schedule by name: step (from 0) -> factor. Raises ConfigError for what cannot work together."""
    name = SCHEDULERS.canonical(name)
    curve: Callable[[int, Schedule], float] = SCHEDULERS.load(name)
    problems = _problems(name, shape)
    if problems:
        raise ConfigError(problems)
    return lambda step: curve(step, shape)


def _problems(name: str, s: Schedule) -> list[Problem]:
    problems = []
    if SCHEDULERS[name].refuses_warmup and s.warmup:
        what = f"is {s.warmup}, but the schedule {name} has no warm-up"
        cure = "set lr_warmup_steps to 0" + (", or lr_scheduler to constant_with_warmup" if name == "constant" else "")
        problems.append(Problem("lr_warmup_steps", what, cure, "warmup_without_use"))
    if name == "cosine_with_min_lr" and s.min_lr_ratio is None:
        cure = "set lr_scheduler_min_lr_ratio, such as 0.1"
        problems.append(Problem("lr_scheduler", "cosine_with_min_lr needs to know its lowest rate", cure, "no_min_lr"))
    if name == "polynomial" and s.learning_rate <= s.lr_end:
        what = f"is {s.learning_rate:g}, but the polynomial schedule falls to {s.lr_end:g}"
        problems.append(Problem("learning_rate", what, "choose a larger learning_rate or another lr_scheduler"))
    if name == "warmup_stable_decay" and s.warmup + s.decay > s.total:
        what = f"{s.warmup} warm-up and {s.decay} decay steps do not fit into {s.total} steps"
        problems.append(Problem("lr_scheduler", what, "lower lr_warmup_steps or lr_decay_steps", "schedule_too_long"))
    if name == "piecewise_constant":
        try:
            _rules(s.step_rules)
        except ConfigError as error:
            problems += error.problems
    return problems


def build_scheduler(
    optimizer: Any,
    options: OptimizerConfig,
    max_train_steps: int,
    *,
    schedule_free: bool = False,
    allow_code: Collection[str] = (),
) -> Any:
    """The torch scheduler of a run; call `step()` once after each optimizer step.

    max_train_steps: optimizer steps of the run.
    schedule_free: the optimizer schedules itself, so the rate stays as it is. allow_code: names of classes outside
    the known packages that may be imported.
    Raises ConfigError for an unknown schedule or settings that do not go together.
    """
    from torch.optim.lr_scheduler import LambdaLR

    if schedule_free:
        return LambdaLR(optimizer, lambda step: 1.0)
    settings = parse_key_values(options.lr_scheduler_args, "lr_scheduler_args")
    name, _, initial = options.lr_scheduler.partition(":")
    name = options.lr_scheduler_type or SCHEDULERS.canonical(name)
    wrong = [p for p in schedule_argument_problems(name, settings) if p.severity == "error" and name != "adafactor"]
    if wrong:
        raise ConfigError(wrong)
    shape = Schedule.of(options, max_train_steps)
    if options.lr_scheduler_type:
        return _custom(optimizer, options.lr_scheduler_type, options, shape, allow_code)
    if name == "adafactor":
        return _adafactor(optimizer, shape, float(initial) if initial else options.learning_rate)
    return LambdaLR(optimizer, factor(name, shape))


def _adafactor(optimizer: Any, shape: Schedule, initial_lr: float) -> Any:
    """Adafactor with a relative step decides its rate itself; this only reports it."""
    from transformers.optimization import Adafactor, AdafactorSchedule

    if not isinstance(optimizer, Adafactor):
        what = f"adafactor goes with the optimizer Adafactor only, not with {type(optimizer).__name__}"
        raise ConfigError(Problem("lr_scheduler", what, "set optimizer_type Adafactor, or another lr_scheduler"))
    problems = _problems("adafactor", shape)
    if problems:
        raise ConfigError(problems)

    class ReportedRate(AdafactorSchedule):
        """The rate of each group as a number; a group that made no step yet, or not this time, keeps one too."""

        def get_lr(self) -> list[float | Tensor]:
            rates: list[float | Tensor] = []
            for group, before in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
                stepped = next((p for p in group["params"] if self.optimizer.state.get(p)), None)
                if stepped is None:
                    rates.append(before)
                else:
                    rates.append(float(optimizer._get_lr(group, optimizer.state.get(stepped))))
            return rates

    return ReportedRate(optimizer, initial_lr)


def adafactor(step: int, s: Schedule) -> float:
    """What is known before training: with a relative step only the optimizer knows its rate."""
    return 1.0


def _custom(optimizer: Any, dotted: str, options: OptimizerConfig, shape: Schedule, allow_code: Collection[str]) -> Any:
    """A scheduler class by name: of torch.optim.lr_scheduler, or package.module.Class."""
    from inspect import isclass

    from torch.optim.lr_scheduler import LRScheduler

    from kohyakit.train.own_code import load_class

    settings: Mapping[str, Any] = parse_key_values(options.lr_scheduler_args, "lr_scheduler_args")
    if shape.warmup:
        cure = "set lr_warmup_steps to 0"
        raise ConfigError(Problem("lr_warmup_steps", f"is not used by the scheduler class {dotted}", cure))
    try:
        kind = load_class("lr_scheduler_type", dotted, "torch.optim.lr_scheduler", allow_code)
    except ModuleNotFoundError:
        kind = None
    if not (isclass(kind) and issubclass(kind, LRScheduler) and kind is not LRScheduler):
        cure = "write a class of torch.optim.lr_scheduler, or leave it out and use lr_scheduler"
        raise ConfigError(Problem("lr_scheduler_type", f"there is no scheduler class '{dotted}'", cure))
    try:
        return kind(optimizer, **settings)
    except (TypeError, ValueError) as error:
        cure = f"see the arguments of {dotted}"
        raise ConfigError(Problem("lr_scheduler_args", f"do not fit {dotted} ({error})", cure)) from error

"""What sd-scripts stops for in how it learns: rates, schedule, optimizer."""

from __future__ import annotations

import difflib

from kohyakit.config.rules.reading import (
    Finding,
    is_schedule_free,
    network_args,
    optimizer,
    optimizer_args,
    rates,
    relative_step,
    rule,
    scheduler,
    scheduler_args,
    trains_lora,
    warms_up,
)
from kohyakit.config.train import TrainConfig
from kohyakit.registry import OPTIMIZERS, SCHEDULERS
from kohyakit.registry.optimizers import CLASSES, optimizer_entry
from kohyakit.registry.schedules import required, schedule_entry


@rule("error")
def warmup_not_allowed(config: TrainConfig) -> Finding:
    name = scheduler(config)
    if not warms_up(config) or not name:
        return None
    if config.optimizer.lr_scheduler_type:
        return f"lr_scheduler_type {name} takes no warm-up, but lr_warmup_steps is {_warmup(config)}", (
            "set lr_warmup_steps to 0"
        )
    if name == "constant":
        return f"the constant scheduler takes no warm-up, but lr_warmup_steps is {_warmup(config)}", (
            "set lr_scheduler to constant_with_warmup, or lr_warmup_steps to 0"
        )
    if name.startswith("adafactor"):
        return f"Adafactor with a relative step takes no warm-up, but lr_warmup_steps is {_warmup(config)}", (
            "set lr_warmup_steps to 0, or add relative_step=False to optimizer_args and choose another lr_scheduler"
        )
    return None


def _warmup(config: TrainConfig) -> str:
    steps = config.optimizer.lr_warmup_steps
    return f"{steps:g}" if isinstance(steps, float) else str(steps)


@rule("error")
def scheduler_unknown(config: TrainConfig) -> Finding:
    name = config.optimizer.lr_scheduler
    if is_schedule_free(config) or config.optimizer.lr_scheduler_type or relative_step(config):
        return None
    if name in tuple(SCHEDULERS) or (name.startswith("adafactor:") and _is_number(name.partition(":")[2])):
        return None
    near = difflib.get_close_matches(name, SCHEDULERS, n=1)
    return f"lr_scheduler is {name!r}, which sd-scripts cannot use", (
        f"did you mean '{near[0]}'?" if near else f"choose one of {', '.join(SCHEDULERS)}"
    )


def _is_number(text: str) -> bool:
    try:
        return float(text) >= 0
    except ValueError:
        return False


@rule("error")
def adafactor_scheduler_alone(config: TrainConfig) -> Finding:
    asked = config.optimizer
    if is_schedule_free(config) or asked.lr_scheduler_type or not asked.lr_scheduler.startswith("adafactor"):
        return None
    if optimizer(config) != "adafactor":
        return "lr_scheduler is adafactor, but the optimizer is not", "choose another lr_scheduler, such as cosine"
    if not relative_step(config) and ":" not in asked.lr_scheduler:
        return (
            "lr_scheduler is adafactor, but relative_step is off",
            "set lr_scheduler to constant_with_warmup or constant",
        )
    return None


@rule("error")
def min_lr_ratio_missing(config: TrainConfig) -> Finding:
    if (
        scheduler(config) == "cosine_with_min_lr"
        and config.optimizer.lr_scheduler_min_lr_ratio is None
        and "min_lr" not in scheduler_args(config)
    ):
        return "cosine_with_min_lr does not know where to stop", "set lr_scheduler_min_lr_ratio, for example 0.1"
    return None


@rule("error")
def lowest_rate_named_twice(config: TrainConfig) -> Finding:
    ratio, args = config.optimizer.lr_scheduler_min_lr_ratio, scheduler_args(config)
    if scheduler(config) == "cosine_with_min_lr" and ratio is not None and "min_lr" in args:
        return f"the lowest rate is given by lr_scheduler_min_lr_ratio {ratio:g} and by min_lr {args['min_lr']}", (
            "keep one of them"
        )
    return None


@rule("error")
def schedule_does_not_fall(config: TrainConfig) -> Finding:
    """A rate to end at that is not below the one to start from: transformers stops for it, or the rate would climb."""
    args, rate = scheduler_args(config), config.optimizer.learning_rate
    for schedule, name in (("polynomial", "lr_end"), ("cosine_with_min_lr", "min_lr")):
        end = args.get(name)
        if scheduler(config) == schedule and isinstance(end, (int, float)) and end >= rate:
            return f"{schedule} ends at {name} {end:g}, but learning_rate is {rate:g}", f"set {name} below it"
    return None


@rule("error")
def momentum_missing(config: TrainConfig) -> Finding:
    entry = optimizer_entry(optimizer(config))
    if entry and entry.fixed.get("nesterov") and optimizer_args(config).get("momentum") == 0:
        usual = f"leave it out, which is {entry.added['momentum']:g}"
        return f"{config.optimizer.optimizer_type} does not go without momentum", usual
    return None


def _missing(config: TrainConfig) -> str:
    """An argument that the schedule in force must have and that is not given."""
    entry, given = schedule_entry(scheduler(config)), scheduler_args(config)
    needs = required(entry) if entry and entry.all_listed else ()
    return next((name for name in needs if name not in given), "")


@rule("error")
def step_rules_missing(config: TrainConfig) -> Finding:
    if not config.optimizer.lr_scheduler_type and _missing(config) == "step_rules":
        return "piecewise_constant has no rules", "add step_rules='1:500,0.1:800,0.01' to lr_scheduler_args"
    return None


@rule("error")
def annealing_length_missing(config: TrainConfig) -> Finding:
    needs = _missing(config)
    if needs and config.optimizer.lr_scheduler_type:
        return f"{scheduler(config)} does not know its length", f"add {needs}=1000 (steps) to lr_scheduler_args"
    return None


@rule("error")
def optimizer_unknown(config: TrainConfig) -> Finding:
    name = config.optimizer.optimizer_type
    if not name or name in OPTIMIZERS or name in CLASSES or "." in name:
        return None
    known = (known for entry in OPTIMIZERS for known in (entry, *OPTIMIZERS[entry].aliases))
    names = {name.lower(): name for name in (*known, *CLASSES)}
    near = difflib.get_close_matches(name.lower(), names, n=1)
    return f"there is no optimizer '{name}'", (
        f"did you mean '{names[near[0]]}'?" if near else "take a named one, or write package.module.Class"
    )


@rule("error")
def optimizer_named_twice(config: TrainConfig) -> Finding:
    asked = config.optimizer
    named = [name for name in ("use_8bit_adam", "use_lion_optimizer", "optimizer_type") if config[name]]
    if len(named) > 1:
        return (
            f"the optimizer is named by {' and by '.join(named)}",
            f"keep optimizer_type {asked.optimizer_type}".rstrip(),
        )
    return None


@rule("error")
def one_rate_only(config: TrainConfig) -> Finding:
    name = optimizer(config)
    if name not in OPTIMIZERS or not OPTIMIZERS[name].finds_rate or not trains_lora(config):
        return None
    found = {part: rate for part, rate in rates(config).items() if rate != 0}
    args = network_args(config)
    ratios = [
        args.loraplus_lr_ratio,
        args.loraplus_unet_lr_ratio if "U-Net" in found else None,
        args.loraplus_text_encoder_lr_ratio if "text encoder" in found else None,
    ]
    if any(ratio not in (None, 1.0) for ratio in ratios):
        return (
            f"{config.optimizer.optimizer_type} cannot have LoRA+'s two learning rates",
            "take the loraplus ratios out",
        )
    if len(set(found.values())) > 1:
        listed = ", ".join(f"{part} {rate:g}" for part, rate in found.items())
        return f"{config.optimizer.optimizer_type} needs one learning rate for all parts, but there are {listed}", (
            "set unet_lr and text_encoder_lr to the same value, usually 1"
        )
    return None


@rule("error")
def fused_backward_pass_alone(config: TrainConfig) -> Finding:
    if config.optimizer.fused_backward_pass:
        if optimizer(config) != "adafactor":
            return "fused_backward_pass works only with Adafactor", "switch it off or set optimizer_type to Adafactor"
        if config.training.gradient_accumulation_steps > 1:
            return "fused_backward_pass does not go with gradient accumulation", "set gradient_accumulation_steps to 1"
    return None


@rule("error")
def nothing_to_train(config: TrainConfig) -> Finding:
    if not trains_lora(config):
        return None
    net = config.network
    if net.network_train_unet_only and net.network_train_text_encoder_only:
        return "network_train_unet_only and network_train_text_encoder_only are both on", "switch one of them off"
    found = rates(config)
    if found and not any(found.values()):
        return f"every learning rate in force is 0 ({', '.join(found)})", "set learning_rate, for example 1e-4"
    return None

"""What a rule is, and the few readings of a config that several rules share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from kohyakit.config.arguments.key_values import parse_key_values
from kohyakit.config.scripts import FAMILIES, LORA_SCRIPTS
from kohyakit.config.sections.network import NetworkArgs, parse_network_args
from kohyakit.config.train import TrainConfig
from kohyakit.errors import ConfigError, Problem
from kohyakit.registry import OPTIMIZERS, optimizers

Rule = Callable[[TrainConfig], Problem | None]
Finding = tuple[str, str] | None  # what is wrong, what to do


def rule(severity: str) -> Callable[[Callable[[TrainConfig], Finding]], Rule]:
    """A function config -> (what is wrong, what to do) or None becomes a Rule; its name is the finding's name."""

    def decorate(check: Callable[[TrainConfig], Finding]) -> Rule:
        @wraps(check)
        def found(config: TrainConfig) -> Problem | None:
            finding = check(config)
            return Problem("", finding[0], finding[1], name=check.__name__, severity=severity) if finding else None

        found.severity = severity  # type: ignore[attr-defined]
        return found

    return decorate


def family(config: TrainConfig) -> str:
    """sd, sdxl, flux, sd3, hunyuan_image, anima or lumina; empty for a script nobody knows."""
    return FAMILIES.get(config.launch.script, "")


def trains_lora(config: TrainConfig) -> bool:
    return config.launch.script in LORA_SCRIPTS


def optimizer(config: TrainConfig) -> str:
    """The optimizer in force, in lower case."""
    return config.optimizer.in_force.lower()


def optimizer_args(config: TrainConfig) -> Mapping[str, Any]:
    """The readable ones; what cannot be read is reported once, by check_rules."""
    return _readable(config.optimizer.optimizer_args)


def scheduler_args(config: TrainConfig) -> Mapping[str, Any]:
    return _readable(config.optimizer.lr_scheduler_args)


def _readable(texts: tuple[str, ...] | None) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for text in texts or ():
        try:
            values |= parse_key_values((text,))
        except ConfigError:
            continue
    return values


def network_args(config: TrainConfig) -> NetworkArgs:
    return parse_network_args(config.network.network_args)


def is_schedule_free(config: TrainConfig) -> bool:
    return optimizers.is_schedule_free(optimizer(config))


def relative_step(config: TrainConfig) -> bool:
    """Adafactor choosing its own rate: the default, and what warmup_init switches on again."""
    if optimizer(config) != "adafactor":
        return False
    args = {**OPTIMIZERS["Adafactor"].arguments, **optimizer_args(config)}
    return bool(args["relative_step"] or args["warmup_init"])


def scheduler(config: TrainConfig) -> str:
    """The scheduler in force: empty when the optimizer brings its own, the class's name for a custom one."""
    if is_schedule_free(config):
        return ""
    if config.optimizer.lr_scheduler_type:
        return config.optimizer.lr_scheduler_type
    return "adafactor" if relative_step(config) else config.optimizer.lr_scheduler


def warms_up(config: TrainConfig) -> bool:
    """Does the warm-up come to at least one step?"""
    warmup = config.optimizer.lr_warmup_steps
    if isinstance(warmup, float) and config.training.max_train_epochs is None:
        return abs(warmup * config.training.max_train_steps * config.launch.num_processes) >= 1
    return warmup != 0


def rates(config: TrainConfig) -> dict[str, float]:
    """Part of the LoRA -> its learning rate, for the parts that are trained."""
    net, opt = config.network, config.optimizer
    found: dict[str, float] = {}
    if not net.network_train_text_encoder_only:
        found["U-Net"] = opt.unet_rate
    if not net.network_train_unet_only and family(config) != "hunyuan_image":
        found["text encoder"] = opt.text_rate
    return found


def resolution(config: TrainConfig) -> tuple[int, int] | None:
    """(width, height) in pixels as sd-scripts reads the text, None when it is not given. Raises ValueError."""
    text = config.dataset.resolution
    if text is None:
        return None
    sides = [int(part) for part in text.split(",")]
    if len(sides) == 1:
        sides *= 2
    if len(sides) != 2 or min(sides) < 1:
        raise ValueError(text)
    return sides[0], sides[1]


def own_folders(config: TrainConfig) -> bool:
    """Does the data set come from these options rather than from a dataset TOML, which may say otherwise?"""
    return config.dataset.dataset_config is None and config.dataset.dataset_class is None

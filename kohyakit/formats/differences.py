"""What differs between two configs, with what sd-scripts would take filled in on both sides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kohyakit.config.scripts import NO_SCRIPT_READS, default_in, reads
from kohyakit.config.train import SPECS, TrainConfig

# lists of name=value: compared argument by argument
_ARGUMENTS = ("network_args", "optimizer_args", "lr_scheduler_args")


@dataclass(frozen=True, slots=True)
class Difference:
    """A parameter in force with different values. ratio: right over left for two numbers of one sign, else None."""

    section: str
    name: str
    left: Any
    right: Any

    @property
    def ratio(self) -> float | None:
        numbers = [
            value
            for value in (self.left, self.right)
            if isinstance(value, (int, float)) and not isinstance(value, bool)
        ]
        return self.right / self.left if len(numbers) == 2 and self.left * self.right > 0 else None


def differences(left: TrainConfig, right: TrainConfig) -> list[Difference]:
    """What is in force on one side otherwise than on the other, in the order of the parameters' sections."""
    mine, theirs = in_force(left), in_force(right)
    found = []
    order = list(dict.fromkeys(section for section, _ in mine | theirs))
    for section, name in sorted(mine | theirs, key=lambda place: order.index(place[0])):
        one, other = mine.get((section, name)), theirs.get((section, name))
        if one != other:
            found.append(Difference(section, name, one, other))
    return found


def in_force(config: TrainConfig) -> dict[tuple[str, str], Any]:
    """(section, name) -> the value that a training takes: own defaults, the script's, rates that fall back."""
    values = dict(_values(config))
    main = config["learning_rate"]
    if reads(config.launch.script, "unet_lr"):
        if values["optimizer", "unet_lr"] is None and not config["network_train_text_encoder_only"]:
            values["optimizer", "unet_lr"] = main
        if values["optimizer", "text_encoder_lr"] is None and not config["network_train_unet_only"]:
            values["optimizer", "text_encoder_lr"] = (main,)
    rates = values["optimizer", "text_encoder_lr"]
    if rates and len(set(rates)) == 1:
        values["optimizer", "text_encoder_lr"] = rates[0]
    values["optimizer", "optimizer_type"] = config.optimizer.in_force
    if not config["torch_compile"]:
        values["training", "dynamo_backend"] = None
    if config["max_train_epochs"]:
        values["training", "max_train_steps"] = None
    return values


def _values(config: TrainConfig) -> Iterator[tuple[tuple[str, str], Any]]:
    for name, spec in SPECS().items():
        value = config[name]
        if name in _ARGUMENTS:
            yield from (((spec.section, f"{name}.{key}"), item) for key, item in _arguments(value or ()).items())
        elif value is None:
            yield (spec.section, name), default_in(config.launch.script, name, spec.default)
        else:
            yield (spec.section, name), "***" if spec.about.secret else value
    yield from ((("unknown", name), value) for name, value in config.extras.items() if name not in NO_SCRIPT_READS)


def _arguments(items: tuple[str, ...]) -> Mapping[str, Any]:
    found: dict[str, Any] = {}
    for item in items:
        name, _, text = item.partition("=")
        try:
            found[name] = int(text)
        except ValueError:
            try:
                found[name] = float(text)
            except ValueError:
                found[name] = text
    return found

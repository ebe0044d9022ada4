"""Findings that come one a key or one a text: `network_args`, `optimizer_args`, keys that a script does not read."""

from __future__ import annotations

from collections.abc import Iterator

from kohyakit.config.key_values import parse_key_values
from kohyakit.config.network import MODULE_ARGS, NETWORK_ARG_SPECS
from kohyakit.config.rules.reading import network_args, trains_lora
from kohyakit.config.scripts import ONLY_IN, choices_in, default_in, reads
from kohyakit.config.train import SPECS, TrainConfig
from kohyakit.errors import ConfigError, Problem


def argument_problems(config: TrainConfig) -> Iterator[Problem]:
    """Every text of optimizer_args and lr_scheduler_args, and every one of network_args, that cannot be used."""
    for name in ("optimizer_args", "lr_scheduler_args"):
        try:
            parse_key_values(config[name], name)
        except ConfigError as error:
            yield from error.problems
    if not trains_lora(config):
        return
    args, module = network_args(config), config.network.network_module or "networks.lora"
    if module in MODULE_ARGS:
        yield from args.problems
        for name in NETWORK_ARG_SPECS():
            if getattr(args, name) is not None and name not in MODULE_ARGS[module]:
                takers = ", ".join(other for other, names in MODULE_ARGS.items() if name in names)
                yield Problem(
                    "network_args",
                    f"{module} does not take {name}",
                    f"take it out; it belongs to {takers}",
                    "network_arg_ignored",
                    "warning",
                )


def keys_not_read(config: TrainConfig) -> Iterator[Problem]:
    """Parameters that are set and that the chosen script does not read, or whose value it does not take."""
    script = config.launch.script
    for name, spec in SPECS().items():
        if spec.about.own or config[name] in (spec.default, None):
            continue
        if not reads(script, name):
            readers = sorted(ONLY_IN[name])
            listed = ", ".join(readers[:3]) + (" and others" if len(readers) > 3 else "")
            yield Problem(
                "",
                f"{script} does not read {name}, so it has no effect",
                f"take it out; {listed} read(s) it",
                "key_not_read",
                "warning",
            )
        choices = choices_in(script, name, spec.about.choices)
        if choices and config[name] not in choices and config[name] != default_in(script, name, spec.default):
            yield Problem(
                "",
                f"{script} does not take {name} {config[name]!r}",
                f"choose one of {', '.join(map(str, choices))}",
                "choice_of_another_script",
                "error",
            )

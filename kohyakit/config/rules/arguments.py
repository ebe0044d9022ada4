"""Findings that come one a key or one a text: `network_args`, `optimizer_args`, keys that a script does not read."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Container, Iterator, Mapping
from typing import Any

from kohyakit.config.arguments.key_values import parse_key_values
from kohyakit.config.meant import meant_choice
from kohyakit.config.rules.reading import (
    network_args,
    optimizer_args,
    scheduler,
    scheduler_args,
    trains_lora,
)
from kohyakit.config.scripts import ONLY_IN, READ_HERE, choices_in, default_in, reads
from kohyakit.config.sections.network import MODULE_ARGS, NETWORK_ARG_SPECS
from kohyakit.config.train import SPECS, TrainConfig
from kohyakit.errors import ConfigError, Problem
from kohyakit.registry import OPTIMIZERS, SCHEDULERS
from kohyakit.registry.arguments import NUMBER, NUMBERS, Argument
from kohyakit.registry.optimizers import OPTIMIZER_ARGUMENTS
from kohyakit.registry.schedules import SCHEDULE_ARGUMENTS, schedule_entry


def argument_problems(config: TrainConfig) -> Iterator[Problem]:
    """Every text of optimizer_args and lr_scheduler_args, and every one of network_args, that cannot be used."""
    for name in ("optimizer_args", "lr_scheduler_args"):
        try:
            parse_key_values(config[name], name)
        except ConfigError as error:
            yield from error.problems
    yield from _wrong_kinds("optimizer_args", OPTIMIZER_ARGUMENTS, optimizer_args(config))
    kind = config.optimizer.in_force
    taken = OPTIMIZERS[kind].arguments if kind in OPTIMIZERS else None
    yield from _foreign("optimizer_args", kind, optimizer_args(config), taken, OPTIMIZER_ARGUMENTS)
    name = scheduler(config)
    if name != "adafactor":  # which looks at none of them: a rule of its own
        yield from schedule_argument_problems(name, scheduler_args(config))
    if not trains_lora(config):
        return
    args, module = network_args(config), config.network.module
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


def schedule_argument_problems(name: str, given: Mapping[str, Any]) -> Iterator[Problem]:
    """What a schedule cannot use of its lr_scheduler_args; name as in the registry, or a class of torch's."""
    entry = schedule_entry(name)
    taken = entry.arguments if entry and entry.all_listed else None
    refused = given if name in SCHEDULERS else SCHEDULE_ARGUMENTS
    yield from _foreign("lr_scheduler_args", name, given, taken, refused)
    yield from _wrong_kinds("lr_scheduler_args", SCHEDULE_ARGUMENTS, given)
    for key, value in given.items():
        about = SCHEDULE_ARGUMENTS.get(key) if key in (taken or ()) else None
        if about and not about.wrong_kind(value) and about.out_of_bounds(value):
            yield Problem("lr_scheduler_args", f"{key} is {value!r}", f"write {about.wanted}", "bad_schedule_argument")


_ANY = Argument((NUMBER,), "", "")  # of one that nobody explains: refused is only the slip of a comma


def _wrong_kinds(where: str, known: Mapping[str, Argument], given: Mapping[str, Any]) -> Iterator[Problem]:
    """Values of another kind than their argument takes: a comma behind a number makes a list of it."""
    for name, value in given.items():
        about, single = known.get(name, _ANY), isinstance(value, tuple) and len(value) == 1
        wanted = about.wrong_kind(value) if name in known or single else ""
        if not wanted:
            continue
        comma = single and wanted != NUMBERS
        cure = f"take the comma out: {name}={value[0]!r}" if comma else f"write it like {name}={about.like}"
        what = f"{name} is {value!r}"[:200] + f", but {wanted} was wanted"
        yield Problem(where, what, cure, "argument_kind")


def _foreign(
    where: str, shown: str, given: Mapping[str, Any], taken: Collection[str] | None, refused: Container[str]
) -> Iterator[Problem]:
    """Arguments that the named class does not take, whose constructor stops the training for any of them.

    refused: names that are an error where they are not taken; another one may be new in a release to come.
    """
    if taken is None:
        return
    for key in given:
        if key in taken:
            continue
        near = difflib.get_close_matches(key, taken, n=1, cutoff=0.75)
        takes = f"{shown} takes {', '.join(sorted(taken)) or 'none'}"
        cure = f"did you mean '{near[0]}'?" if near else f"take it out; {takes}"
        severity = "error" if key in refused or near else "warning"
        yield Problem(where, f"{shown} does not take {key}", cure, "foreign_argument", severity)


def keys_not_read(config: TrainConfig, *, here: bool = False) -> Iterator[Problem]:
    """Parameters that are set and that the chosen script does not read, or whose value it does not take.

    here: the built-in trainer is the one that reads them.
    """
    script = config.launch.script
    for name, spec in SPECS().items():
        if spec.about.own or config[name] in (spec.default, None):
            continue
        if not (reads(script, name) or (here and name in READ_HERE)):
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
                _choice(config[name], choices),
                "choice_of_another_script",
                "error",
            )


def _choice(value: Any, choices: tuple[Any, ...]) -> str:
    near = meant_choice(value, choices)
    return f"did you mean {near}?" if near else f"choose one of {', '.join(map(str, choices))}"

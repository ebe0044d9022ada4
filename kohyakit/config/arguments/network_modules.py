"""Which of the arguments each network module takes, and reading `network_args`."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from kohyakit.config.arguments.network_args import NetworkArgs
from kohyakit.config.param import Spec, specs
from kohyakit.config.values import Unreadable, coerce
from kohyakit.errors import Problem
from kohyakit.registry.networks import NETWORKS

MODULE_ARGS: Mapping[str, frozenset[str]] = MappingProxyType(
    {module: frozenset(entry.arguments) for module, entry in NETWORKS.items()}
)
SEVERAL_TEXT_RATES = frozenset(module for module, entry in NETWORKS.items() if entry.several_rates)


def NETWORK_ARG_SPECS() -> dict[str, Spec]:
    """Every known network argument by name."""
    return specs(NetworkArgs)


def parse_network_args(args: Iterable[str] | None, where: str = "network_args") -> NetworkArgs:
    """("conv_dim=8", "rank_dropout=0.1") -> NetworkArgs(conv_dim=8, rank_dropout=0.1).

    As sd-scripts: split at the first equals sign, a later one replaces an earlier one. Never raises: what cannot
    be read and what no network takes stand in `problems`.
    """
    good: dict[str, Any] = {}
    extras: dict[str, str] = {}
    problems: list[Problem] = []
    for text in args or ():
        name, equals, value = text.partition("=")
        spec = NETWORK_ARG_SPECS().get(name)
        if not equals:
            what = f"{text!r} is not name=value"
            problems.append(Problem(where, what, "write it like conv_dim=8", "bad_network_arg"))
        elif spec is None:
            extras[name] = value
            problems.append(_unknown(name, where))
        elif value.strip() in ("", "None"):
            good.pop(name, None)
        else:
            try:
                good[name] = coerce(spec, value)
            except Unreadable as wanted:
                problems.append(Problem(where, f"{name} is {value!r}, but {wanted}", name="bad_network_arg"))
    return NetworkArgs(**good, extras=MappingProxyType(extras), problems=tuple(problems))


def _unknown(name: str, where: str) -> Problem:
    near = difflib.get_close_matches(name, NETWORK_ARG_SPECS(), n=1, cutoff=0.75)
    cure = f"did you mean '{near[0]}'?" if near else "take it out unless your network module takes it"
    severity = "error" if near else "warning"
    return Problem(where, f"no network is known to take '{name}'", cure, "unknown_network_arg", severity)

"""Settings whose value is the name of code, such as `optimizer_type`, and which of those names are known.

Known are the modules that the registry's optimizers and schedules come from, the network modules of sd-scripts and
LyCORIS, and two packages of optimizers that the GUI offers. A class from anywhere else is somebody's own code: it is
imported only when the person names it in this call (`--allow-code`), never because a file says so.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from types import MappingProxyType

from kohyakit.config.sections.network import MODULE_ARGS
from kohyakit.errors import ConfigError, Problem
from kohyakit.registry.optimizers import PACKAGES

NAMES_CODE = ("optimizer_type", "lr_scheduler_type", "network_module", "dataset_class")

# module -> the package for pip that brings it
_OPTIMIZERS: Mapping[str, str] = MappingProxyType({module: package for module, (package, _) in PACKAGES.items()})
_SCHEDULERS: Mapping[str, str] = MappingProxyType(
    {"torch": "torch", "transformers.optimization": "transformers", "diffusers.optimization": "diffusers"}
)
_MODULES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {"optimizer_type": _OPTIMIZERS, "lr_scheduler_type": _SCHEDULERS}
)
_NETWORK = re.compile(r"networks\.\w+", re.ASCII)  # a file of the sd-scripts checkout that the person named
_DOTTED = re.compile(r"\w+(\.\w+)*")


def package_of(setting: str, name: str) -> str | None:
    """The package that brings the module of a dotted name; None for a module that is not known."""
    module = name.rpartition(".")[0]
    if not _DOTTED.fullmatch(name):
        return None
    known = _MODULES.get(setting, {})
    return next((package for start, package in known.items() if f"{module}.".startswith(f"{start}.")), None)


def is_known(setting: str, name: str) -> bool:
    """Whether the name can mean nothing but code that comes with kohyakit's trainers."""
    if setting == "network_module":
        return name in MODULE_ARGS or bool(_NETWORK.fullmatch(name))
    if setting == "dataset_class":
        return False
    return "." not in name or package_of(setting, name) is not None


def not_named(setting: str, name: str, allowed: Collection[str]) -> Problem | None:
    """The finding for a name that is neither known nor named in this call; None where the code may be imported."""
    if not name or is_known(setting, name) or name in allowed:
        return None
    what = f"{name[:120]!r} is code of somebody's own; it was neither imported nor run"
    cure = f"if you trust it, name it in this call: --allow-code {name[:120]}; else take it out"
    return Problem(setting, what, cure, "code_not_named")


def must_be_named(setting: str, name: str, allowed: Collection[str]) -> None:
    """Raises ConfigError where `not_named` finds something."""
    problem = not_named(setting, name, allowed)
    if problem is not None:
        raise ConfigError(problem)

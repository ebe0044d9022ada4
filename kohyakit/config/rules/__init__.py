"""Cross-field rules: what sd-scripts refuses (errors) and the traps it walks into without a word (warnings, hints).

A rule is a named function TrainConfig -> Problem | None without input or output; the finding carries its name.
"""

from __future__ import annotations

from dataclasses import replace
from operator import attrgetter
from types import ModuleType

from kohyakit.config.rules import inputs, learning, methods, traps, values
from kohyakit.config.rules.arguments import argument_problems, keys_not_read
from kohyakit.config.rules.code import named_code
from kohyakit.config.rules.file_names import names_not_paths
from kohyakit.config.rules.reading import Rule
from kohyakit.config.train import TrainConfig
from kohyakit.errors import Problem

__all__ = ["RULES", "check_rules"]


def _rules_of(*modules: ModuleType) -> dict[str, Rule]:
    return {
        name: found
        for module in modules
        for name, found in vars(module).items()
        if getattr(found, "severity", None) and found.__module__ == module.__name__
    }


RULES: dict[str, Rule] = _rules_of(inputs, learning, methods, traps, values)


def check_rules(config: TrainConfig, *, here: bool = False) -> tuple[Problem, ...]:
    """Every rule's finding, errors first. `where` is the config's file name, or empty for values given in Python.

    here: the built-in trainer trains it, which reads more than sd-scripts' program of the family.
    """
    found = [problem for rule in RULES.values() if (problem := rule(config)) is not None]
    found += named_code(config)
    found += names_not_paths(config)
    found += argument_problems(config)
    found += keys_not_read(config, here=here)
    file = config.source.path.name if config.source is not None and config.source.path is not None else ""
    placed = [replace(p, where=": ".join(part for part in (file, p.where) if part)) for p in found]
    return tuple(sorted(placed, key=attrgetter("rank")))

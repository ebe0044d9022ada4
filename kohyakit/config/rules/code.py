"""What a file asks to have imported: said in every check, and refused unless this call names it."""

from __future__ import annotations

from collections.abc import Iterator

from kohyakit.config.arguments.named_code import NAMES_CODE, is_known, not_named
from kohyakit.config.train import TrainConfig
from kohyakit.errors import Problem


def named_code(config: TrainConfig) -> Iterator[Problem]:
    """An error for each name that nobody allowed; a hint for each that will run because it was."""
    for setting in NAMES_CODE:
        name = config[setting]
        problem = not_named(setting, name, config.allowed_code) if name else None
        if problem is not None:
            yield problem
        elif name and not is_known(setting, name):
            what = f"{name!r} is code of your own, which the training imports and runs; this check did not"
            yield Problem(setting, what, "", "own_code", "hint")

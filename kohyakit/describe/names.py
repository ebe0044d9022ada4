"""The page docs/names.md: what may be written for a model family, an optimizer, a schedule, a check."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kohyakit.registry import CAPTIONERS, CHECKS, OPTIMIZERS, SCHEDULERS, Entry, Table
from kohyakit.registry.families import MODELS
from kohyakit.registry.networks import ALGORITHMS, NETWORKS, NetworkEntry

TABLES: tuple[tuple[str, Table[Any]], ...] = (
    ("Model families, as `kohyakit train` loads them in process", MODELS),
    ("Networks that train in process: `network_module`", NETWORKS),
    ("Algorithms of `lycoris.kohya`: `algo` in `network_args`", ALGORITHMS),
    ("Optimizers: `optimizer_type`", OPTIMIZERS),
    ("Learning rate schedules: `lr_scheduler`", SCHEDULERS),
    ("Checks of `kohyakit audit`: `--check`", CHECKS),
    ("Captioners: `kohyakit caption --with`", CAPTIONERS),
)


def _takes(entry: Entry) -> str:
    """Its arguments with what counts where they are not given; those that must be given stand alone."""
    if isinstance(entry, NetworkEntry):
        return ", ".join(entry.here)
    if not isinstance(entry.arguments, Mapping):
        return ", ".join(entry.arguments)
    return "; ".join(f"{name}{_usual(value)}" for name, value in entry.arguments.items())


def _usual(value: Any) -> str:
    if value is ...:
        return ""
    return f" {','.join(map(str, value))}" if isinstance(value, tuple) else f" {value}"


def names_markdown() -> str:
    """The whole page, a table for each registry."""
    parts = [
        "# Names",
        "Made from the registries by `python -m kohyakit.describe.names`. Case does not matter. "
        "What an optimizer or a schedule takes stands with what counts where it is not given.",
    ]
    for title, table in TABLES:
        argued = any(entry.arguments for entry in table.values())
        heads = ["name", "is", "also called", "needs", *(["takes"] if argued else [])]
        rows = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
        for name in table:
            entry = table[name]
            if not entry.target:  # known by name, and trained by sd-scripts only
                continue
            also = ", ".join(f"`{alias}`" for alias in entry.aliases)
            cells = [f"`{name}`", entry.help, also, entry.package, *([_takes(entry)] if argued else [])]
            rows.append(f"| {' | '.join(cells)} |")
        parts += [f"## {title}", "\n".join(rows)]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    Path("docs/names.md").write_text(names_markdown(), encoding="utf-8", newline="\n")

"""The page docs/names.md: what may be written for a model family, an optimizer, a schedule, a check."""

from __future__ import annotations

from pathlib import Path

from kohyakit.registry import ALGORITHMS, CAPTIONERS, CHECKS, MODELS, NETWORKS, OPTIMIZERS, SCHEDULERS, Table

TABLES: tuple[tuple[str, Table], ...] = (
    ("Model families, as `kohyakit train` loads them in process", MODELS),
    ("Networks that train in process: `network_module`", NETWORKS),
    ("Algorithms of `lycoris.kohya`: `algo` in `network_args`", ALGORITHMS),
    ("Optimizers: `optimizer_type`", OPTIMIZERS),
    ("Learning rate schedules: `lr_scheduler`", SCHEDULERS),
    ("Checks of `kohyakit audit`: `--check`", CHECKS),
    ("Captioners: `kohyakit caption --with`", CAPTIONERS),
)


def names_markdown() -> str:
    """The whole page, a table for each registry."""
    parts = ["# Names", "Made from the registries by `python -m kohyakit.describe.names`. Case does not matter."]
    for title, table in TABLES:
        rows = ["| name | is | also called | needs |", "|---|---|---|---|"]
        for name in table:
            entry = table[name]
            also = ", ".join(f"`{alias}`" for alias in entry.aliases)
            rows.append(f"| `{name}` | {entry.help} | {also} | {entry.package} |")
        parts += [f"## {title}", "\n".join(rows)]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    Path("docs/names.md").write_text(names_markdown(), encoding="utf-8", newline="\n")

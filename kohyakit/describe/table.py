"""The parameter table of the docs, docs/parameters.md, made from the parameters themselves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields as dataclass_fields
from typing import Any, get_type_hints

from kohyakit.config.param import Spec
from kohyakit.config.scripts import ONLY_IN
from kohyakit.config.sections.network import MODULE_ARGS, NETWORK_ARG_SPECS
from kohyakit.config.train import SPECS, TrainConfig
from kohyakit.formats.gui.fields import fields

_HEAD = """# Parameters

Made by `kohyakit explain --markdown` from the parameters themselves; a test keeps it current. The names are
sd-scripts' own option names, on the command line (`--set network_dim=32`), in a TOML and in Python
(`config.network.network_dim`). `kohyakit explain NAME [CONFIG]` says the same of one of them, and which value is
in force. "–" is not given. The GUI's default is that of its LoRA tab.
"""


def parameters_markdown() -> str:
    """The whole page, section by section, ending with the arguments inside network_args."""
    hints = get_type_hints(TrainConfig)
    sections = [f.name for f in dataclass_fields(TrainConfig) if f.name not in ("extras", "source", "allowed_code")]
    parts = [_HEAD]
    for section in sections:
        title = (hints[section].__doc__ or section).splitlines()[0]
        specs = [spec for spec in SPECS().values() if spec.section == section]
        parts.append("\n".join([f"## {section}: {title}\n", *_rows(specs)]))
    parts.append(
        "\n".join(
            [
                "## network_args\n",
                'Written as `network_args = ["conv_dim=8", "conv_alpha=4"]`.\n',
                "| name | network modules | what it does | what to try |",
                "|---|---|---|---|",
                *(_network_row(spec) for spec in NETWORK_ARG_SPECS().values()),
            ]
        )
    )
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _rows(specs: list[Spec]) -> Iterator[str]:
    yield "| name | default | GUI | what it does | bounds | what to try |"
    yield "|---|---|---|---|---|---|"
    for spec in specs:
        gui = next((fields("lora")[key] for key in (spec.name, *spec.about.gui) if key in fields("lora")), None)
        limits = spec.about.bounds or ", ".join(str(choice) for choice in spec.about.choices)
        readers = ONLY_IN.get(spec.name)
        only = f" Only: {', '.join(sorted(readers))}." if readers and len(readers) <= 4 else ""
        yield _row(
            f"`{spec.name}`", _shown(spec.default), "–" if gui is None else _shown(gui.default),
            spec.about.help + only, limits, spec.about.tip,
        )  # fmt: skip


def _network_row(spec: Spec) -> str:
    modules = ", ".join(module for module, names in MODULE_ARGS.items() if spec.name in names)
    return _row(f"`{spec.name}`", modules, spec.about.help, spec.about.tip)


def _shown(value: Any) -> str:
    if value in (None, "", ()):
        return "–"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("<", "&lt;") for cell in cells) + " |"

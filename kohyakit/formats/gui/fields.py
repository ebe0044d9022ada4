"""The fields of the kohya_ss GUI's forms, as data: names, kinds, defaults, bounds and choices, tab by tab."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

TABS = ("lora", "dreambooth", "finetune", "ti")

# Keys that say which tab a preset was saved from, old names included.
_TELLING = {
    "lora": ("LoRA_type", "network_dim", "network_alpha", "unet_lr", "text_encoder_lr", "conv_dim", "LyCORIS_preset"),
    "ti": ("token_string", "num_vectors_per_token", "init_word", "weights", "template"),
    "finetune": (
        "image_folder",
        "train_dir",
        "caption_metadata_filename",
        "full_path",
        "create_caption",
        "use_latent_files",
        "generate_caption_database",
    ),
    "dreambooth": ("learning_rate_te", "learning_rate_te1", "learning_rate_te2"),
}


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a form. kind: text, number, slider, check or list. choices: None where anything may be typed.

    key is the name in a preset; saved_as the one a training run's own JSON uses where that differs.
    """

    key: str
    kind: str
    default: Any
    choices: tuple[Any, ...] | None = None
    minimum: float | None = None
    maximum: float | None = None
    precision: int | None = None
    saved_as: str = ""

    def saved(self, value: Any) -> Any:
        """A value as the GUI would save it, where a command line gives text for a number or a check box."""
        if not isinstance(value, str):
            return value
        if self.kind == "check":
            return {"true": True, "false": False}.get(value.strip().lower(), value)
        number = self.kind in ("number", "slider") and re.fullmatch(
            r"[+-]?\d+(\.\d*)?(e[+-]?\d+)?", value.strip(), re.A | re.I
        )
        if not number or len(value) > 20:
            return value
        return float(value) if number.group(1) or number.group(2) else int(value)


@cache
def _data() -> dict[str, Any]:
    return json.loads((Path(__file__).parent / "data" / "gui_fields.json").read_text(encoding="utf-8"))


@cache
def fields(tab: str) -> Mapping[str, Field]:
    """The tab's fields by preset key, in the order of the form."""
    data = _data()
    differs = data["differs"].get(tab, {})
    found = {}
    for key in data["tabs"][tab]:
        facts = differs.get(key) or data["fields"][key]
        choices = tuple(facts["choices"]) if "choices" in facts else None
        saved = data["saved_as"].get(key, "") if tab in ("finetune", "ti") else ""
        found[key] = Field(
            key,
            facts["kind"],
            facts["default"],
            choices,
            facts.get("minimum"),
            facts.get("maximum"),
            facts.get("precision"),
            saved,
        )
    return MappingProxyType(found)


@cache
def known_keys() -> frozenset[str]:
    """Every key of every tab."""
    return frozenset(key for tab in TABS for key in fields(tab))


def guess_tab(preset: Mapping[str, Any]) -> tuple[str, bool]:
    """The tab that a preset belongs to, and whether that is plain from its keys."""
    votes = {tab: sum(key in preset for key in keys) for tab, keys in _TELLING.items()}
    if votes["lora"]:
        return "lora", not (votes["ti"] or votes["finetune"])
    best = max(votes, key=lambda tab: votes[tab])
    return (best, True) if votes[best] else ("lora", False)


def looks_like_preset(values: Mapping[str, Any]) -> bool:
    """Does a JSON object look like a GUI preset at all?"""
    return "datasets" not in values and ("kohyakit" in values or sum(key in known_keys() for key in values) >= 1)

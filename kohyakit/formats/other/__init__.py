"""Settings of other trainers and files that are no training's settings at all: recognised by content, named, carried
over as far as sd-scripts' names hold what they say. See docs/presets.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kohyakit.formats.other import ai_toolkit, easy_scripts, lora_scripts, musubi, onetrainer
from kohyakit.formats.other.carrying import Reading, Trainer

TRAINERS: Mapping[str, Trainer] = {
    trainer.kind: trainer
    for trainer in (
        lora_scripts.TRAINER, easy_scripts.TRAINER, onetrainer.TRAINER, ai_toolkit.TRAINER, musubi.TRAINER,
    )
}  # fmt: skip


def recognise(values: Any) -> str:
    """The kind of trainer whose settings these are, or ""."""
    if not isinstance(values, dict):
        return ""
    return next((kind for kind, trainer in TRAINERS.items() if trainer.is_its_own(values)), "")


def carry_over(kind: str, values: Mapping[str, Any], where: str) -> Reading:
    """Settings of a trainer -> sd-scripts' values, a note for each key, what is wrong, the data sets as TOML."""
    trainer = TRAINERS[kind]
    reading = Reading(trainer, where)
    trainer.read(values, reading)
    reading.tell_rest()
    return reading

"""`preservation_class`: whether the trigger stands in the captions, and what holding the class costs."""

from __future__ import annotations

from collections.abc import Iterator

from kohyakit.config.rules.reading import trains_lora
from kohyakit.config.train import TrainConfig
from kohyakit.dataset.layout import Scan
from kohyakit.errors import Problem

_COST = "each step makes two predictions more, so it takes 2 to 2.5 times as long and keeps twice the activations"


def preservation_problems(config: TrainConfig, scan: Scan, backend: str) -> Iterator[Problem]:
    asked = config.noise_loss
    name, trigger = asked.preservation_class, asked.preservation_trigger
    if not name or not trains_lora(config):
        return
    if backend == "sd-scripts":
        what = "only kohyakit's own trainer holds a class to the base model's answers"
        yield Problem("preservation_class", what, "train in process, or take it out", "preservation_unknown", "warning")
        return
    yield Problem("preservation_class", _COST, "", "preservation_cost", "hint")
    if not trigger:
        return
    captions = [record.caption for subset in scan.subsets() if not subset.is_reg for record in subset.records]
    without = sum(trigger not in caption for caption in captions)
    if captions and without == len(captions):
        what = f"{trigger!r} stands in no caption, so {name!r} alone is what is held"
        yield Problem(
            "preservation_trigger", what, "write it as it stands in the captions", "preservation_trigger", "warning"
        )
    if trigger in name:
        what = f"{trigger!r} is part of the class {name!r}, which would hold back what is to be learnt"
        yield Problem("preservation_class", what, "name the class without the trigger", "preservation_class", "error")

"""A state of ours as sd-scripts would have written it: accelerate's own files, and a train_state.json."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file


class _Holding:
    """What accelerate asks of an optimizer, a schedule or a model."""

    def __init__(self, state: Any) -> None:
        self._state = state

    def state_dict(self) -> Any:
        return self._state


def as_sd_scripts(ours: Path, theirs: Path) -> Path:
    """Write the folder `theirs` from ours; returns it."""
    from accelerate import Accelerator
    from accelerate.checkpointing import save_accelerator_state

    Accelerator(cpu=True)  # which its logging wants
    rest = torch.load(ours / "state.pt", weights_only=True)
    position = json.loads((ours / "train_state.json").read_text(encoding="utf-8"))
    before = torch.get_rng_state(), random.getstate()
    streams = rest["streams"]
    if streams:
        version, numbers, gauss = streams["python"]
        torch.set_rng_state(streams["torch"])
        random.setstate((version, tuple(numbers), gauss))
    theirs.mkdir()
    network = load_file(ours / "network.safetensors")
    schedule = dict(rest["scheduler"])
    if "lr_lambdas" in schedule:  # those of transformers are partial functions, of which torch keeps an empty dict
        schedule["lr_lambdas"] = [{} for _ in schedule["lr_lambdas"]]
    parts = [_Holding(rest["optimizer"])], [_Holding(schedule)]
    save_accelerator_state(str(theirs), [network], *parts, [], 0, 0)
    torch.set_rng_state(before[0])
    random.setstate(before[1])
    told = {"current_epoch": position["current_epoch"], "current_step": position["current_step"]}
    (theirs / "train_state.json").write_text(json.dumps(told), encoding="utf-8")
    return theirs

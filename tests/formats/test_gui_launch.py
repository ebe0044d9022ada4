"""What the GUI hands to sd-scripts: against recordings of the real GUI, and rule by rule in presets of our own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kohyakit.formats.gui_launch import Folders, GuiResult, as_gui


class Recorded(Folders):
    """The picture folders of the recordings: two subsets, 100 weighted; the GUI's own test folder, 80; 12 flat."""

    def images(self, folder: str) -> int:
        return 12

    def weighted_images(self, parent: str) -> int:
        return 80 if parent == "./test/img" else 100


def strict(values: object) -> str:
    """JSON text, in which 1, 1.0 and true differ."""
    return json.dumps(values, sort_keys=True)


@pytest.mark.shared
def test_every_recording_of_the_real_gui_is_reproduced(goldens: Path) -> None:
    recordings = sorted((goldens / "presets").glob("*.json"))
    assert len(recordings) >= 37
    wrong = {}
    for recording in recordings:
        golden = json.loads(recording.read_text(encoding="utf-8"))
        preset = dict(golden["input"])
        for key, substitute in golden["substituted"].items():
            preset[key] = substitute["to"]
        config = golden["command_args"][golden["command_args"].index("--config_file") + 1]
        result = as_gui(preset, golden["tab"], folders=Recorded(), sd_scripts="{kohya_ss}/sd-scripts", config=config)
        told = differences(result, golden)
        if told:
            wrong[recording.name] = told
    assert not wrong


def differences(result: GuiResult, golden: dict) -> list[object]:
    missing = object()
    keys = sorted(result.toml.keys() | golden["toml"].keys())
    found: list[object] = [
        (key, result.toml.get(key, missing), golden["toml"].get(key, missing))
        for key in keys
        if key not in result.toml
        or key not in golden["toml"]
        or strict(result.toml[key]) != strict(golden["toml"][key])
    ]
    if result.script != golden["script"]:
        found.append((result.script, golden["script"]))
    if list(result.command) != golden["command_args"]:
        found.append((result.command, golden["command_args"]))
    refused = [refusal["key"] for refusal in golden["gui_refuses"]]
    if sorted(problem.where for problem in result.refusals) != sorted(refused):
        found.append((result.refusals, refused))
    return found

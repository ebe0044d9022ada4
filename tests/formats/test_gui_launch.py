"""What the GUI hands to sd-scripts: against recordings of the real GUI, and rule by rule in presets of our own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kohyakit.formats.gui.launch import Folders, GuiResult, as_gui


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


GOLDEN = Path(__file__).resolve().parent.parent / "golden"


def groups() -> list[tuple[str, dict, dict]]:
    """(tab, base form, group) of the hand-made tables."""
    lora = json.loads((GOLDEN / "gui_fields_lora.json").read_text(encoding="utf-8"))
    others = json.loads((GOLDEN / "gui_fields_other_tabs.json").read_text(encoding="utf-8"))["tabs"]
    tables = {"lora": lora, **others}
    return [(tab, table["base"], group) for tab, table in tables.items() for group in table["groups"]]


def cases() -> list[tuple[str, dict, str, object, dict]]:
    """(tab, form, field, value, keys that the TOML gains, or loses where None)."""
    found = []
    for tab, base, group in groups():
        form = {**base, **group["form"]}
        for key, value in group.get("same", {}).items():
            found.append((tab, form, key, value, {key: value, **group.get("also", {}).get(key, {})}))
        for key, (value, gives) in group.get("gives", {}).items():
            found.append((tab, form, key, value, gives))
        for key, value in group.get("nothing", {}).items():
            found.append((tab, form, key, value, {}))
    return found


@pytest.mark.parametrize(
    ("tab", "form", "key", "value", "gives"), cases(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_each_field_by_itself(tab: str, form: dict, key: str, value: object, gives: dict) -> None:
    before = as_gui(form, tab, folders=Recorded()).toml
    after = as_gui({**form, key: value}, tab, folders=Recorded()).toml
    assert before
    assert after
    changed = {
        name: after.get(name)
        for name in before.keys() | after.keys()
        if strict(before.get(name)) != strict(after.get(name))
    }
    assert strict(changed) == strict(
        {name: value for name, value in gives.items() if strict(before.get(name)) != strict(value)}
    )


@pytest.mark.parametrize("tab", ["lora", "dreambooth", "finetune", "ti"])
def test_a_preset_that_holds_next_to_nothing(tab: str) -> None:
    golden = json.loads((GOLDEN / "gui_minimal.json").read_text(encoding="utf-8"))[tab]
    assert strict(as_gui(golden["preset"], tab, folders=Recorded()).toml) == strict(golden["toml"])


@pytest.mark.shared
def test_the_table_of_fields_is_the_guis_own(shared: Path) -> None:
    from kohyakit.formats.gui.fields import TABS, fields

    kinds = {
        "Textbox": "text",
        "Number": "number",
        "Slider": "slider",
        "Checkbox": "check",
        "Dropdown": "list",
        "Radio": "list",
    }
    facts = json.loads((shared / "reference" / "ui_defaults.json").read_text(encoding="utf-8"))
    for tab in TABS:
        assert [p["json_key"] for p in facts[tab]["parameters"]] == list(fields(tab))
        for fact in facts[tab]["parameters"]:
            about = fields(tab)[fact["json_key"]]
            fixed = isinstance(fact.get("choices"), list) and not fact.get("allow_custom_value")
            assert (about.kind, strict(about.default)) == (kinds[fact["component"]], strict(fact["default"]))
            assert about.choices == (tuple(fact["choices"]) if fixed else None)
            assert (about.minimum, about.maximum) == (fact.get("minimum"), fact.get("maximum"))


def test_every_field_of_the_lora_tab_has_a_case() -> None:
    from kohyakit.formats.gui.fields import fields

    covered = {key for tab, form, key, *_ in cases() if tab == "lora"} | {
        key for tab, _, group in groups() if tab == "lora" for key in group["form"]
    }
    assert set(fields("lora")) - covered == {"output_dir"}

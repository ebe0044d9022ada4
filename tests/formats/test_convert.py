"""Conversions: the same file after both ways, edits in between, secrets, folders, and nothing ever overwritten."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import toml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kohyakit.config.train import SPECS
from kohyakit.errors import ConfigError, KohyakitError
from kohyakit.formats import loads
from kohyakit.formats.convert import Conversion, Options, carry, convert, convert_folder
from kohyakit.formats.gui.fields import TABS, fields

PRESET = (
    '{\n    "network_dim": "32",\n  "LoRA_type": "Standard", "my own": [1, {"x": null}],\n"epoch": 10,\t"seed": 0 }\n'
)
TOML = """#:schema https://example.org/x.json
# my best rose
[net]  # the network
network_dim = 0x10   # sixteen
network_alpha = 8.0

[mine]
colour = "red"       # nobody reads this
unet_lr = 1_0e-5
"""


def there(tmp_path: Path, name: str, text: str, goal: str, **options: Any) -> Conversion:
    source = tmp_path / name
    source.write_bytes(text.encode("utf-8"))
    return convert(source, tmp_path / goal, Options(**options))


def and_back(tmp_path: Path, name: str, text: str, between: str, goal: str, **options: Any) -> bytes:
    there(tmp_path, name, text, between, **options)
    convert(tmp_path / between, tmp_path / goal, Options(keep_secrets=options.get("keep_secrets", False)))
    return (tmp_path / goal).read_bytes()


@pytest.mark.parametrize(
    "text",
    [PRESET, PRESET.replace("\n", "\r\n"), "\ufeff" + PRESET, PRESET.rstrip(), PRESET.replace("10", '"ü\u2028\x7f"')],
)
@pytest.mark.parametrize("as_gui", [False, True])
def test_json_toml_json_is_the_same_file(tmp_path: Path, text: str, as_gui: bool) -> None:
    if (as_gui and "\x7f" in text) or "\x7f" in text:
        text = text.replace('"epoch"', '"output_name"')
    assert and_back(tmp_path, "a.json", text, "b.toml", "c.json", as_gui=as_gui) == text.encode("utf-8")


@pytest.mark.parametrize(
    "text", [TOML, TOML.replace("\n", "\r\n"), "\ufeff" + TOML, TOML.rstrip(), 'netwrk_dim = 4\noutput_name = "x"']
)
def test_toml_json_toml_is_the_same_file(tmp_path: Path, text: str) -> None:
    assert and_back(tmp_path, "a.toml", text, "b.json", "c.toml") == text.encode("utf-8")


def test_an_edit_in_the_toml_comes_back_into_the_preset(tmp_path: Path) -> None:
    there(tmp_path, "a.json", PRESET, "b.toml")
    text = (tmp_path / "b.toml").read_text(encoding="utf-8")
    assert "network_dim = 32" in text
    (tmp_path / "b.toml").write_text(
        text.replace("network_dim = 32", "network_dim = 64\nflip_aug = true", 1), encoding="utf-8"
    )
    convert(tmp_path / "b.toml", tmp_path / "c.json")
    back = (tmp_path / "c.json").read_text(encoding="utf-8")
    assert back == PRESET.replace('"32"', '"64"').replace('"seed": 0 }', '"seed": 0,\n    "flip_aug": true }')


def test_an_edit_in_the_preset_comes_back_into_the_toml(tmp_path: Path) -> None:
    there(tmp_path, "a.toml", TOML, "b.json")
    preset = json.loads((tmp_path / "b.json").read_text(encoding="utf-8"))
    preset |= {"network_dim": 32, "flip_aug": True}
    (tmp_path / "b.json").write_text(json.dumps(preset), encoding="utf-8")
    convert(tmp_path / "b.json", tmp_path / "c.toml")
    back = (tmp_path / "c.toml").read_text(encoding="utf-8")
    assert back.startswith(TOML.replace("0x10", "32"))
    assert back[len(TOML.replace("0x10", "32")) :].split() == ["[dataset]", "flip_aug", "=", "true"]


def test_a_preset_made_from_toml_opens_in_the_gui(tmp_path: Path) -> None:
    there(tmp_path, "a.toml", TOML + 'caption_prefix = "x"\n', "b.json")
    preset = json.loads((tmp_path / "b.json").read_text(encoding="utf-8"))
    del preset[carry.KEY]
    known = fields("lora")
    assert list(preset) == sorted(known)
    kinds = {"check": bool, "text": str, "number": (int, float), "slider": (int, float)}
    for key, value in preset.items():
        if known[key].kind in kinds:
            assert isinstance(value, kinds[known[key].kind]), key
        elif known[key].choices is not None:
            assert value in known[key].choices, key
    assert (preset["network_dim"], preset["network_alpha"], preset["unet_lr"]) == (16, 8, 1e-4)
    assert preset["additional_parameters"] == "--caption_prefix=x"
    assert (preset["cache_latents"], preset["caption_extension"], preset["max_bucket_reso"]) == (
        False,
        ".caption",
        1024,
    )
    assert loads(json.dumps(preset), "x.json")["network_dim"] == 16


def test_what_is_carried_is_harmless_to_sd_scripts(tmp_path: Path) -> None:
    there(tmp_path, "a.json", PRESET, "b.toml")
    theirs = toml.load(tmp_path / "b.toml")
    names = {name for table in theirs.values() for name in table}
    assert names <= {*SPECS()}
    body, carried = carry.from_comments((tmp_path / "b.toml").read_text(encoding="utf-8"))
    assert carried is not None
    assert toml.loads(body) == theirs


def test_as_gui_writes_the_flat_list_of_the_gui(tmp_path: Path) -> None:
    done = there(tmp_path, "a.json", PRESET, "b.toml", as_gui=True)
    theirs = toml.load(tmp_path / "b.toml")
    assert theirs["network_dim"] == "32"
    assert theirs["max_train_steps"] == 1600
    assert list(theirs) == sorted(theirs)
    assert done.tab == "lora"


def test_as_gui_command_names_the_toml_beside_it(tmp_path: Path) -> None:
    done = there(tmp_path, "a.json", PRESET, "b.args", as_gui=True)
    assert [path.name for path in done.written] == ["b.args", "b.toml"]
    text = (tmp_path / "b.args").read_text(encoding="utf-8")
    assert text.startswith("accelerate launch --dynamo_backend no --dynamo_mode default --mixed_precision fp16")
    assert f"--config_file {(tmp_path / 'b.toml').as_posix()}" in text


@pytest.mark.parametrize("goal", ["b.toml", "b.json", "b.args"])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "a.json",
            '{"LoRA_type": "Standard", "wandb_api_key": "hush", "additional_parameters": "--huggingface_token=hush"}',
        ),
        ("a.toml", "network_dim = 4\nwandb_api_key = 'hush' # x\n"),
        ("a.args", "--network_dim 4 --wandb_api_key hush"),
    ],
)
def test_secrets_are_left_out_of_everything(tmp_path: Path, name: str, text: str, goal: str) -> None:
    goal = goal if goal.split(".")[1] != name.split(".")[1] else f"c{goal}"
    there(tmp_path, name, text, goal)
    assert "hush" not in (tmp_path / goal).read_text(encoding="utf-8")
    there(tmp_path, name, text, f"kept.{goal}", keep_secrets=True)
    assert "hush" in (tmp_path / f"kept.{goal}").read_text(encoding="utf-8")


def test_set_replaces_on_the_way(tmp_path: Path) -> None:
    there(tmp_path, "a.json", PRESET, "b.toml", overrides={"network_dim": "8", "max_train_steps": "20"})
    config = loads((tmp_path / "b.toml").read_text(encoding="utf-8"), "b.toml")
    assert (config["network_dim"], config["max_train_steps"], config["max_train_epochs"]) == (8, 20, None)
    there(tmp_path, "c.toml", TOML, "d.toml", overrides={"network_dim": "8", "flip_aug": "true"})
    assert (tmp_path / "d.toml").read_text(encoding="utf-8").startswith(TOML.replace("0x10", "8"))


def test_nothing_is_overwritten_without_force(tmp_path: Path) -> None:
    (tmp_path / "b.toml").write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match="is there already; use another name, or --force"):
        there(tmp_path, "a.json", PRESET, "b.toml")
    assert (tmp_path / "b.toml").read_text(encoding="utf-8") == "mine"
    there(tmp_path, "a.json", PRESET, "b.toml", force=True)
    with pytest.raises(ConfigError, match="does not say which format"):
        there(tmp_path, "a.json", PRESET, "b.xyz")


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(ConfigError, match="cannot be written"):
        there(tmp_path, "a.json", PRESET, "file/b.toml")
    (tmp_path / "c.toml").mkdir()
    with pytest.raises(ConfigError, match="cannot be written"):
        there(tmp_path, "a.json", PRESET, "c.toml", force=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "c.toml", "file"]


def test_a_folder_is_converted_file_by_file(tmp_path: Path) -> None:
    source = tmp_path / "in"
    (source / "deep").mkdir(parents=True)
    for name, text in (
        ("a.json", PRESET),
        ("deep/b.json", PRESET),
        ("bad.json", "{"),
        ("wrong.json", '{"epoch": "x", "seed": "y"}'),
    ):
        (source / name).write_text(text, encoding="utf-8")
    done = {each.source.name: each for each in convert_folder(source, tmp_path / "out")}
    assert {name for name, each in done.items() if each.failed} == {"bad.json", "wrong.json"}
    assert len(done["wrong.json"].problems) == 2
    assert sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")) == [
        "a.toml",
        "deep/b.toml",
    ]


def test_args_both_ways(tmp_path: Path) -> None:
    there(tmp_path, "a.json", PRESET, "b.args")
    convert(tmp_path / "b.args", tmp_path / "c.toml")
    one = loads(PRESET, "a.json")
    two = loads((tmp_path / "c.toml").read_text(encoding="utf-8"), "c.toml")
    assert [name for name, value in one.items() if two[name] != value and name != "dynamo_backend"] == []


@pytest.mark.shared
def test_every_recorded_preset_goes_both_ways(tmp_path: Path, goldens: Path) -> None:
    for recording in sorted((goldens / "presets").glob("*.json")):
        golden = json.loads(recording.read_text(encoding="utf-8"))
        text = json.dumps(golden["input"], indent=2)
        for as_gui in (False, True):
            folder = tmp_path / f"{recording.stem}{as_gui}"
            folder.mkdir()
            assert (
                and_back(folder, "a.json", text, "b.toml", "c.json", tab=golden["tab"], as_gui=as_gui).decode() == text
            )
        text = "# theirs\n" + toml.dumps(golden["toml"])
        assert and_back(folder, "d.toml", text, "e.json", "f.toml", tab=golden["tab"]).decode() == text


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 2000), st.floats(-2, 2, allow_nan=False), st.text(max_size=8),
    st.sampled_from(["12.0", "1e-4", "", "True", ".txt", "0"]),
)  # fmt: skip


@st.composite
def presets(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """A tab and a preset whose fields hold what they were meant to, old spellings included."""
    tab = draw(st.sampled_from(TABS))
    chosen = draw(st.lists(st.sampled_from([*fields(tab).values()]), max_size=12, unique_by=lambda about: about.key))
    preset: dict[str, Any] = (
        {"LoRA_type": "Standard"} if tab == "lora" else {"token_string": "x"} if tab == "ti" else {}
    )
    for about in chosen:
        if about.choices:
            preset[about.key] = draw(st.sampled_from(about.choices))
        elif about.kind == "check":
            preset[about.key] = draw(st.booleans())
        elif about.kind in ("number", "slider"):
            low, high = int(about.minimum or 0), int(min(about.maximum or 1000, 1000))
            number = draw(st.integers(max(low, 0), max(high, 1)))
            preset[about.key] = draw(st.sampled_from([number, float(number), str(number)]))
        else:
            preset[about.key] = draw(st.text("abc/\\ 玫:.", max_size=8))
    preset |= draw(st.dictionaries(st.text("xyz ", min_size=3, max_size=6), VALUES, max_size=3))
    return tab, preset


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(presets(), st.sampled_from([None, 1, 2, "\t"]))
def test_round_trips_are_identities(
    tmp_path_factory: pytest.TempPathFactory, tabbed: tuple[str, dict[str, Any]], indent: Any
) -> None:
    tab, preset = tabbed
    text = json.dumps(preset, indent=indent, ensure_ascii=False)
    folder = tmp_path_factory.mktemp("trip")
    options = Options(tab=tab, keep_secrets=True)
    try:
        there(folder, "a.json", text, "b.toml", tab=tab, keep_secrets=True)
    except KohyakitError:
        return
    convert(folder / "b.toml", folder / "c.json", options)
    assert (folder / "c.json").read_text(encoding="utf-8") == text
    body = carry.from_comments((folder / "b.toml").read_text(encoding="utf-8"))[0]
    one, two = loads(text, "a.json", tab=tab), loads(body, "b.toml")
    assert {name for name, value in one.items() if two[name] != value} <= {"sample_prompts"}
    (folder / "e.toml").write_bytes(body.encode("utf-8"))
    convert(folder / "e.toml", folder / "f.json", options)
    convert(folder / "f.json", folder / "g.toml", options)
    assert (folder / "g.toml").read_text(encoding="utf-8") == body

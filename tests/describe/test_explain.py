"""explain: true texts for every name, the value in force and where it came from."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from kohyakit.config.sections.network import NETWORK_ARG_SPECS
from kohyakit.config.train import SPECS, Note, Source, TrainConfig
from kohyakit.describe.explain import explain, explained_names
from kohyakit.errors import ConfigError
from kohyakit.formats.gui.fields import TABS, fields


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())


def test_every_name_has_a_text_of_its_own():
    texts: dict[str, str] = {}
    for name in explained_names():
        for one in explain(name):
            assert len(one.help) >= 30, name
            assert len(words(one.help)) >= 5, name
            assert one.help.endswith((".", ")")), name
            assert one.tip, name
            assert words(one.help) != words(name), name
            assert texts.setdefault(one.help, f"{one.name} {one.where}") == f"{one.name} {one.where}", name


@pytest.mark.shared
def test_every_field_of_the_gui_and_every_argument_of_the_lora_programs(shared):
    """Names and labels from the live GUI's form and from the real programs' argument parsers."""
    reference = shared / "reference"
    forms = json.loads((reference / "ui_defaults.json").read_text(encoding="utf-8"))
    programs = json.loads((reference / "sdscripts_args.json").read_text(encoding="utf-8"))
    wanted = {p["json_key"]: p["label"] for tab in TABS for p in forms[tab]["parameters"]}
    for script in ("train_network.py", "sdxl_train_network.py"):
        wanted |= {a["name"]: a["name"] for a in programs[script]["args"]}
    assert len(wanted) > 380
    texts = set()
    for name, label in wanted.items():
        one = next(one for one in explain(name) if one.name == name)
        assert words(one.help) != words(label or ""), name
        assert len(one.help) >= 30, name
        texts.add(one.help)
    assert len(texts) == len(wanted)


def test_defaults_on_both_sides():
    (dim,) = explain("--network-dim")
    assert (dim.default, dim.gui_defaults, dim.bounds) == (None, {"LoRA": 8}, "at least 1")
    (resolution,) = explain("resolution")
    assert set(resolution.gui_defaults.values()) == {"512,512"}
    assert resolution.gui_names == ("max_resolution",)
    (steps,) = explain("max_train_steps")
    assert steps.default == 1600


def test_network_optimizer_and_scheduler_arguments():
    assert explain("rank_dropout")[0].where.startswith("network argument")
    assert "networks.lora" in explain("conv_dim")[0].taken_by
    assert explain("relative_step")[0].taken_by == ("Adafactor",)
    assert explain("num_repeats")[0].where == "option of a dataset_config"
    assert explain("T_max")[0].taken_by == ("CosineAnnealingLR",)
    assert [one.where.split()[0] for one in explain("train_t5xxl")] == ["parameter", "network"]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("rank", "network_dim"), ("lr", "learning_rate"), ("LORA_TYPE", "LoRA_type"), ("conv-dim", "conv_dim"),
     ("lr_restart_cycles", "lr_scheduler_num_cycles")],
)  # fmt: skip
def test_everyday_names(typed, meant):
    assert explain(typed)[0].name == meant


@pytest.mark.parametrize(
    ("typed", "meant"), [("netwrk_alpha", "network_alpha"), ("cache_latent", "cache_latents"), ("T_ma", "T_max")]
)
def test_a_near_miss_is_an_error_that_names_it(typed, meant):
    with pytest.raises(ConfigError, match=f"did you mean {meant}"):
        explain(typed)


def test_a_stranger_gets_names_to_try():
    with pytest.raises(ConfigError, match=r"nothing is called 'sample frobnicator'; perhaps .*sample_"):
        explain("sample frobnicator")
    with pytest.raises(ConfigError, match="--list"):
        explain("xyzzy")


def config(*notes: Note, **values) -> TrainConfig:
    source = Source(Path("folder") / "portrait.json", "gui-json", "{}", notes)
    return replace(TrainConfig().with_values(**values), source=source)


@pytest.mark.parametrize(
    ("name", "given", "origin"),
    [
        ("network_dim", config(Note("network_dim", "mapped"), network_dim=32), "from portrait.json"),
        (
            "resolution",
            config(Note("max_resolution", "mapped", "resolution"), resolution="768,768"),
            "from portrait.json as max_resolution",
        ),
        ("network_dim", config(Note("network_dim", "set", "64"), network_dim=64), "given with --set"),
        ("seed", config(Note("seed", "repaired", '"4.0" is 4'), seed=4), 'from portrait.json, repaired ("4.0" is 4)'),
        (
            "network_dim",
            config(Note("network_dim", "defaulted", "8, the GUI's default"), network_dim=8),
            "8, the GUI's default",
        ),
        ("max_train_steps", config(), "portrait.json does not say; sd-scripts' default"),
        ("unet_lr", config(learning_rate=1e-4), "not given, so learning_rate counts: 0.0001"),
        ("discrete_flow_shift", config(script="flux_train_network.py"), "not given; flux_train_network.py takes 3.0"),
    ],
)
def test_where_a_value_came_from(name, given, origin):
    (one,) = explain(name, given)
    assert one.origin == origin
    assert one.value == given[name]


def test_network_args_and_findings_in_force():
    given = config(network_dim=8, network_alpha=16.0, network_args=("conv_dim=4",), network_module="networks.lora")
    assert (explain("conv_dim", given)[0].value, explain("conv_alpha", given)[0].value) == (4, None)
    assert any("above network_dim 8" in text for text in explain("network_alpha", given)[0].findings)


def test_secrets_stay_hidden():
    (one,) = explain("wandb_api_key", config(wandb_api_key="hunter2"))
    assert one.value == "***"
    assert "hunter2" not in json.dumps(asdict(one), default=str)


def test_field_names_of_the_gui_are_what_the_parameters_say():
    known = {key for tab in TABS for key in fields(tab)}
    old = {"lora_network_weights"}  # what older presets call network_weights
    for name, spec in SPECS().items():
        for alias in spec.about.gui:
            assert alias in known or alias in old, (name, alias)
    assert set(NETWORK_ARG_SPECS()) & known

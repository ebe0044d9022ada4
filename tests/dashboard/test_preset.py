"""Drafts, what they come to, and saving without losing anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from kohyakit.config.train import SPECS, TrainConfig
from kohyakit.dashboard.pages.parts import forms
from kohyakit.dashboard.read import preset
from kohyakit.dashboard.read.preset import Draft, judge
from kohyakit.dashboard.read.project import Project
from kohyakit.errors import ConfigError
from kohyakit.formats import load

TEXT = 'network_dim = 16\nlearning_rate = 1e-4\noutput_name = "dog"\n'


def test_every_parameter_has_a_place_in_the_form() -> None:
    placed = {name for section in forms.SECTIONS for name in forms.names_of(section)}
    assert placed == set(SPECS())
    assert [name for name in forms.ESSENTIALS if name not in SPECS()] == []


def test_every_parameter_has_help_that_names_its_default() -> None:
    for spec in SPECS().values():
        assert "default" in forms.help_of(spec)
        assert forms.complaint(spec, spec.default) == ""


def test_menus_offer_what_the_registries_know() -> None:
    assert {name: list(names)[:1] for name, names in forms.KNOWN.items()} == {
        "optimizer_type": ["AdamW"], "lr_scheduler": ["constant"], "network_module": ["networks.lora"],
    }  # fmt: skip
    assert set(forms.KNOWN) <= set(SPECS())


def test_an_edit_back_is_no_edit() -> None:
    opened = judge(Draft("a.toml", TEXT)).opened
    assert opened is not None
    draft = Draft("a.toml", TEXT).edited("network_dim", 32, opened)
    assert draft.edits == {"network_dim": 32}
    assert draft.edited("network_dim", 16, opened).edits == {}
    assert draft.edited("learning_rate", "0.0001", opened).edits == {"network_dim": 32}


def test_edits_are_in_force_and_every_problem_is_told_at_once() -> None:
    judged = judge(Draft("a.toml", TEXT, edits={"network_dim": "many", "learning_rate": "fast"}))
    told = " ".join(str(problem) for problem in judged.problems)
    assert "network_dim" in told
    assert "learning_rate" in told
    assert judge(Draft("a.toml", TEXT, edits={"network_dim": 4})).config["network_dim"] == 4


def test_unknown_keys_can_be_left_out() -> None:
    text = TEXT + 'mixed_precission = "fp16"\n'
    judged = judge(Draft("a.toml", text))
    assert judged.unknown == ("mixed_precission",)
    assert any("mixed_precision" in problem.cure for problem in judged.errors)
    cleaned = judge(Draft("a.toml", text, without_unknown=True))
    assert not any("mixed_precission" in str(problem) for problem in cleaned.errors)
    assert dict(cleaned.config.extras) == {}


def test_the_gui_s_presets_are_found_beside_toml(tmp_path: Path) -> None:
    for name in (
        "a.json",
        "presets/b.toml",
        "x/y/c.json",
        "x/y/z/d.json",
        "runs/1a/config.toml",
        ".hidden/e.toml",
        "note.txt",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        text = '{"network_dim": 8}' if name.endswith(".json") else "network_dim = 8"
        (tmp_path / name).write_text(text, encoding="utf-8")
    project = Project.open(tmp_path)
    assert [project.name(path) for path in preset.presets_in(project)] == ["a.json", "presets/b.toml", "x/y/c.json"]


@pytest.mark.parametrize("name", ["", " ", "../x", "a/b", "a\\b", "c:x", ".hidden", "a\0b", "what?"])
def test_names_that_are_no_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be a file's name"):
        preset.save(TrainConfig(), Project.open(tmp_path), name, "toml")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["toml", "json"])
def test_saved_reads_back_and_an_old_file_is_kept(tmp_path: Path, kind: str) -> None:
    project = Project.open(tmp_path)
    config = judge(Draft("a.toml", TEXT)).config
    assert config is not None
    path = preset.save(config, project, "my dog", kind)
    assert load(path)["network_dim"] == 16
    old = path.read_bytes()
    with pytest.raises(ConfigError, match="is there already"):
        preset.save(config.with_values(network_dim=8), project, f"my dog.{kind}", kind)
    assert path.read_bytes() == old
    for rank, kept in ((8, 1), (12, 2)):
        preset.save(config.with_values(network_dim=rank), project, "my dog", kind, replace_old=True)
        assert load(path)["network_dim"] == rank
        assert (tmp_path / "presets" / f"my dog.{kind}.old-{kept}").exists()
    assert (tmp_path / "presets" / f"my dog.{kind}.old-1").read_bytes() == old


@pytest.mark.parametrize(
    ("text", "name"),
    [("rank lora", "network_dim"), ("max_resolution", "resolution"), ("learning_rate", "learning_rate")],
)
def test_parameters_are_found_by_what_people_call_them(text: str, name: str) -> None:
    assert preset.matches(SPECS()[name], text)


@pytest.mark.parametrize("kind", ["toml", "json"])
def test_saving_loses_no_key_of_the_person_s_own(tmp_path: Path, kind: str) -> None:
    config = judge(Draft("a.toml", TEXT + 'wandb_api_key = "abc123"\n')).config
    assert config is not None
    path = preset.save(config, Project.open(tmp_path), "mine", kind)
    assert load(path)["wandb_api_key"] == "abc123"


def test_a_model_s_own_configs_are_no_presets(tmp_path: Path) -> None:
    """What lies beside photos and presets in a real project: a diffusers model, a tokenizer, a state, a package."""
    others = {
        "unet/config.json": '{"in_channels": 4, "sample_size": 64, "attention_head_dim": 8, "act_fn": "silu"}',
        "tokenizer/vocab.json": '{"the": 1, "dog": 2, "cat": 3}',
        "tokenizer_config.json": '{"model_max_length": 77, "bos_token": "<s>", "do_lower_case": true}',
        "model/last-state/train_state.json": '{"current_epoch": 2, "current_step": 34}',
        "sd15/model_index.json": '{"_class_name": "StableDiffusionPipeline"}',
        "sd15/seed.json": '{"seed": 1}',
        "versions.json": '["1a", "1b"]',
        "pyproject.toml": '[project]\nname = "x"\nversion = "1"\ndependencies = []\n',
        "sets.toml": '[general]\ncaption_extension = ".txt"\n[[datasets]]\nresolution = 512\n',
    }
    presets = {
        "portrait.json": '{"LoRA_type": "Standard", "network_dim": 16, "max_resolution": "512,512", "note": ""}',
        "one.toml": "network_dim = 16\n",
        "cut.json": '{"LoRA_type": "Standard", "network_dim": 1',  # broken, but a person's own, who wants to know
        "presets/empty.toml": "",
    }
    for name, text in {**others, **presets}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    project = Project.open(tmp_path)
    found = [project.name(path) for path in preset.presets_in(project)]
    assert found == ["cut.json", "one.toml", "portrait.json", "presets/empty.toml"]

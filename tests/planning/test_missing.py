"""A path that is not there: where it lies instead is named, and only what looks like one is a name on the hub."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kohyakit.dataset.project import make_project
from kohyakit.formats import load
from kohyakit.planning.inputs.missing import locate, looks_like_hub
from kohyakit.planning.make import make_plan
from kohyakit.planning.plan import Plan
from tests import stand_in

pytest.importorskip("PIL.Image")


@pytest.fixture
def project(picture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """presets/a.json beside img/ and base/, looked at from presets/."""
    picture("work/img/3_dog/a.png", (64, 64)).with_suffix(".txt").write_text("dog", encoding="utf-8")
    stand_in.folder(tmp_path / "work/base")
    (tmp_path / "work/prompts.txt").write_text("a dog\n", encoding="utf-8")
    (tmp_path / "work/presets").mkdir()
    monkeypatch.chdir(tmp_path / "work/presets")
    return tmp_path / "work"


def plan_of(project: Path, **values: object) -> Plan:
    preset = {
        "LoRA_type": "Standard", "pretrained_model_name_or_path": "base", "train_data_dir": "img",
        "output_dir": str(project / "out"), "max_resolution": "64,64", "epoch": 1, "max_train_steps": 0,
        "sample_prompts": "prompts.txt", "sample_every_n_epochs": 1, "caption_extension": ".txt", **values,
    }  # fmt: skip
    (project / "presets/a.json").write_text(json.dumps(preset), encoding="utf-8")
    return make_plan(load(project / "presets/a.json"))


def test_one_folder_up_is_named(project: Path) -> None:
    cures = {problem.where: problem.cure for problem in plan_of(project, vae="base/vae").errors}
    assert cures["base"] == f"set pretrained_model_name_or_path to {project / 'base'}"
    assert cures["img"] == f"set train_data_dir to {project / 'img'}"
    assert cures["base/vae"] == f"set vae to {project / 'base/vae'}"
    assert cures["prompts.txt"] == f"set sample_prompts to {project / 'prompts.txt'}"


def test_beside_the_preset_is_named(project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    stand_in.folder(project / "presets/other")
    cures = {problem.where: problem.cure for problem in plan_of(project, pretrained_model_name_or_path="other").errors}
    assert cures["other"] == f"set pretrained_model_name_or_path to {project / 'presets/other'}"
    assert cures["img"] == f"set train_data_dir to {project / 'img'}"


def test_a_path_of_another_computer_is_found_by_its_last_part(project: Path) -> None:
    for name in (r"D:\models\base", "/home/somebody/base"):
        plan = plan_of(project, pretrained_model_name_or_path=name)
        (problem,) = [p for p in plan.errors if p.name == "model_missing"]
        assert problem.cure == f"set pretrained_model_name_or_path to {project / 'base'}"


def test_a_misspelt_name_gets_its_neighbour(project: Path) -> None:
    plan = plan_of(project, pretrained_model_name_or_path="../bse")
    (problem,) = [p for p in plan.errors if p.name == "model_missing"]
    assert problem.cure == "did you mean ../base?"


@pytest.mark.parametrize(
    ("name", "hub"),
    [
        ("runwayml/stable-diffusion-v1-5", True), ("a/b", True), ("models/sd15", False), ("a/b.safetensors", False),
        ("./a/b", False), ("a/b/c", False), (r"a\b", False), ("a", False), ("~/b", False), ("presets/b", False),
    ],
)  # fmt: skip
def test_what_looks_like_a_name_on_the_hub(project: Path, monkeypatch, name: str, hub: bool) -> None:
    monkeypatch.chdir(project)  # where there is a folder presets
    assert looks_like_hub(name) == hub


def test_a_name_on_the_hub(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(project / "cache"))
    plan = plan_of(project, pretrained_model_name_or_path="owner/model")
    (problem,) = [p for p in plan.errors if p.name == "model_missing"]
    assert problem.cure.startswith("train with --download")
    backend = make_plan(load(project / "presets/a.json"), backend="sd-scripts")
    assert "model_missing" not in [p.name for p in backend.findings]
    snapshot = project / "cache/models--owner--model/snapshots/abc"
    stand_in.folder(snapshot)
    (project / "cache/models--owner--model/refs").mkdir()
    (project / "cache/models--owner--model/refs/main").write_text("abc", encoding="utf-8")
    assert locate("owner/model") == snapshot
    assert "model_missing" not in [p.name for p in plan_of(project, pretrained_model_name_or_path="owner/model").errors]


def test_init_writes_the_model_in_full(project: Path) -> None:
    stand_in.folder(project / "presets/own")
    for given, written in (("own", project / "presets/own"), ("../base", project / "base"), ("owner/model", None)):
        made = make_project(project / f"new {given.replace('/', ' ')}", model=given)
        text = made.config.read_text(encoding="utf-8")
        assert f'pretrained_model_name_or_path = "{written.as_posix() if written else given}"' in text

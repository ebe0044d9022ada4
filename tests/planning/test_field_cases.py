"""Presets as people have them, with what is wrong in each, found in public reports; and whole recorded files."""

from __future__ import annotations

import runpy
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from kohyakit.errors import Problem
from kohyakit.formats import load
from kohyakit.planning.as_json import plan_data
from kohyakit.planning.make import check_plan
from kohyakit.planning.plan import Plan

pytest.importorskip("PIL.Image")
pytestmark = pytest.mark.shared

BASIC = "training/basic/output/basic.safetensors"  # rank 8


@pytest.fixture
def plan_of(goldens: Path, picture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Plan]:
    """plan_of("k3_sd1_with_v2", backend=…, name=value): the case's preset, beside an SD 1.x model m and images."""
    for folder, count in (("img/2_dog", 7), ("body", 6), ("face", 6)):
        for number in range(count):
            picture(f"{folder}/{number}.png", (128, 128)).with_suffix(".txt").write_text("dog", encoding="utf-8")
    (tmp_path / "m").symlink_to(goldens / "training/sd15-tiny")
    monkeypatch.chdir(tmp_path)

    def plan(case: str, backend: str = "kohyakit", **values: object) -> Plan:
        preset = goldens / "field/presets" / case / "preset.json"
        if not preset.exists():
            preset = goldens / "field/presets/k3_sd1_with_v2/preset.json"
            values = {"v2": False, **values}
        return check_plan(load(preset, overrides=values), backend=backend)

    return plan


def first(plan: Plan) -> Problem:
    return plan.findings[0]


def test_rank_and_alpha_come_from_the_file(plan_of, goldens: Path) -> None:
    shutil.copy(goldens / BASIC, "rank8.safetensors")
    plan = plan_of("k2_dim_from_weights", save_precision="float")
    assert plan.errors == ()
    assert plan.weights is not None
    assert set(plan.weights.ranks.values()) == {8}
    assert set(plan.weights.alphas.values()) == {4.0}  # network_alpha of that recording's config.toml
    size = (goldens / BASIC).stat().st_size
    assert plan.lora_bytes is not None
    assert plan.lora_bytes < size < plan.lora_bytes + 6000  # the rest is that recording's metadata
    alone = plan_of("k2_dim_from_weights", dim_from_weights=False)
    assert first(alone).name == "weights_of_another_rank"


@pytest.mark.parametrize("backend", ["kohyakit", "sd-scripts"])
def test_sd1_with_v2(plan_of, backend: str) -> None:
    problem = first(plan_of("k3_sd1_with_v2", backend))
    assert (problem.severity, problem.what) == ("error", "is a Stable Diffusion 1.x model, but v2 is on")


def test_the_script_of_sdxl_with_sd1(plan_of) -> None:
    problem = first(plan_of("", "sd-scripts", script="sdxl_train_network.py"))
    assert problem.severity == "error"
    assert "Stable Diffusion 1.x" in problem.what
    assert "trains SDXL" in problem.what
    assert problem.cure.startswith("use train_network.py")


@pytest.mark.parametrize(
    ("option", "name"), [("network_weights", "bad"), ("vae", "bad"), ("network_weights", "img"), ("resume", "img")]
)
def test_damaged_files_beside_the_model(plan_of, goldens: Path, option: str, name: str) -> None:
    shutil.copy(goldens / "field/presets/k4_damaged_weights_vae_state/bad.safetensors", "bad.safetensors")
    place = "bad.safetensors" if name == "bad" else name
    (problem,) = plan_of("", **{option: place}).errors
    assert problem.where == place


def test_a_lora_of_another_family(plan_of, goldens: Path) -> None:
    pytest.importorskip("torch")
    runpy.run_path(str(goldens / "field/presets/k4_lora_of_another_family/make.py"))
    (problem,) = plan_of("", network_weights="sdxl_lora.safetensors").errors
    assert "holds none of this network's layers" in problem.what


def test_a_lora_in_a_pickle(plan_of, goldens: Path) -> None:
    pytest.importorskip("torch")
    shutil.copy(goldens / BASIC, "t.safetensors")
    runpy.run_path(str(goldens / "field/presets/k4_weights_pt/make.py"))
    assert plan_of("", network_weights="t.pt", network_dim=8).errors == ()
    assert first(plan_of("", network_weights="t.pt")).name == "weights_of_another_rank"


def test_regularisation_in_a_data_set_of_its_own(plan_of, goldens: Path) -> None:
    plan = plan_of("", dataset_config=str(goldens / "field/presets/k6_reg_in_its_own_dataset/data.toml"))
    assert (plan.steps, plan.errors) == (12, ())
    (problem,) = [p for p in plan.findings if p.name == "regularisation_alone"]
    assert problem.severity == "warning"
    assert "data set 2" in problem.where
    assert [(row["name"], row["images"], row.get("used")) for row in plan_data(plan)["subsets"]] == [
        ("body", 6, None),
        ("face", 6, 0),
    ]


def test_a_warm_up_longer_than_the_run(plan_of) -> None:
    values = {"lr_scheduler": "constant_with_warmup", "lr_warmup_steps": 100, "max_train_epochs": 1}
    (problem,) = [p for p in plan_of("", **values).findings if p.name == "warmup_beyond_the_run"]
    assert problem.severity == "warning"
    assert "100 steps is longer than the run of 14" in problem.what
    assert "14 % of what is set" in problem.what
    assert "0.1" in problem.cure


@pytest.mark.parametrize("place", ["training2/sdxl-tiny", "training2/single/sdxl-tiny.safetensors"])
def test_a_recorded_lora_of_sdxl_fits_its_model(plan_of, goldens: Path, place: str) -> None:
    """Names and shapes of SDXL's layers, checked by a file of sd-scripts."""
    values = {
        "pretrained_model_name_or_path": str(goldens / place), "script": "sdxl_train_network.py",
        "network_weights": str(goldens / "training2/sdxl_basic/lora_initial.safetensors"), "network_dim": 8,
        "mixed_precision": "bf16",
    }  # fmt: skip
    assert plan_of("", "sd-scripts", **values).errors == ()
    assert first(plan_of("", "sd-scripts", **{**values, "network_dim": 4})).name == "weights_of_another_rank"


def test_recorded_bases_are_whole(plan_of, goldens: Path) -> None:
    for place, v2 in (("training/single/sd15-tiny.safetensors", False), ("training2/sd2-tiny", True)):
        values = {"pretrained_model_name_or_path": str(goldens / place), "v2": v2, "v_parameterization": v2}
        plan = plan_of("", **values)
        assert plan.errors == ()
        assert not [problem for problem in plan.findings if problem.name == "prediction_type"]

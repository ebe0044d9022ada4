"""The plan of whole projects: equal to recorded runs, and every classic trap by its name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kohyakit.config.train import TrainConfig
from kohyakit.errors import Problem
from kohyakit.formats import loads
from kohyakit.planning.as_json import plan_data
from kohyakit.planning.make import check_plan, make_plan
from kohyakit.planning.plan import Plan
from tests import stand_in

pytest.importorskip("PIL.Image")


def plan_of(folder: Path, **values: object) -> Plan:
    standard = {
        "pretrained_model_name_or_path": str(folder),
        "train_data_dir": str(folder / "img"),
        "output_dir": str(folder / "out"),
        "output_name": "x",
        "caption_extension": ".txt",
        "resolution": "64,64",
        "enable_bucket": True,
        "bucket_no_upscale": True,
        "min_bucket_reso": 64,
        "max_train_epochs": 2,
        "learning_rate": 1e-4,
        "network_module": "networks.lora",
        "optimizer_type": "AdamW",
    }
    return make_plan(TrainConfig().with_values(**{**standard, **values}))


def finding(plan: Plan, name: str) -> Problem:
    (problem,) = [problem for problem in plan.findings if problem.name == name]
    return problem


def has(plan: Plan, name: str) -> bool:
    return any(problem.name == name for problem in plan.findings)


@pytest.mark.shared
@pytest.mark.parametrize("case", ["basic", "adafactor", "locon", "samples_ddim"])
def test_the_plan_is_what_sd_scripts_then_did(goldens: Path, case: str) -> None:
    folder = goldens / "training" / case
    text = (folder / "config.toml").read_text(encoding="utf-8").replace("{goldens}", str(goldens / "training"))
    plan = make_plan(loads(text, "config.toml", overrides={"exif_orientation": "ignore"}))
    metadata = json.loads((folder / "metadata.json").read_text(encoding="utf-8"))[f"{case}.safetensors"]
    told = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))

    assert plan.errors == ()
    assert str(plan.steps) == metadata["ss_max_train_steps"]
    assert str(plan.epochs) == metadata["ss_num_epochs"]
    assert str(plan.warmup_steps) == metadata["ss_lr_warmup_steps"]
    assert plan.batches_per_epoch == told["num_batches"]
    buckets = [([row.bucket.width, row.bucket.height], row.images) for row in plan.datasets[0].buckets]
    golden = told["bucket_info"]["buckets"].values()
    assert buckets == [(bucket["resolution"], bucket["count"]) for bucket in golden]
    files = {line.split("\t")[0]: int(line.split("\t")[1]) for line in _lines(folder / "output_files.txt")}
    assert {f"output/{point.file}" for point in plan.saves} == {name for name in files if name.endswith("tensors")}
    size = files[f"output/{case}.safetensors"]
    assert plan.lora_bytes is not None
    assert plan.lora_bytes < size < plan.lora_bytes + 1.1 * plan.metadata_bytes
    rates = [group["lr"] for group in json.loads((folder / "param_groups.json").read_text(encoding="utf-8"))]
    assert sorted({*plan.learning_rates.text_encoder, plan.learning_rates.unet}) == sorted(set(rates))
    drawn = {name.split("_")[-4] for name in files if name.endswith(".png")}
    assert {f"{step:06d}" if step else "e000000" for step in plan.sample_steps} == drawn


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


@pytest.fixture
def project(picture, tmp_path: Path) -> Path:
    for letter in "abcd":
        picture(f"img/3_sks dog/{letter}.png", (80, 80)).with_suffix(".txt").write_text("sks dog", encoding="utf-8")
    stand_in.folder(tmp_path)
    return tmp_path


def test_a_clean_project_has_no_findings(project: Path) -> None:
    plan = plan_of(project, train_batch_size=4, network_dim=8, save_every_n_epochs=1)
    assert [str(problem) for problem in plan.findings] == []
    assert (plan.batches_per_epoch, plan.steps_per_epoch, plan.steps, plan.epochs) == (3, 3, 6, 2)
    assert plan.lora is not None
    assert plan.lora.modules == 210
    assert plan.memory is not None


# trap -> settings that spring it, what it says, and how grave it is
SPRUNG = [
    ("default_steps", {"max_train_epochs": None}, "default of 1600 steps is in force: that is 133.3 epochs", "warning"),
    ("steps_override_epochs", {"max_train_epochs": None, "epoch": 5}, "1600 steps go before epoch 5", "warning"),
    ("no_steps", {"max_train_epochs": None, "max_train_steps": 0}, "nothing would be trained", "error"),
    ("gui_step_arithmetic", {"train_batch_size": 5}, "the GUI counts 5 steps, the trainer 6", "hint"),
    ("too_small", {"resolution": "128,128"}, "4 of 4 images have fewer pixels than 128x128", "hint"),
    ("too_small", {"resolution": "128,128", "bucket_no_upscale": False}, "enlarged", "warning"),
    ("model_missing", {"pretrained_model_name_or_path": "a/b"}, "Hugging Face hub", "error"),
    ("model_missing", {"pretrained_model_name_or_path": "no/such.safetensors"}, "does not exist", "error"),
    ("file_missing", {"vae": "no.safetensors"}, "no such file", "error"),
    ("file_missing", {"resume": "no-state"}, "no such file", "error"),
    ("bad_prompts", {"sample_prompts": "no.txt"}, "does not exist", "error"),
    ("prompt_repaired", {"sample_prompts": "a --w 64--h 64\n", "sample_at_first": True}, "no space before", "hint"),
    ("no_bucket", {"resolution": "128,128", "bucket_reso_steps": 128}, "below one bucket step", "error"),
]


@pytest.mark.parametrize(("name", "values", "told", "severity"), SPRUNG)
def test_traps_that_settings_spring(project: Path, name: str, values: dict, told: str, severity: str) -> None:
    plan = plan_of(project, **values)
    found = [problem for problem in plan.findings if problem.name == name]
    assert found, [str(problem) for problem in plan.findings]
    assert told in found[0].what
    assert found[0].severity == severity
    assert bool(plan.errors) == any(problem.severity == "error" for problem in plan.findings)


def test_without_buckets_the_backend_and_the_order_decide_who_is_scaled(project: Path) -> None:
    """Pictures of 80x80: here scaled to 64x64, and said; sd-scripts stops at them, unless it caches latents."""
    told = finding(plan_of(project, enable_bucket=False), "scaled_without_buckets")
    assert "4 of 4 images are not 64x64" in told.what
    assert not has(plan_of(project, enable_bucket=False, resolution="80,80"), "scaled_without_buckets")
    assert not has(plan_of(project, enable_bucket=False, cache_latents=True), "scaled_without_buckets")

    def errors(**values) -> list[str]:
        return [problem.name for problem in plan_of(project, enable_bucket=False, **values).errors]

    assert errors(rng_order="sd-scripts") == ["no_bucket"] * 4
    assert errors(rng_order="sd-scripts", random_crop=True) == []
    assert errors(rng_order="sd-scripts", random_crop=True, resolution="81,64") == ["no_bucket"] * 4
    assert errors(rng_order="sd-scripts", cache_latents=True) == []
    config = TrainConfig().with_values(
        train_data_dir=str(project / "img"), resolution="64,64", caption_extension=".txt", max_train_epochs=1
    )
    found = [p.name for p in check_plan(config, backend="sd-scripts").errors]
    assert found.count("no_bucket") == 4
    assert "no_bucket" not in [p.name for p in check_plan(config).errors]


def test_bucket_settings_that_sd_scripts_refuses(project: Path) -> None:
    plan = plan_of(project, min_bucket_reso=128)
    assert [p.name for p in plan.errors] == ["min_bucket_above_resolution"]
    folder = (project / "img/3_sks dog").as_posix()
    text = f'[[datasets]]\nmin_bucket_reso = 128\n[[datasets.subsets]]\nimage_dir = "{folder}"\n'
    (project / "data.toml").write_text(text, encoding="utf-8")
    plan = plan_of(project, train_data_dir=None, dataset_config=str(project / "data.toml"))
    assert "min_bucket_reso 128 is above the resolution 64x64" in finding(plan, "bucket_settings").what
    (project / "data.toml").write_text(text.replace("128", "64\nbucket_reso_steps = 32"), encoding="utf-8")
    plan = plan_of(project, train_data_dir=None, dataset_config=str(project / "data.toml"))
    assert "must divide by 64" in finding(plan, "bucket_reso_steps").what


def test_a_length_that_was_chosen_is_no_trap(project: Path) -> None:
    assert not has(plan_of(project, max_train_epochs=None, max_train_steps=1500), "default_steps")
    text = f'max_train_steps = 1600\ntrain_data_dir = "{(project / "img").as_posix()}"\nresolution = "64"\n'
    assert not has(make_plan(loads(text, "a.toml")), "default_steps")


def test_a_gui_preset_without_steps(project: Path) -> None:
    """The GUI's form starts at 1600 steps, so a preset with epochs alone trains 1600 there."""
    preset = {"LoRA_type": "Standard", "train_data_dir": str(project / "img"), "max_resolution": "64,64", "foo": 1}
    preset["min_bucket_reso"] = 64
    plan = make_plan(loads(json.dumps({**preset, "epoch": 5, "train_batch_size": 5}), "p.json"))
    assert (plan.epochs, plan.length.decided_by) == (5, "max_train_epochs")
    assert "default of 1600 steps, not 5 epochs" in finding(plan, "default_steps").what
    assert "nothing reads foo" in finding(plan, "unknown_parameter").what
    plan = make_plan(loads(json.dumps({**preset, "epoch": 5, "max_train_steps": 0, "train_batch_size": 5}), "p.json"))
    assert not has(plan, "default_steps")
    assert "for 5 epochs the GUI counts 12 steps, the trainer 15" in finding(plan, "gui_step_arithmetic").what


def test_photos_that_only_exif_turns_upright_are_told_once(project: Path, picture) -> None:
    for letter in "xyz":
        picture(f"img/3_sks dog/{letter}.jpg", (90, 70), 6)
    assert "3 photos" in finding(plan_of(project), "exif_orientation").what
    assert [row.bucket.width for row in plan_of(project, resolution="96,96").datasets[0].buckets] == [64]
    sideways = finding(plan_of(project, exif_orientation="ignore"), "exif_orientation")
    assert (sideways.severity, "apply" in sideways.cure) == ("warning", True)


def test_regularisation_doubles_an_epoch(project: Path, picture) -> None:
    alone = plan_of(project)
    picture("reg/1_dog/r.png", (80, 80))
    plan = plan_of(project, reg_data_dir=str(project / "reg"))
    assert plan.steps == 2 * alone.steps
    assert "1 regularisation images repeated to 12" in finding(plan, "regularisation_doubles").what
    for number in range(20):
        picture(f"reg/1_dog/{number}.png", (80, 80))
    plan = plan_of(project, reg_data_dir=str(project / "reg"))
    assert "9 of 21 regularisation images are never used" in finding(plan, "regularisation_unused").what


def test_flip_with_what_has_sides(project: Path) -> None:
    (project / "img/3_sks dog/a.txt").write_text("sks dog, looking Left", encoding="utf-8")
    assert not has(plan_of(project), "flip_asymmetric")
    assert "'left' in 1" in finding(plan_of(project, flip_aug=True), "flip_asymmetric").what


def test_lone_buckets(project: Path, picture) -> None:
    picture("img/1_wide/w.png", (200, 70))
    plan = plan_of(project, train_batch_size=2, resolution="128,128")
    assert "192x64" in finding(plan, "lone_bucket").what
    assert not has(plan_of(project, train_batch_size=1, resolution="128,128"), "lone_bucket")


@pytest.mark.parametrize(("room", "found"), [(None, True), (150, False)])
def test_captions_that_are_too_long(project: Path, room: int | None, found: bool) -> None:
    pytest.importorskip("tokenizers")
    (project / "img/3_sks dog/a.txt").write_text("dog, " * 45, encoding="utf-8")  # 90 tokens
    plan = plan_of(project, max_token_length=room)
    assert has(plan, "long_caption") == found
    if found:
        assert "a.png: 90" in finding(plan, "long_caption").what
        assert finding(plan, "long_caption").cure == "set max_token_length to 150"


def test_a_model_that_is_none(project: Path) -> None:
    (project / "fake.safetensors").write_text("<html>", encoding="utf-8")
    plan = plan_of(project, pretrained_model_name_or_path=str(project / "fake.safetensors"))
    assert finding(plan, "model_unreadable").severity == "error"
    (project / "empty").mkdir()
    plan = plan_of(project, pretrained_model_name_or_path=str(project / "empty"))
    assert finding(plan, "model_unreadable").severity == "error"


def test_nothing_at_all_is_findings_and_no_traceback() -> None:
    plan = make_plan(TrainConfig())
    told = [problem.name for problem in plan.errors]
    assert {"images_missing", "base_model_missing", "output_dir_missing", "resolution_missing"} <= set(told)
    assert not {"no_folder", "no_resolution"} & set(told)  # nobody is told twice
    json.dumps(plan_data(plan))


def test_findings_come_worst_first(project: Path) -> None:
    plan = plan_of(project, output_dir=None, max_train_epochs=None, resolution="128,128")
    order = [problem.severity for problem in plan.findings]
    assert order == sorted(order, key=["error", "warning", "hint"].index)
    assert len(set(plan.findings)) == len(plan.findings)


def test_nothing_goes_back_into_the_config(project: Path) -> None:
    config = TrainConfig().with_values(train_data_dir=str(project / "img"), resolution="64", max_train_epochs=3)
    before = dict(config.items())
    make_plan(config)
    assert dict(config.items()) == before


def test_as_data(project: Path) -> None:
    prompts = "a dog --w 70--h 640 --s 35 --n Anime\n"
    data = json.loads(json.dumps(plan_data(plan_of(project, sample_prompts=prompts, sample_at_first=True))))
    (note,) = data["samples"][0].pop("notes")
    assert note == "there is no space before '--h', so sd-scripts would drop it"
    assert data["samples"] == [
        {
            "prompt": "a dog", "negative_prompt": "Anime", "width": 64, "height": 640, "sample_steps": 35, "scale": 7.5,
            "seed": None, "guidance_scale": None, "sampler": "ddim", "controlnet_image": None, "cfg_trunc_ratio": None,
            "renorm_cfg": None, "flow_shift": None, "network_multiplier": None,
        }
    ]  # fmt: skip
    assert data["buckets"] == [{"dataset": 0, "width": 64, "height": 64, "images": 12, "files": 4, "batches": 12}]
    assert data["subsets"][0] | {"folder": ""} == {
        "dataset": 0, "folder": "", "name": "3_sks dog", "repeats": 3, "class_tokens": "sks dog",
        "regularisation": False, "images": 4, "unreadable": 0, "captions_found": 4, "captions_missing": 0,
    }  # fmt: skip
    assert (data["steps"], data["epochs"], data["ok"]) == (24, 2, True)
    assert data["files"][-1] == {
        "file": "x.safetensors", "step": 24, "epoch": 2, "state": None, "deleted_at_step": None,
        "state_deleted_at_step": None,
    }  # fmt: skip
    assert set(data["findings"][0]) == {"name", "severity", "where", "what", "cure"}


def test_what_reading_found_is_kept_as_it_was_found_and_said_once() -> None:
    text = '{"LoRA_type": "Standard", "netwrk_dim": 8, "blorb": 1, "network_dim": 4, "network_dim": 16}'
    plan = make_plan(loads(text, "rose.json"))
    found = [p for p in plan.findings if p.name in ("unknown_parameter", "duplicate_key")]
    assert sorted((p.name, p.severity, p.where) for p in found) == [
        ("duplicate_key", "warning", "rose.json"), ("unknown_parameter", "warning", ""),
        ("unknown_parameter", "warning", "netwrk_dim"),
    ]  # fmt: skip
    assert [p.cure for p in found if p.where == "netwrk_dim"] == ["did you mean network_dim?"]
    alone = make_plan(loads('{"LoRA_type": "Standard", "netwrk_dim": 8}', "rose.json"))
    (told,) = [p for p in alone.findings if p.name == "unknown_parameter"]
    assert (told.where, told.what, told.cure) == (
        "rose.json", "unknown parameter 'netwrk_dim'", "did you mean 'network_dim'?",
    )  # fmt: skip

"""Every template that ships: it loads, it passes the rules, editors find nothing in it, and copying harms nothing."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from kohyakit.cli.templates import templates as command
from kohyakit.config.rules import check_rules
from kohyakit.describe.schema import FILE_NAME, schema
from kohyakit.describe.templates import copy, find, templates
from kohyakit.errors import ConfigError
from kohyakit.formats import load
from kohyakit.formats.prompt_lines import read as read_prompts
from kohyakit.resources import shared_dir

jsonschema = pytest.importorskip("jsonschema")

ROOT = shared_dir("templates")
FILES = sorted(path for path in ROOT.rglob("*") if path.is_file())
PRESETS = [path for path in FILES if path.parent == ROOT and path.name != FILE_NAME]
PROMPTS = [path for path in FILES if path.parent.name == "prompts"]


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_nothing_lies_there_that_no_test_looks_at():
    skeleton = [path for path in FILES if (ROOT / "project") in path.parents]
    assert set(FILES) == {*PRESETS, *PROMPTS, *skeleton, ROOT / FILE_NAME}
    assert {"sd15-subject", "sd15-style", "sd15-place", "sdxl-subject", "sdxl-style", "low-memory", "quick-test"} <= {
        path.stem for path in PRESETS
    }


@pytest.mark.parametrize("path", PRESETS, ids=name)
def test_preset(path):
    config = load(path)
    assert check_rules(config) == ()
    assert dict(config.extras) == {}
    assert [note for note in config.source.notes if note.action in ("unknown", "repaired")] == []
    text = path.read_text(encoding="utf-8")
    kind, values = ("toml", tomllib.loads(text)) if path.suffix == ".toml" else ("gui-json", json.loads(text))
    assert [e.message for e in jsonschema.Draft4Validator(schema(kind)).iter_errors(values)] == []
    assert config.saving.output_name == path.stem
    assert config["caption_extension"] == ".txt"
    assert config["save_every_n_epochs"] or config["save_every_n_steps"]


@pytest.mark.parametrize("path", [path for path in PRESETS if path.suffix == ".toml"], ids=name)
def test_toml_is_explained_and_complete(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0] == f"#:schema ./{FILE_NAME}"
    head = [line for line in lines[1:] if line.startswith("#")]
    assert len(head) >= 5
    assert all(len(line) <= 120 for line in lines)
    config = load(path)
    if config.sampling.sample_prompts:
        assert (path.parent / config.sampling.sample_prompts).is_file()
    # what sd-scripts' own parser makes of it is what ours does
    toml = pytest.importorskip("toml")
    assert toml.loads("\n".join(lines)) == tomllib.loads("\n".join(lines))


@pytest.mark.parametrize("path", [path for path in PRESETS if path.suffix == ".json"], ids=name)
def test_gui_preset_says_the_same_as_the_toml(path):
    """But for what the GUI cannot hold: samples at the start, and prompts in a file."""
    apart = {"sample_prompts", "sample_at_first", "wandb_run_name", "save_model_as", "text_encoder_lr"}
    theirs, ours = load(path), load(path.with_suffix(".toml"))
    assert {n: v for n, v in theirs.items() if n not in apart} == {n: v for n, v in ours.items() if n not in apart}
    assert (theirs["text_encoder_lr"] or (None,))[0] == (ours["text_encoder_lr"] or (None,))[0]
    prompts = read_prompts(path.parent / ours.sampling.sample_prompts)
    assert [p.prompt for p in read_prompts(theirs.sampling.sample_prompts)] == [p.prompt for p in prompts]


def test_the_beginners_recipe():
    """The guide's figures, as the issue states them."""
    for template in ("sd15-subject", "sd15-place"):
        config = load(ROOT / f"{template}.toml")
        assert config.optimizer.optimizer_type == "Adafactor"
        assert config.optimizer.optimizer_args == ("scale_parameter=False", "relative_step=False", "warmup_init=False")
        assert (config["mixed_precision"], config["resolution"], config["network_dim"]) == ("bf16", "768,768", 128)
        assert 128 * 0.9 < config["network_alpha"] < 128
        assert config["enable_bucket"]
        assert config["bucket_no_upscale"]


@pytest.mark.parametrize("path", PROMPTS, ids=name)
def test_prompt_file(path):
    prompts = read_prompts(path)
    assert prompts
    assert all(p.prompt and p.seed is not None and p.notes in ((), None, []) for p in prompts)
    assert path.read_text(encoding="utf-8").startswith("# ")


def test_the_schema_file_is_current():
    assert json.loads((ROOT / FILE_NAME).read_text(encoding="utf-8")) == schema("toml"), (
        f"run: kohyakit schema > templates/{FILE_NAME}"
    )


def test_list_names_all_with_a_sentence():
    found = {template.name: template for template in templates()}
    assert {path.stem for path in PRESETS} <= set(found)
    assert all(len(template.summary) > 30 for template in found.values())
    shown = CliRunner().invoke(command, ["list"]).output
    assert all(template in shown for template in found)
    assert [row["name"] for row in json.loads(CliRunner().invoke(command, ["list", "--json"]).output)] == list(found)


def test_show_prints_the_file():
    path = ROOT / "quick-test.toml"
    assert CliRunner().invoke(command, ["show", "quick-test"]).output == path.read_text(encoding="utf-8")
    assert CliRunner().invoke(command, ["show", "project"]).output.startswith("# A LoRA project")


def test_copy_brings_what_the_toml_points_at(tmp_path):
    written = copy("sd15-subject", tmp_path / "portrait.toml")
    assert [path.relative_to(tmp_path).as_posix() for path in written] == [
        "portrait.toml",
        FILE_NAME,
        "prompts/subject.txt",
    ]
    assert check_rules(load(written[0])) == ()


def test_copy_never_overwrites(tmp_path):
    mine = tmp_path / "portrait.toml"
    mine.write_text("network_dim = 7", encoding="utf-8")
    prompts = tmp_path / "prompts" / "subject.txt"
    prompts.parent.mkdir()
    prompts.write_text("my prompt", encoding="utf-8")
    with pytest.raises(ConfigError, match="already there"):
        copy("sd15-subject", mine)
    assert mine.read_text(encoding="utf-8") == "network_dim = 7"
    copy("sd15-subject", tmp_path)
    assert prompts.read_text(encoding="utf-8") == "my prompt"
    with pytest.raises(ConfigError, match="already there and not empty"):
        copy("project", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["portrait.toml", "prompts", "sd15-subject.toml", FILE_NAME]
    )


def test_copy_by_the_ending(tmp_path):
    (written,) = copy("sd15-place", tmp_path / "place.json")
    assert json.loads(written.read_text(encoding="utf-8"))["output_name"] == "sd15-place"
    with pytest.raises(ConfigError, match=r"is a \.toml or \.json file"):
        copy("sd15-place", tmp_path / "place.yaml")
    with pytest.raises(ConfigError, match="did you mean 'sdxl-subject'"):
        copy("sdxl-subjct", tmp_path)


def test_project(tmp_path):
    written = copy("project", tmp_path / "mine", preset="sdxl-style")
    assert written[0] == tmp_path / "mine"
    assert {path.name for path in written[0].iterdir()} >= {"img", "reg", "log", "model", "README.md", "train.toml"}
    config = load(tmp_path / "mine" / "train.toml")
    assert config.launch.script == "sdxl_train_network.py"
    for relative in (config["train_data_dir"], config["output_dir"], config["logging_dir"]):
        assert (tmp_path / "mine" / relative).is_dir()
    assert (tmp_path / "mine" / config["sample_prompts"]).is_file()


def test_readme_of_the_project_names_real_commands():
    from kohyakit.cli import COMMANDS

    text = (find("project")[1] / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"kohyakit (\w+)", text)) <= {*COMMANDS}

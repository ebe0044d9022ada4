"""`kohyakit convert` as a person meets it: files, output, exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from kohyakit.cli.convert import convert
from kohyakit.errors import KohyakitError

PRESET = {"LoRA_type": "Standard", "network_dim": "32", "epoch": 10, "sdxl": True, "shiny": 1, "xformers": True}


@pytest.fixture
def rose(tmp_path: Path) -> Path:
    path = tmp_path / "rose.json"
    path.write_text(json.dumps(PRESET), encoding="utf-8")
    return path


def run(*args: object) -> Result:
    result = CliRunner().invoke(convert, [str(arg) for arg in args])
    if isinstance(result.exception, KohyakitError):
        return result
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_a_preset_becomes_toml_and_says_what_matters(rose: Path) -> None:
    result = run(rose, rose.with_suffix(".toml"))
    assert result.exit_code == 0
    assert rose.with_suffix(".toml").is_file()
    lines = result.output.splitlines()
    assert lines[0].endswith("(GUI preset -> config_file, lora tab)")
    assert "repaired  xformers" in result.output
    assert "unknown   shiny" in result.output
    assert "the GUI   max_train_epochs  the GUI would train 1600 steps" in result.output
    assert lines[-1].endswith("-v lists every key")
    assert len(lines) < 10


def test_verbose_lists_every_key(rose: Path) -> None:
    result = run(rose, rose.with_suffix(".toml"), "-v")
    for key in PRESET:
        assert any(f" {key} " in line for line in result.output.splitlines()), key


def test_json_is_the_same_as_data(rose: Path) -> None:
    data = json.loads(run(rose, rose.with_suffix(".toml"), "--json").output)
    assert (data["ok"], data["from"], data["to"], data["tab"]) == (True, "gui-json", "toml", "lora")
    assert {row["key"]: row["action"] for row in data["keys"]}["shiny"] == "unknown"
    assert data["written"] == [str(rose.with_suffix(".toml"))]


def test_standard_output_holds_the_result_alone(rose: Path) -> None:
    result = run(rose, "-")
    assert result.stdout.startswith("accelerate launch")
    assert "sdxl_train_network.py" in result.stdout
    assert "unknown" not in result.stdout
    assert "unknown" in result.stderr
    as_toml = run(rose, "-", "--to", "toml", "--as-gui")
    assert 'network_dim = "32"' in as_toml.stdout


def test_set_and_tab(rose: Path) -> None:
    run(rose, rose.with_suffix(".toml"), "--set", "network_dim=8", "--set", "sdxl=false")
    text = rose.with_suffix(".toml").read_text(encoding="utf-8")
    assert "network_dim = 8" in text
    assert 'script = "train_network.py"' in text
    result = run(rose, rose.with_name("db.toml"), "--tab", "dreambooth")
    assert "dreambooth tab" in result.output


def test_wrong_use_raises_our_own_error_with_what_to_do(rose: Path) -> None:
    run(rose, rose.with_suffix(".toml"))
    assert "use another name, or --force" in str(run(rose, rose.with_suffix(".toml")).exception)
    assert "there is no such file" in str(run(rose.with_name("none.json"), rose.with_name("x.toml")).exception)
    assert "is not name=value" in str(run(rose, rose.with_name("y.toml"), "--set", "x").exception)
    assert run(rose, rose.with_suffix(".toml"), "--force").exit_code == 0


def test_a_folder_goes_on_after_a_bad_file(rose: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text('{"epoch": "x", "seed": []}', encoding="utf-8")
    result = run(tmp_path, tmp_path / "out")
    assert result.exit_code == 1
    assert (tmp_path / "out" / "rose.toml").is_file()
    assert result.output.count("error") == 2
    assert result.output.splitlines()[-1] == "1 of 2 converted, 1 not."
    again = json.loads(run(tmp_path, tmp_path / "out2", "--json").output)
    assert (again["ok"], len(again["files"])) == (False, 2 + 1)


def test_help_names_every_option() -> None:
    text = run("--help").output
    for option in ("--to", "--tab", "--set", "--as-gui", "--keep-secrets", "--force", "--json"):
        assert option in text

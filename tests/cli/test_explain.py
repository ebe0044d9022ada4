"""kohyakit explain at the door."""

from __future__ import annotations

import json

from click.testing import CliRunner

from kohyakit.cli import group
from kohyakit.cli.explain import explain
from kohyakit.errors import ConfigError


def run(*args: str):
    return CliRunner().invoke(explain, args)


def test_in_words():
    done = run("network_alpha")
    assert done.exit_code == 0
    assert done.output.startswith("network_alpha  (number, parameter, section network)")
    for label in ("try", "default", "in the GUI", "read by     every LoRA program"):
        assert f"\n  {label}" in done.output


def test_with_a_config(tmp_path):
    preset = tmp_path / "portrait.json"
    preset.write_text('{"LoRA_type": "Standard", "network_dim": "32", "max_resolution": "768,768"}', encoding="utf-8")
    assert "in force    32 (from portrait.json" in run("network_dim", str(preset)).output
    assert "in force    768,768 (from portrait.json as max_resolution)" in run("resolution", str(preset)).output
    (data,) = json.loads(run("network_dim", str(preset), "--json").output)
    assert data["value"] == 32


def test_a_near_miss_is_said():
    done = run("netwrk_alpha")
    assert isinstance(done.exception, ConfigError)
    assert str(done.exception) == "nothing is called 'netwrk_alpha'; did you mean network_alpha?"
    assert done.exception.exit_code == 2
    assert run("rank").output.startswith("Nothing is called 'rank'; this is network_dim.")


def test_wrong_use():
    assert run().exit_code == 2
    done = run("xyzzy")
    assert isinstance(done.exception, ConfigError)


def test_list_and_page():
    assert "conv_dim" in run("--list").output.split()
    assert run("--markdown").output.startswith("# Parameters")


def test_a_misspelt_command_names_the_nearest():
    for words, told in ((["chekc", "x"], "Did you mean check?"), (["runs", "lits"], "Did you mean list?")):
        done = CliRunner().invoke(group, words)
        assert done.exit_code == 2
        assert told in done.output

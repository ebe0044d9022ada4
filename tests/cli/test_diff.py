"""`kohyakit diff`: only what differs, across formats, with defaults filled in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from kohyakit.cli.diff import diff
from kohyakit.config.train import TrainConfig
from kohyakit.errors import ConfigError
from kohyakit.formats.differences import differences

TOML = """network_module = "networks.lora"
network_dim = 16
network_args = ["conv_dim=4"]
learning_rate = 1e-4
"""


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    one, two = tmp_path / "a.toml", tmp_path / "b.args"
    one.write_text(TOML, encoding="utf-8")
    two.write_text(
        "--network_module networks.lora --network_dim 32 --network_args conv_dim=8 --learning_rate 5e-5 "
        "--max_train_steps 1600",
        encoding="utf-8",
    )
    return one, two


def run(*args: object) -> Result:
    return CliRunner().invoke(diff, [str(arg) for arg in args])


def test_only_what_differs_with_ratios_by_section(pair: tuple[Path, Path]) -> None:
    lines = run(*pair).output.splitlines()
    assert lines[0].split() == ["a.toml", "(config_file)", "b.args", "(command", "line)"]
    assert [line.split() for line in lines[1:6]] == [
        ["network"],
        ["network_dim", "16", "32", "x2"],
        ["network_args.conv_dim", "4", "8", "x2"],
        ["optimizer"],
        ["learning_rate", "0.0001", "5e-05", "/2"],
    ]
    assert [line.split()[0] for line in lines[6:8]] == ["unet_lr", "text_encoder_lr"]
    assert lines[-1].startswith("5 differ, ")


def test_json(pair: tuple[Path, Path]) -> None:
    data = json.loads(run(*pair, "--json").output)
    assert data["differences"][0] == {
        "name": "network_dim",
        "section": "network",
        "left": 16,
        "right": 32,
        "ratio": 2.0,
    }


def test_a_file_and_itself_in_another_format_do_not_differ(tmp_path: Path) -> None:
    from kohyakit.formats.convert import convert

    preset = tmp_path / "a.json"
    preset.write_text(
        json.dumps({"LoRA_type": "Kohya LoCon", "conv_dim": 8, "epoch": 5, "unet_lr": 0}), encoding="utf-8"
    )
    for name in ("b.toml", "c.args"):
        convert(preset, tmp_path / name)
        assert run(preset, tmp_path / name).output == "No difference.\n"


def test_problems_of_both_files_at_once(tmp_path: Path) -> None:
    for name in ("a.toml", "b.toml"):
        (tmp_path / name).write_text("network_dim = 'x'\nseed = 1.5\n", encoding="utf-8")
    error = run(tmp_path / "a.toml", tmp_path / "b.toml").exception
    assert isinstance(error, ConfigError)
    assert len([problem for problem in error.problems if problem.severity == "error"]) == 4


def test_what_is_in_force_counts() -> None:
    base = TrainConfig().with_values(learning_rate=1e-4)
    assert differences(base, base.with_values(unet_lr=1e-4, text_encoder_lr=(1e-4, 1e-4), optimizer_type="AdamW")) == []
    assert [d.name for d in differences(base, base.with_values(max_train_epochs=3))] == [
        "max_train_steps",
        "max_train_epochs",
    ]
    (secret,) = differences(base, base.with_values(wandb_api_key="key"))
    assert secret.right == "***"

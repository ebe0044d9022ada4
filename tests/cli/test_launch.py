"""kohyakit launch at the door: accelerate's settings reach both backends."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from kohyakit.cli.launch import launch


@pytest.fixture
def toml(tmp_path):
    path = tmp_path / "train.toml"
    path.write_text('network_dim = 4\nmixed_precision = "fp16"\n', encoding="utf-8")
    return str(path)


def printed(*words: str) -> list[str]:
    done = CliRunner().invoke(launch, ["--print-command", *words])
    assert done.exit_code == 0, done.output
    return done.output.split()


def test_settings_for_the_built_in_trainer(toml):
    words = printed(
        toml, "--num_processes", "2", "--multi_gpu", "--gpu_ids", "0,1", "--main_process_port", "29501",
        "--mixed_precision", "bf16", "--machine_rank", "1", "--set", "network_dim=8", "--", "--rdzv_backend", "c10d",
    )  # fmt: skip
    at = words.index("-m", 3)
    assert words[1:3] == ["-m", "accelerate.commands.launch"]
    assert words[at : at + 4] == ["-m", "kohyakit", "train", toml]
    given, program = words[:at], words[at:]
    for option, value in (("--num_processes", "2"), ("--gpu_ids", "0,1"), ("--main_process_port", "29501"),
                          ("--mixed_precision", "bf16"), ("--machine_rank", "1"), ("--rdzv_backend", "c10d"),
                          ("--num_machines", "1"), ("--dynamo_backend", "no")):  # fmt: skip
        assert given[given.index(option) + 1] == value
    assert "--multi_gpu" in given
    # each process reads the config again, so what was replaced travels along
    assert "network_dim=8" in program
    assert "mixed_precision=bf16" in program


def test_settings_for_sd_scripts(toml):
    words = printed(toml, "--backend", "sd-scripts", "--sd-scripts", "/sd", "--num_processes", "2", "--", "--tee", "3")
    assert words[:2] == ["accelerate", "launch"]
    assert words[words.index("--num_processes") + 1] == "2"
    assert words[words.index("--tee") + 1] == "3"
    assert "/sd/train_network.py" in words


def test_several_processes_are_really_started(toml):
    """accelerate refuses --multi_gpu with one process, and may start a single one without it."""
    assert "--multi_gpu" in printed(toml, "--num_processes", "2")
    assert "--multi_gpu" not in printed(toml, "--num_processes", "2", "--", "--use_fsdp")
    assert "--multi_gpu" not in printed(toml, "--multi_gpu")


def test_wrong_values_are_sentences(toml):
    done = CliRunner().invoke(launch, [toml, "--num_processes", "0", "--print-command"])
    assert "num_processes is '0', but it must be at least 1" in str(done.exception)

"""Command lines: split, read, built."""

from __future__ import annotations

import pytest

from kohyakit.config.train import TrainConfig
from kohyakit.errors import ConfigError
from kohyakit.formats import command, loads


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("--a b", ["--a", "b"]),
        ('--a "b c"', ["--a", "b c"]),
        ("--a 'b \"c\"'", ["--a", 'b "c"']),
        (r"--a C:\photos\new", ["--a", r"C:\photos\new"]),
        ("accelerate launch \\\n  --a b \\\n  c", ["accelerate", "launch", "--a", "b", "c"]),
        ("accelerate launch ^\n  --a b", ["accelerate", "launch", "--a", "b"]),
        ("accelerate launch `\n  --a b", ["accelerate", "launch", "--a", "b"]),
        ("# a comment\n--a b\n  # another\n--c", ["--a", "b", "--c"]),
        ('--a ""', ["--a", ""]),
        ("--a x#y", ["--a", "x#y"]),
    ],
)
def test_split(text: str, words: list[str]) -> None:
    assert command.split(text) == words


@pytest.mark.parametrize(
    "words", [["--a", "b c"], ["--a", r"C:\x y\z"], ["it's"], ['say "hi"'], [""], ["a;b", "$x", "#1"], ["--x=1,2"]]
)
def test_join_is_split_backwards(words: list[str]) -> None:
    assert command.split(command.join(words)) == words


LINE = (
    'accelerate launch --num_processes 2 --mixed_precision bf16 --debug "D:/sd scripts/sdxl_train_network.py" '
    "--pretrained_model_name_or_path=model.safetensors --network_args conv_dim=4 conv_alpha=1 --learning_rate 1e-4 "
    "--cache_latents --text_encoder_lr 1e-5 2e-5 --lr_warmup_steps 10% --noise_offset -0.1 --what else"
)


def test_a_command_line_is_read() -> None:
    config = loads(LINE, "run.args")
    assert config.launch.script == "sdxl_train_network.py"
    assert config.launch.num_processes == 2
    assert config.launch.extra_accelerate_launch_args == "--debug"
    assert config["network_args"] == ("conv_dim=4", "conv_alpha=1")
    assert config["text_encoder_lr"] == (1e-5, 2e-5)
    assert config["learning_rate"] == 1e-4
    assert config["cache_latents"] is True
    assert config["lr_warmup_steps"] == 0.1
    assert config["noise_offset"] == -0.1
    assert config.launch.additional_parameters == "--what else"


def test_the_beginning_of_one_options_name_is_enough() -> None:
    assert loads("--pretrained_model x --network_di 4", "x.args")["network_dim"] == 4


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("--network_dim", "--network_dim needs a value; write --network_dim VALUE"),
        ("--cache_latents=yes", "--cache_latents takes no value"),
        ("--network_dim four", "network_dim is 'four', but a whole number was wanted"),
        ('--output_name "x', "close the quote"),
    ],
)
def test_lines_that_cannot_be_used(text: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loads(text, "x.args")
    assert told in str(caught.value)


def test_build_and_read_back() -> None:
    config = TrainConfig().with_values(
        network_dim=8, learning_rate=1e-5, lr_warmup_steps=0.1, network_args=("conv_dim=4",), output_name="a b",
        cache_latents=True,
        max_train_epochs=3, output_dir="C:\\out\\", noise_offset=-0.5, wandb_api_key="secret", flip_aug=True,
    )  # fmt: skip
    words = command.build(config)
    assert "secret" not in words
    assert words[:2] == ["accelerate", "launch"]
    back = loads(command.as_text(words), "x.args")
    assert [name for name, value in config.items() if back[name] != value] == ["wandb_api_key"]
    assert back["lr_warmup_steps"] == 0.1


def test_a_whole_share_is_a_percentage_on_the_command_line() -> None:
    words = command.script_arguments(TrainConfig().with_values(lr_warmup_steps=1.0))
    assert words == ["--lr_warmup_steps", "100%"]
    assert loads(command.join(words), "x.args")["lr_warmup_steps"] == 1.0


def test_what_the_script_does_not_know_is_left_out() -> None:
    config = TrainConfig().with_values(clip_g="x", network_dim=4)
    assert command.script_arguments(config) == ["--network_dim", "4"]
    assert command.unread(config) == ["clip_g"]

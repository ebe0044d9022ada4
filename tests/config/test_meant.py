"""Which name or choice was meant: by meaning first, then by spelling, never something else that looks alike."""

from __future__ import annotations

import pytest

from kohyakit.config.meant import OTHER_NAMES, meant_choice, meant_name
from kohyakit.config.train import SPECS
from kohyakit.formats import read


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("batch_size", "train_batch_size"),
        ("lr_restart_cycles", "lr_scheduler_num_cycles"),
        ("base_model", "pretrained_model_name_or_path"),
        ("Rank", "network_dim"),
        ("netwrk_dim", "network_dim"),
        ("network-dim", "network_dim"),
        ("networkdim", "network_dim"),
        ("learning_rat", "learning_rate"),
        ("max_train_epoch", "max_train_epochs"),
        ("noise_offset_type", ""),
        ("network_dim", ""),
        ("batch", "train_batch_size"),
        ("bucket_reso", ""),
        ("xyzzy", ""),
    ],
)
def test_names(name: str, meant: str) -> None:
    assert meant_name(name, SPECS()) == meant


def test_every_other_name_leads_to_a_parameter_and_is_none_itself() -> None:
    for other, name in OTHER_NAMES.items():
        assert name in SPECS()
        assert other not in SPECS()


PRECISIONS = ("float", "fp16", "bf16")


@pytest.mark.parametrize(
    ("value", "choices", "meant"),
    [
        ("float16", PRECISIONS, "fp16"),
        ("FP16", PRECISIONS, "fp16"),
        ("half", PRECISIONS, "fp16"),
        ("bfloat16", PRECISIONS, "bf16"),
        ("float32", PRECISIONS, "float"),
        ("fp32", ("no", "fp16", "bf16"), "no"),
        ("bfloat16", ("float", "fp16"), ""),
        ("fp61", PRECISIONS, "fp16"),
        ("mse", ("l2", "huber"), "l2"),
        (16, PRECISIONS, "fp16"),
        ("something", PRECISIONS, ""),
    ],
)
def test_choices(value: object, choices: tuple[str, ...], meant: str) -> None:
    assert meant_choice(value, choices) == meant


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('save_precision = "float16"', "did you mean 'fp16'?"),
        ('mixed_precision = "FP16"', "did you mean 'fp16'?"),
        ("batch_size = 4", "did you mean 'train_batch_size'?"),
        ("resolution = [128, 128]", 'write "128,128"'),
        ("resolution = 512", 'write "512"'),
        ('sample_prompts = ["a", "b"]', "name a .txt file with one prompt a line"),
        ('output_name = ["a"]', 'take the brackets away: output_name = "a"'),
        ("seed = [3]", "take the brackets away: seed = 3"),
        ('wandb_api_key = ["hunter2"]', "but text was wanted"),
    ],
)
def test_the_cure_in_a_file(line: str, told: str) -> None:
    _, problems = read(line + "\n", "x.toml")
    assert any(told in str(problem) for problem in problems)
    assert not any("hunter2" in str(problem) for problem in problems)


def test_one_finding_for_a_key_that_the_gui_writes_for_itself() -> None:
    config, problems = read('network_module = "networks.lora"\nepoch = 10\nnoise_offset_type = "Original"\n', "x.toml")
    assert [p.name for p in problems if "noise_offset_type" in p.what] == ["unread_parameter"]
    assert not [p for p in problems if "epoch" in p.what]  # a rule says it once, with its cure
    assert config.source is not None
    assert ("noise_offset_type", "unknown") not in [(n.key, n.action) for n in config.source.notes]
    _, problems = read("epoch = 10\nmax_train_steps = 500\n", "x.toml")
    assert [p.what for p in problems] == ["epoch has no effect: max_train_steps 500 decides"]

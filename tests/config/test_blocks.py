"""Ranks, alphas and rates by block: counting and curves worked out by hand, and sd-scripts' own recorded numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kohyakit.config.arguments.blocks import block_number, blocks_of
from kohyakit.config.arguments.network_modules import parse_network_args
from kohyakit.errors import ConfigError


def made(*args: str, count: int = 25, dim: int = 8, alpha: float = 4.0):
    return blocks_of(parse_network_args(args), dim, alpha, count)


def numbers(*given: object) -> str:
    return ",".join(map(str, given))


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("lora_unet_down_blocks_0_attentions_0_proj_in", 1),
        ("lora_unet_down_blocks_1_resnets_1_conv1", 5),
        ("lora_unet_down_blocks_2_downsamplers_0_conv", 9),
        ("lora_unet_down_blocks_3_resnets_1_conv2", 11),
        ("lora_unet_mid_block_attentions_0_proj_out", 12),
        ("lora_unet_up_blocks_0_upsamplers_0_conv", 15),
        ("lora_unet_up_blocks_3_attentions_2_transformer_blocks_0_ff_net_2", 24),
        ("lora_unet_input_blocks_4_1_proj_in", 5),
        ("lora_unet_middle_block_1_proj_in", 11),
        ("lora_unet_output_blocks_8_0_skip_connection", 21),
    ],
)
def test_the_number_of_a_layers_block(name: str, number: int) -> None:
    assert block_number(name) == number


@pytest.mark.shared
def test_every_layer_of_sdxl_lies_in_the_block_that_sd_scripts_says(goldens: Path) -> None:
    recorded = json.loads((goldens / "training2/sdxl_full_lora_names.json").read_text(encoding="utf-8"))
    rows = recorded["rank8_alpha4"] | recorded["rank8_alpha4_conv4_extra"]
    theirs = {name: row[2] for name, row in rows.items() if name.startswith("lora_unet")}
    assert len(theirs) == 788
    assert {name: block_number(name) for name in theirs} == theirs


RATES = {
    # arguments, blocks of the model -> some of the factors by number
    "one part": (("up_lr_weight=0.5,0.25",), 25, {0: 1, 12: 1, 13: 0.5, 14: 0.25, 15: 1, 24: 1}),
    "a blank is 0": (("down_lr_weight=1,,0.5",), 25, {0: 1, 1: 0, 2: 0.5, 3: 1}),
    "sine": (("down_lr_weight=sine",), 25, {0: 0, 11: 1, 12: 1}),
    "sine and base": (("down_lr_weight=sine+.25",), 25, {0: 0.25, 11: 1.25}),
    "cosine": (("up_lr_weight=cosine",), 25, {13: 1, 24: 0}),
    "linear": (("up_lr_weight=linear",), 25, {13: 0, 14: 1 / 11, 24: 1}),
    "reverse": (("up_lr_weight=reverse_linear",), 25, {13: 1, 23: 1 / 11, 24: 0}),
    "middle": (("mid_lr_weight=0.3",), 25, {11: 1, 12: 0.3, 13: 1}),
    "threshold": (("down_lr_weight=linear", "block_lr_zero_threshold=0.1"), 25, {0: 0, 1: 0, 2: 2 / 11, 13: 1}),
    "threshold of ones": (("mid_lr_weight=0.1", "block_lr_zero_threshold=1"), 25, {0: 1, 12: 0, 13: 1}),
    "too many": (("mid_lr_weight=0.1,0.2",), 25, {12: 0.1, 13: 1}),
    "sdxl": (("down_lr_weight=linear", "mid_lr_weight=0.3,0.4"), 23,
             {0: 1, 1: 0, 2: 1 / 8, 9: 1, 10: 0.3, 11: 0.4, 12: 1, 13: 1, 22: 1}),
}  # fmt: skip


@pytest.mark.parametrize("case", RATES)
def test_factors_on_the_learning_rate(case: str) -> None:
    args, count, expected = RATES[case]
    found = made(*args, count=count)
    assert len(found.rates) == len(found.dims) == count
    assert {number: found.rates[number] for number in expected} == pytest.approx(expected)
    assert [dim == 0 for dim in found.dims] == [rate == 0 for rate in found.rates]  # no rate, no layer


def test_ranks_and_alphas_by_block() -> None:
    dims, alphas = numbers(*range(25)), numbers(*(n / 2 for n in range(25)))
    found = made(f"block_dims={dims}", f"block_alphas={alphas}", "conv_dim=3", "conv_alpha=2")
    assert found.size_of("lora_unet_down_blocks_1_attentions_0_proj_in", 1) == (4, 2)
    assert found.size_of("lora_unet_down_blocks_1_resnets_0_conv1", 3) == (3, 2)
    assert found.rates is None
    own = made(f"block_dims={dims}", f"conv_block_dims={dims}", f"conv_block_alphas={alphas}")
    assert own.size_of("lora_unet_up_blocks_1_resnets_1_conv2", 3) == (17, 8.5)
    assert own.size_of("lora_unet_up_blocks_1_resnets_1_conv_shortcut", 1) == (17, 4)
    assert made(f"block_dims={dims}").size_of("lora_unet_up_blocks_1_resnets_1_conv2", 3) == (0, 0)
    assert made(f"conv_block_dims={dims}") is None  # which sd-scripts reads beside block_dims or weights only


def test_everything_wrong_at_once() -> None:
    with pytest.raises(ConfigError) as error:
        made("block_dims=1,2", "block_alphas=1", "down_lr_weight=sinus", "up_lr_weight=0.5", "mid_lr_weight=a")
    assert [problem.name for problem in error.value.problems] == [
        "block_count_wrong", "block_count_wrong", *["block_weight_unreadable"] * 3,
    ]  # fmt: skip

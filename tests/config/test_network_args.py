"""network_args, optimizer_args and lr_scheduler_args as sd-scripts reads them."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kohyakit.config.sections.network import MODULE_ARGS, NETWORK_ARG_SPECS, parse_network_args
from kohyakit.config.sections.optimizer import parse_key_values
from kohyakit.errors import ConfigError


def test_network_args():
    args = parse_network_args(
        ("conv_dim=16", "conv_alpha=8", "rank_dropout=0.1", "block_dims=4,8,12", "down_lr_weight=sine+.5", "conv_dim=4")
    )
    assert args.problems == ()
    assert (args.conv_dim, args.conv_alpha, args.rank_dropout) == (4, 8, 0.1)  # a later one replaces an earlier one
    assert args.block_dims == (4, 8, 12)
    assert args.down_lr_weight == "sine+.5"
    assert args.module_dropout is None


def test_what_lycoris_prints():
    texts = "preset=full conv_dim=8 conv_alpha=1 use_tucker=False rank_dropout=0 dora_wd=True algo=lokr factor=-1"
    args = parse_network_args(texts.split())
    assert (args.algo, args.factor, args.dora_wd, args.use_tucker) == ("lokr", -1, True, False)


def test_all_network_arg_problems_at_once():
    args = parse_network_args(("rank_dropot=0.1", "conv_dim", "module_dropout=3", "brand_new=1"))
    assert [(p.name, p.severity) for p in args.problems] == [
        ("unknown_network_arg", "error"),
        ("bad_network_arg", "error"),
        ("bad_network_arg", "error"),
        ("unknown_network_arg", "warning"),
    ]
    assert "'rank_dropout'" in args.problems[0].cure
    assert args.extras == {"rank_dropot": "0.1", "brand_new": "1"}


@given(st.lists(st.text(max_size=30), max_size=5))
def test_network_args_never_raise(texts):
    parse_network_args(texts)


def test_each_module_takes_known_arguments():
    for module, names in MODULE_ARGS.items():
        assert names <= set(NETWORK_ARG_SPECS()), module


@pytest.mark.parametrize(
    ("texts", "wanted"),
    [
        (None, {}),
        (("weight_decay=0.01", "betas=0.9,0.999", "decouple=True"), None),
        (("name='a'", "x=None", "x=[1, 2]"), None),
    ],
)
def test_key_values_are_python_literals(texts, wanted):
    # the rule of sd-scripts, in its own words: split at "=", ast.literal_eval
    expected = wanted if wanted is not None else {t.split("=")[0]: ast.literal_eval(t.split("=")[1]) for t in texts}
    assert parse_key_values(texts) == expected


def test_every_bad_key_value_with_its_cure():
    with pytest.raises(ConfigError) as caught:
        parse_key_values(("decouple=true", "a=b=c", "plain", "algo=adam", "betas=(1,"))
    assert [p.cure.split()[:2] for p in caught.value.problems] == [
        ["write", "True"],
        ["write", "it"],
        ["write", "it"],
        ["put", "text"],
        ["write", "a"],
    ]

"""Loose values become typed ones, or a sentence. Expected values are sd-scripts' own readings, worked out by hand."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kohyakit.config.read import read_values
from kohyakit.config.train import SPECS
from kohyakit.config.values import Unreadable, coerce

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just("1e400"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize(
    ("name", "value", "gui", "wanted"),
    [
        ("network_dim", "12.0", False, 12),
        ("learning_rate", "1e-4", False, 0.0001),
        ("v2", "False", False, False),
        ("resolution", 512, False, "512"),
        ("lr_warmup_steps", 0.1, False, 0.1),
        ("lr_warmup_steps", "100", False, 100),
        ("network_args", "conv_dim=8 conv_alpha=4", False, ("conv_dim=8", "conv_alpha=4")),
        ("text_encoder_lr", 5e-5, False, (5e-5,)),
        # a 0 in a TOML is a seed, a frozen U-Net; in a GUI preset it is "off"
        ("seed", 0, False, 0),
        ("seed", 0, True, None),
        ("seed", "0", True, None),
        ("unet_lr", 0, False, 0),
        ("unet_lr", 0, True, None),
        ("vae_batch_size", 0, True, 1),
        # sd-scripts itself tests these for truth, so a 0 is off wherever it stands
        ("min_snr_gamma", 0, False, None),
        ("noise_offset", 0.0, False, None),
        ("sample_every_n_steps", 0, False, None),
        # 75 is what sd-scripts does without the option
        ("max_token_length", 75, False, None),
        ("max_token_length", 225, False, 225),
        ("max_token_length", 0, True, None),
    ],
)
def test_reads(name, value, gui, wanted):
    assert coerce(SPECS()[name], value, gui=gui) == wanted


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("network_dim", 0, "at least 1"),
        ("network_dim", 2.5, "whole number"),
        ("seed", True, "whole number"),
        ("learning_rate", "nan", "finite"),
        ("learning_rate", -1, "at least 0"),
        ("text_encoder_lr", [1e-4, -1], "at least 0"),
        ("mixed_precision", "bf61", "did you mean 'bf16'"),
        ("max_token_length", 77, "one of 150, 225"),
        ("caption_dropout_rate", 1.5, "at most 1"),
        ("save_every_n_epochs", 0, "at least 1"),  # sd-scripts divides by it
        ("network_args", {"conv_dim": 8}, "list"),
        ("shuffle_caption", "maybe", "true or false"),
    ],
)
def test_refuses_with_what_was_wanted(name, value, words):
    with pytest.raises(Unreadable, match=words):
        coerce(SPECS()[name], value)


@given(st.dictionaries(st.sampled_from(sorted(SPECS())) | st.text(max_size=12), JSON, max_size=6), st.booleans())
def test_no_value_of_any_type_makes_a_traceback(values, gui):
    config, problems = read_values(values, "x.toml", gui=gui)
    assert all(str(problem).startswith("x.toml: ") for problem in problems)
    unknown = [name for name in values if name not in SPECS()]
    assert set(config.extras) == set(unknown)
    for name in set(values) - set(unknown):
        json.dumps(config[name])  # plain data


def test_every_problem_of_a_file_at_once():
    values = {"network_dim": 0, "lr_shceduler": "cosine", "seed": [], "save_precision": "fp61"}
    _, problems = read_values(values, "a.toml")
    assert len(problems) == 4


@pytest.mark.parametrize(
    ("values", "severity", "meant"),
    [
        ({"netwrk_alpha": 1}, "error", "network_alpha"),  # silently 1.0 otherwise
        ({"netwrk_alpha": 1, "network_alpha": 8}, "warning", "network_alpha"),
        ({"frobnicate": 1}, "warning", ""),
        ({"noise_offset_type": "Original"}, "hint", ""),  # the GUI writes it into every file
    ],
)
def test_unknown_names(values, severity, meant):
    config, problems = read_values(values, "a.toml")
    name = next(iter(values))
    (problem,) = [p for p in problems if f"'{name}'" in p.what]
    assert problem.severity == severity
    assert (f"'{meant}'" in problem.cure) == bool(meant)
    assert config.extras == {name: values[name]}


def test_secrets_are_not_shown():
    _, (problem,) = read_values({"wandb_api_key": ["hunter2"]}, "a.toml")
    assert "hunter2" not in str(problem)

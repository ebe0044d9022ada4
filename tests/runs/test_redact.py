"""Keys stay out of records, and nothing else is touched."""

from __future__ import annotations

import pytest

from kohyakit.config.train import TrainConfig
from kohyakit.runs.redact import blot, is_secret, secret_values, without_secrets


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"wandb_api_key": "abc123"}', '{"wandb_api_key": "REDACTED"}'),
        ('{"wandb_api_key": "a\\"b"}', '{"wandb_api_key": "REDACTED"}'),
        ("huggingface_token = 'hf_x'\nseed = 1", "huggingface_token = 'REDACTED'\nseed = 1"),
        ('huggingface_token="""a\nb"""', 'huggingface_token="""REDACTED"""'),
        ('{"wandb_api_key": ""}', '{"wandb_api_key": ""}'),
        ("--wandb_api_key abc --seed 3", "--wandb_api_key REDACTED --seed 3"),
        ("--huggingface_token=abc --seed=3", "--huggingface_token=REDACTED --seed=3"),
        ("--wandb_api_key --seed 3", "--wandb_api_key --seed 3"),
        ('my_service_token = "t"', 'my_service_token = "REDACTED"'),
        ('class_tokens = "sks dog"', 'class_tokens = "sks dog"'),
        ('{"keep_tokens": "1", "max_token_length": "75"}', '{"keep_tokens": "1", "max_token_length": "75"}'),
        ('keep_tokens_separator = "|||"', 'keep_tokens_separator = "|||"'),
        ("caption = \"the token = 'x'\"", "caption = \"the token = 'x'\""),
    ],
)
def test_text(text: str, expected: str) -> None:
    assert blot(text) == expected


def test_a_known_value_is_blotted_wherever_it_stands() -> None:
    assert blot("comment = 'use hf_abcdefgh here'", ("hf_abcdefgh",)) == "comment = 'use REDACTED here'"
    assert blot("dog = 1", ("dog",)) == "dog = 1"  # a word, not a key


def test_a_config_without_its_secrets() -> None:
    config = TrainConfig().with_values(
        wandb_api_key="wandb-key-123", training_comment="wandb-key-123 is mine", network_args=("a=1",), seed=3
    )
    assert secret_values(config) == ("wandb-key-123",)
    clean = without_secrets(config)
    assert clean["wandb_api_key"] is None
    assert clean["training_comment"] == "REDACTED is mine"
    assert (clean["network_args"], clean["seed"]) == (("a=1",), 3)
    assert config["wandb_api_key"] == "wandb-key-123"


@pytest.mark.parametrize(
    "name",
    ["class_tokens", "keep_tokens", "keep_tokens_separator", "max_token_length", "no_token_padding", "token_string"],
)
def test_tokens_of_captions_are_no_secret(name: str) -> None:
    assert not is_secret(name)

"""What becomes of a model's words: modes, kept tokens, triggers, loops."""

from __future__ import annotations

import pytest

from kohyakit.captioning.base import tidy
from kohyakit.dataset.captions.compose import Rules, compose


@pytest.mark.parametrize(
    ("old", "said", "rules", "expected"),
    [
        ("", "a church, sky", Rules(), "a church, sky"),
        ("sks, old town", "church, sky", Rules("overwrite"), "church, sky"),
        ("sks, old town", "church, sky", Rules("overwrite", keep_tokens=1), "sks, church, sky"),
        ("old town, sky", "church, Sky", Rules("append"), "old town, sky, church"),
        ("sks, old town, sky", "church, sky", Rules("prepend", keep_tokens=1), "sks, church, sky, old town"),
        ("old town", "church", Rules("overwrite", trigger="sks"), "sks, church"),
        ("sks, old town", "church", Rules("append", trigger="sks"), "sks, old town, church"),
        ("", "church", Rules(prefix="photo of", suffix="by day,"), "photo of, church, by day"),
        ("", "a man stands on a wall", Rules(trigger="sks man"), "sks man, a man stands on a wall"),
    ],
)
def test_compose(old: str, said: str, rules: Rules, expected: str) -> None:
    assert compose(old, said, rules) == expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("  A church.\n\nIt is old. ", "A church. It is old."),
        ("<|im_start|>assistant: a church<|im_end|>", "a church"),
        ('"a church"', "a church"),
        ("sky, tree, tree, tree, tree", "sky, tree"),
        ("a wall. a gate. a door. a gate. a door. a gate. a door", "a wall. a gate. a door"),
        ("the the the the the", "the"),
        ("a tower and a tower", "a tower and a tower"),  # twice is no loop
        ("", ""),
        ("</s>", ""),
    ],
)
def test_tidy(said: str, expected: str) -> None:
    assert tidy(said) == expected

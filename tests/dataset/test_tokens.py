"""Token ids against sd-scripts' recordings and against transformers' own tokenizer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("tokenizers")

from kohyakit.dataset.captions.tokens import BOS, EOS, chunks, count_tokens, encode, parse_weights, weighted_chunks


@pytest.mark.shared
def test_every_row_is_sd_scripts_own(goldens: Path) -> None:
    rows = json.loads((goldens / "training/tokenizer/tokenize.json").read_text(encoding="utf-8"))
    assert len(rows) == 54
    for row in rows:
        text, room = row["text"], row["max_token_length"]
        assert chunks(encode(text), room) == row["input_ids"][0], text
        ids, weights = weighted_chunks(text, room)
        assert ids == row["weighted_input_ids"][0], text
        for ours, theirs in zip(weights, row["weights"][0], strict=True):
            assert ours == pytest.approx(theirs, rel=1e-6), text


@pytest.mark.shared
def test_captions_of_the_golden_runs(goldens: Path) -> None:
    for case, room in (("basic", None), ("adafactor", 225)):
        for line in (goldens / f"training/{case}/steps.jsonl").read_text(encoding="utf-8").splitlines():
            step = json.loads(line)
            for caption, ids in zip(step["captions"], step["input_ids"], strict=True):
                assert chunks(encode(caption), room) == (ids if isinstance(ids[0], list) else [ids])


WORDS = ["a photo of sks dog", "it's 3.14, NICE & <b>", "tab\there", "x" * 40, "under_score", "(a:1.2)", "don't"]


def test_ids_are_those_of_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    from kohyakit.resources import clip_vocabulary

    theirs = transformers.CLIPTokenizer(str(clip_vocabulary() / "vocab.json"), str(clip_vocabulary() / "merges.txt"))
    for text in WORDS:
        # plain letters only: today's CLIPTokenizer no longer cleans with ftfy, as that of sd-scripts does
        assert encode(text) == theirs(text).input_ids[1:-1], text


def test_by_hand() -> None:
    # vocab.json: "cat</w>" 2368, "dog</w>" 1929, ",</w>" 267
    assert encode("Cat,  DOG") == [2368, 267, 1929]
    assert count_tokens("") == 0
    assert chunks([2368]) == [[BOS, 2368, *[EOS] * 75]]
    assert [len(chunk) for chunk in chunks([1] * 500, 225)] == [77, 77, 77]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", []),
        ("a (b:1.5) c", [("a ", 1.0), ("b", 1.5), (" c", 1.0)]),
        ("((b))", [("b", 1.1 * 1.1)]),
        ("[b]", [("b", 1 / 1.1)]),
        (r"\(b\)", [("(b)", 1.0)]),
        ("(b", [("b", 1.1)]),
        ("b)", [("b)", 1.0)]),
        ("time: 10:30", [("time: 10:30", 1.0)]),
        ("(b:x)", [("b:x", 1.1)]),
        ("(b: 1.3)", [("b: 1.3", 1.1)]),
    ],
)
def test_emphasis(text: str, parts: list[tuple[str, float]]) -> None:
    assert parse_weights(text) == [(part, pytest.approx(weight)) for part, weight in parts]


@given(st.text(max_size=80))
def test_any_text_has_ids_and_weights_in_step(text: str) -> None:
    ids, weights = weighted_chunks(text, 150)
    assert [len(row) for row in ids] == [len(row) for row in weights] == [77, 77]
    assert all(0 <= token <= EOS for row in ids for token in row)

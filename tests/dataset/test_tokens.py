"""Token ids against sd-scripts' recordings and against transformers' own tokenizer."""

from __future__ import annotations

import json
import random
import unicodedata
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("tokenizers")

from kohyakit.dataset.captions.tokens import (
    BOS,
    EOS,
    chunks,
    count_tokens,
    count_tokens_of,
    encode,
    parse_weights,
    weighted_chunks,
)


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


ODD = [
    "'s", "'T", "'ll", "don't", "O'Brien's", "3.14", "1st", "²", "½", "Ⅷ", "①", "٣", "_", "__init__",
    "-", "--", "…", "“", "”", "’", "„", "&amp;", "&lt;3", "&eacute;", "<b>", "</b>", "\\(", ":)", ">_<",
    "[b]", "(a:1.2)", "{c}", "~", "|", "@user", "#tag", "100%", "café", "cafe\u0301", "naïve",
    "Ångström", "ÀÉ", "ﬁne", "ß", "ẞ", "İstanbul", "ısı", "ΟΔΟΣ", "Москва", "ё", "שלום", "مرحبا", "日本語",
    "猫", "한국어", "ไทย", "हिन्दी", "👍🏽", "👩\u200d👧", "🇩🇪", "☃", "♥\ufe0f", "→", "𝔘𝔫𝔦", "Ｆｌ", "ⓐ", "\u200b",
    "\u200d", "\ufeff", "\xad", "\xa0", "\u3000", "\t", "\n", "\r\n", "  ", "Ã©", "â€™", "ï¿½", "\ufffd",
    "\x07", "\x85", "xxxxxxxxxxxxxxxxxxxx", "\u0345", "aAbBcC", "SKS", "masterpiece", "ohwx", "photo",
    "of", "a", "gargoyle", ",", ",,", ".", "!", "?!", "/", "http://x.y/z?q=1&r=2", "C:\\img", "a_b-c.d",
    "¿qué?", "«»", "archway",
]  # fmt: skip


def _published(texts: list[str]) -> list[list[int]]:
    """CLIP's tokenizer as it was published (a byte's sign, the cheapest merge first), in plain Python."""
    regex, ftfy = pytest.importorskip("regex"), pytest.importorskip("ftfy")
    from kohyakit.resources import clip_vocabulary

    ids = json.loads((clip_vocabulary() / "vocab.json").read_text(encoding="utf-8"))
    merges = (clip_vocabulary() / "merges.txt").read_text(encoding="utf-8").split("\n")[1 : 49152 - 256 - 2 + 1]
    ranks = {tuple(merge.split()): rank for rank, merge in enumerate(merges)}
    shown = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in shown]
    sign = {byte: chr(byte) for byte in shown} | {byte: chr(256 + at) for at, byte in enumerate(hidden)}
    pattern = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+", regex.IGNORECASE)
    known: dict[str, list[int]] = {}

    def of_word(word: str) -> list[int]:
        parts = [*word[:-1], word[-1] + "</w>"]
        while len(parts) > 1:
            pairs = list(pairwise(parts))
            first = min(pairs, key=lambda pair: ranks.get(pair, len(ranks)))
            if first not in ranks:
                break
            joined, at = [], 0
            while at < len(parts):
                both = tuple(parts[at : at + 2]) == first
                joined.append("".join(first) if both else parts[at])
                at += 2 if both else 1
            parts = joined
        return [ids[part] for part in parts]

    found = []
    for text in texts:
        clean = regex.sub(r"\s+", " ", ftfy.fix_text(text)).strip().lower()
        words = ("".join(sign[byte] for byte in word.encode()) for word in pattern.findall(clean))
        found.append([one for word in words for one in known.setdefault(word, of_word(word))])
    return found


def test_ten_thousand_odd_strings_have_the_published_tokens() -> None:
    rng = random.Random(0)
    signs = [chr(code) for code in range(32, 0x1FAFF) if unicodedata.category(chr(code)) not in ("Cn", "Cs", "Co")]
    texts = [
        "".join(rng.choices(signs, k=rng.randint(1, 20)))
        if number % 4 == 0
        else rng.choice(["", " ", ", "]).join(rng.choices(ODD, k=rng.randint(1, 8)))
        for number in range(10_000)
    ]
    expected = _published(texts)
    assert [text for text, ids in zip(texts, expected, strict=True) if encode(text) != ids] == []
    assert count_tokens_of(texts) == [len(ids) for ids in expected]

"""Caption files as they are, and captions as values."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kohyakit.dataset.captions.caption import (
    BadCaption,
    Caption,
    caption_names,
    has_words,
    misspelt,
    read_lines,
    trained_text,
)


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"a dog, park\n", ("a dog, park",)),
        ("Café 犬".encode(), ("Café 犬",)),
        (b"\xef\xbb\xbfa dog\r\n", ("a dog",)),
        (b"one\rtwo\r\n three ", ("one", "two", "three")),
        ("a\u2028b\x0bc".encode(), ("a\u2028b\x0bc",)),
        (b"\n", ("",)),
    ],
)
def test_lines(tmp_path: Path, data: bytes, lines: tuple[str, ...]) -> None:
    assert read_lines(write(tmp_path / "a.txt", data)) == lines


@pytest.mark.parametrize(
    ("data", "told"), [(b"", "empty"), ("Café".encode("latin-1"), "byte 4 is 0xe9"), ("a".encode("utf-16"), "UTF-16")]
)
def test_what_cannot_be_used_says_so(tmp_path: Path, data: bytes, told: str) -> None:
    with pytest.raises(BadCaption, match=told):
        read_lines(write(tmp_path / "a.txt", data))


def test_first_line_counts_and_wildcards_take_all(tmp_path: Path) -> None:
    lines = read_lines(write(tmp_path / "a.txt", b"one\n\ntwo\n"))
    assert trained_text(lines) == "one"
    assert trained_text(lines, enable_wildcard=True) == "one\ntwo"


def test_names() -> None:
    assert caption_names("a.b.jpg", ".txt") == ("a.b.txt",)
    assert caption_names("photo_1_2_30_40.png", ".caption") == ("photo_1_2_30_40.caption", "photo.caption")


def test_a_caption_as_a_value() -> None:
    caption = Caption.parse(" sks dog ,park,, Grass")
    assert caption.tags == ("sks dog", "park", "Grass")
    assert str(caption.with_tag("sun").with_tag("PARK").with_tag("first", first=True)) == (
        "first, sks dog, park, Grass, sun"
    )
    assert caption.without_tag("grass").render() == "sks dog, park"
    assert caption.with_tag_replaced("park", "beach").render() == "sks dog, beach, Grass"
    assert caption.with_tag_replaced("park", "grass").render() == "sks dog, Grass"


@given(st.lists(st.text(st.characters(exclude_characters=",", exclude_categories=["Cs"]), min_size=1)))
def test_parse_and_render_are_inverse(tags: list[str]) -> None:
    caption = Caption.parse(",".join(tags))
    assert Caption.parse(caption.render()) == caption


@pytest.mark.parametrize("text", ["", " ", ", , ,", "...", "\u200b\ufeff\u2060", "\u3164", "\ufffd", " \n,\n", "!?"])
def test_separators_and_invisible_signs_are_no_words(text: str) -> None:
    assert not has_words(text)


@pytest.mark.parametrize("text", ["a", "1", "猫", "🐈", "\u200bcat", "+", "ก"])
def test_a_letter_a_digit_or_a_symbol_is_a_word(text: str) -> None:
    assert has_words(text)


NFC, NFD = (unicodedata.normalize(form, "müller") for form in ("NFC", "NFD"))


@pytest.mark.parametrize(
    ("image", "caption", "why"),
    [
        (f"{NFD}.png", f"{NFC}.txt", "accents"),
        (f"{NFC}.png", f"{NFD}.txt", "accents"),
        ("Case.PNG", "case.txt", "capitals and small letters"),
        ("a.png", "a.TXT", "capitals and small letters"),
        ("Strasse.png", "STRASSE.txt", "capitals"),
        (f"{NFD.upper()}.png", f"{NFC}.txt", "capitals"),
        ("trail .png", "trail.txt", "blanks"),
        ("a b.png", "a  b.txt", "blanks"),
        ("a\u00a0b.png", "a b.txt", "blanks"),
        ("A b.png", "ab.txt", "other blanks and other capitals"),
        ("ｃａｔ.png", "cat.txt", "another form"),
        ("cat\u200b.png", "cat.txt", "invisible"),
    ],
)
def test_names_that_differ_unseen_pair_with_the_reason(image: str, caption: str, why: str) -> None:
    ((found, (name, reason)),) = misspelt([image], {image, caption}, ".txt").items()
    assert (found, name) == (image, caption)
    assert why in reason


@pytest.mark.parametrize(
    ("images", "captions"),
    [
        (["a.png"], ["a.txt", "A.txt"]),  # it has its own
        (["a.png", "A.jpg"], ["A .txt"]),  # two could be meant
        (["a.png"], ["A.txt", "a .txt"]),
        (["a.png"], ["b.txt"]),
        (["a.png"], ["A.caption"]),
        (["A.png", "a.jpg"], ["a.txt"]),  # the caption belongs to another
    ],
)
def test_names_that_could_mean_another_do_not_pair(images: list[str], captions: list[str]) -> None:
    assert misspelt(images, {*images, *captions}, ".txt") == {}

"""Caption files as they are, and captions as values."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kohyakit.dataset.caption import BadCaption, Caption, caption_names, find_caption, read_caption, read_lines


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
    path = write(tmp_path / "a.txt", b"one\n\ntwo\n")
    assert read_caption(path) == "one"
    assert read_caption(path, enable_wildcard=True) == "one\ntwo"
    assert read_caption(None, class_tokens="sks dog") == "sks dog"
    assert read_caption(None) == ""


def test_names() -> None:
    assert caption_names("a.b.jpg", ".txt") == ("a.b.txt",)
    assert caption_names("photo_1_2_30_40.png", ".caption") == ("photo_1_2_30_40.caption", "photo.caption")
    assert find_caption(Path("d/a_1_2_3_4.jpg"), ".txt", {"a.txt"}) == Path("d/a.txt")
    assert find_caption(Path("d/a.jpg"), ".txt", {"b.txt"}) is None


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

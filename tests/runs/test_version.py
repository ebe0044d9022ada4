"""Names of runs: read, written, ordered, given."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kohyakit.errors import RunError
from kohyakit.runs.version import Version, next_version

versions = st.builds(Version, st.integers(1, 10**6), st.integers(1, 26**4))


def spreadsheet_column(number: int) -> str:
    """The letters of a spreadsheet's column, found by counting rather than by arithmetic."""
    text = ""
    for _ in range(number):
        letters = list(text)
        place = len(letters) - 1
        while place >= 0 and letters[place] == "z":
            letters[place] = "a"
            place -= 1
        if place < 0:
            letters.insert(0, "a")
        else:
            letters[place] = chr(ord(letters[place]) + 1)
        text = "".join(letters)
    return text


@given(versions)
def test_text_of_a_version_parses_back(version: Version) -> None:
    assert Version.parse(str(version)) == version


@given(st.integers(1, 3000))
def test_letters_count_as_a_spreadsheet_counts_columns(letter: int) -> None:
    assert str(Version(1, letter)) == "1" + spreadsheet_column(letter)


@pytest.mark.parametrize(
    ("text", "number", "letter"),
    [("1a", 1, 1), ("2c", 2, 3), ("1z", 1, 26), ("1aa", 1, 27), ("3ba", 3, 53), ("10a", 10, 1), (" 7B ", 7, 2)],
)
def test_known_versions(text: str, number: int, letter: int) -> None:
    assert Version.parse(text) == Version(number, letter)


def test_order_is_by_number_then_by_letter_as_counted() -> None:
    texts = ["10a", "1aa", "2a", "1z", "1a", "2b"]
    assert [str(v) for v in sorted(map(Version.parse, texts))] == ["1a", "1z", "1aa", "2a", "2b", "10a"]


@pytest.mark.parametrize("text", ["", "a1", "1", "a", "0a", "01a", "1a2", "1-a", "-1a", "1é", "1a\n2a", "1 a"])
def test_other_texts_are_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(RunError) as caught:
        Version.parse(text)
    assert "is not a version" in str(caught.value)
    assert "1a, 2c" in str(caught.value)


@given(st.sets(versions, max_size=30), st.booleans(), st.data())
def test_the_next_name_is_free_and_keeps_or_leaves_the_number(
    taken: set[Version], same: bool, data: st.DataObject
) -> None:
    parent = data.draw(st.sampled_from(sorted(taken))) if taken else None
    name = next_version(parent, same, taken)
    assert name not in taken
    if parent is None or not same:
        assert name.letter == 1
        assert all(name.number > version.number for version in taken)
    else:
        assert name.number == parent.number
        assert all(name > version for version in taken if version.number == parent.number)


@pytest.mark.parametrize(
    ("parent", "same", "taken", "name"),
    [
        (None, False, [], "1a"),
        ("1a", True, ["1a"], "1b"),
        ("1a", True, ["1a", "1b"], "1c"),
        ("1c", False, ["1a", "1b", "1c"], "2a"),
        ("1a", False, ["1a", "2a", "2b"], "3a"),
        ("1z", True, ["1z"], "1aa"),
        ("9a", False, ["9a"], "10a"),
    ],
)
def test_names_as_a_person_would_give_them(parent: str | None, same: bool, taken: list[str], name: str) -> None:
    known = [Version.parse(text) for text in taken]
    assert str(next_version(Version.parse(parent) if parent else None, same, known)) == name

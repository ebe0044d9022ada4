"""Numbers, bytes, times and tables as people write them, the same everywhere."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from kohyakit import words
from kohyakit.words import bounds, cells, columns, count, cut, duration, listed, memory, number, read_size, size, when

ROOM = Path(words.__file__).parent


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0.0, "0"),
        (0.09161, "0.09161"),
        (1e-4, "1e-4"),
        (2.5e-7, "2.5e-7"),
        (12.3456, "12.35"),
        (1234567.0, "1.235e6"),
        (float("nan"), "not a number"),
    ],
)
def test_numbers(value: float | None, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"),
        (45, "45 s"),
        (600, "10 min"),
        (11_100, "3 h 05 min"),
        (187_200, "2 d 4 h"),
        (-5, "–"),
        (float("inf"), "–"),
    ],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_the_rest() -> None:
    assert count(1, "photo") == "1 photo"
    assert count(1200, "photo") == "1,200 photos"
    assert when("") == "–"
    assert when("yesterday") == "yesterday"
    assert re.fullmatch(r"2026-11-2[234] \d\d:\d8", when("2026-11-23T10:48:00+00:00"))
    assert listed(list("abcdefgh"), 3) == "a, b, c and 5 more"


@pytest.mark.parametrize(
    ("many", "text"),
    [
        (0, "0 B"), (12, "12 B"), (999, "999 B"), (1000, "1.0 kB"), (2048, "2.0 kB"), (37_900_000, "37.9 MB"),
        (99_960_000, "100 MB"), (151_108_831, "151 MB"), (999_400_000, "999 MB"), (999_600_000, "1.0 GB"),
        (2_132_696_762, "2.1 GB"),
    ],
)  # fmt: skip
def test_a_files_bytes_are_decimal(many: int, text: str) -> None:
    """As a hub and a file manager show them: a LoRA of 151,108,831 bytes has 151 MB, and nowhere 144 MiB."""
    assert size(many) == text


def test_a_memorys_bytes_are_binary() -> None:
    """As its maker and its driver count: a card sold with 8 GB has 8192 MiB."""
    assert memory(8192 * 2**20) == "8.0 GiB"
    assert memory(600 * 2**20) == "600 MiB"
    assert memory(18.06 * 2**20) == "18.1 MiB"


@pytest.mark.parametrize(
    ("text", "many"),
    [("40MB", 40_000_000), ("40 mb", 40_000_000), ("1.5GiB", 1_610_612_736), ("500", 500), ("2k", 2000)],
)
def test_a_size_is_read_as_it_is_written(text: str, many: int) -> None:
    assert read_size(text) == many


@pytest.mark.parametrize("text", ["", "MB", "ten", "1.2.3MB", "40 bits", "-1MB"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="no size; write it like 40MB"):
        read_size(text)


def test_columns_are_aligned_by_what_a_terminal_shows() -> None:
    red = "\x1b[31merror\x1b[0m"
    rows = [["name", "many", ""], ["犬", "7", red], ["cafe\u0301", "1,200", "x"]]
    assert [re.sub(r"\x1b\[\d+m", "", line) for line in columns(rows, right=[1])] == [
        "name   many",
        "犬        7  error",
        "cafe\u0301  1,200  x",
    ]
    assert columns([]) == []
    assert cells("犬 dog") == 6


def test_bounds_in_words() -> None:
    assert bounds(ge=1) == "at least 1"
    assert bounds(gt=0, le=1) == "above 0 and at most 1"
    assert bounds() == ""


def test_a_text_is_cut_to_its_room() -> None:
    assert cut("short", 5) == "short"
    assert cut("shorter", 5) == "shor…"
    assert cells(cut("犬犬犬犬", 5)) == 5


def test_bytes_are_put_into_words_here_alone() -> None:
    """A unit of bytes right behind a number that is filled in, in any other file, would be a second truth."""
    unit = re.compile(r"^ ?([kKMG]i?B)\b")
    found = []
    for file in ROOM.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.JoinedStr) or file.name == "words.py":
                continue
            for value, after in zip(node.values, node.values[1:], strict=False):
                if (
                    isinstance(value, ast.FormattedValue)
                    and isinstance(after, ast.Constant)
                    and unit.match(after.value)
                ):
                    found.append(f"{file.relative_to(ROOM)}:{node.lineno}")
    assert found == []

"""Foreign text stays text; numbers and times as people write them."""

from __future__ import annotations

import re

import pytest

from kohyakit.dashboard.draw.words import count, duration, listed, number, plain, size, when


@pytest.mark.parametrize(
    "text",
    [
        "**bold**",
        "<script>alert(1)</script>",
        "[x](javascript:alert(1))",
        "$x^2$",
        ":red[hot]",
        ":material/bolt:",
        "# big",
        "a | b",
        "`code`",
    ],
)
def test_every_sign_of_markdown_is_escaped(text: str) -> None:
    escaped = plain(text)
    for place, sign in enumerate(escaped):
        if sign in "*<>[]()$:#|`_":
            assert escaped[place - 1] == "\\"
    assert escaped.replace("\\", "") == text


@pytest.mark.parametrize(
    "text",
    ["see https://evil.example", "HTTP://evil.example", "www.evil.example", "mailto:a.b+c@evil.example"],
)
def test_no_address_is_made_a_link(text: str) -> None:
    """By the patterns of GitHub's Markdown (mdast-util-gfm-autolink-literal), which works on text already unescaped."""
    shown = plain(text).replace("\\", "")
    assert shown.replace("\u2060", "") == text
    assert not re.search(r"(https?://|www(?=\.))[-.\w]+|[-.\w+]+@[-\w]+(\.[-\w]+)+", shown, re.IGNORECASE)


def test_line_breaks_cannot_start_a_block() -> None:
    assert plain("a\n\n    # code\n- list") == "a \\# code \\- list"


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
    assert size(37_900_000) == "37.9 MB"
    assert size(12) == "12 B"
    assert when("") == "–"
    assert when("yesterday") == "yesterday"
    assert when("2026-11-23T10:48:00+00:00").endswith("2026 " + when("2026-11-23T10:48:00+00:00")[-5:])
    assert listed(list("abcdefgh"), 3) == "a, b, c and 5 more"

"""Foreign text stays text."""

from __future__ import annotations

import re

import pytest

from kohyakit.dashboard.draw.markdown import plain


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

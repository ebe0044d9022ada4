"""The pages of commands are current: what the help, the options and the library calls say stands in them."""

from __future__ import annotations

import re

import pytest

for package in ("PIL", "torch", "pandas", "streamlit"):
    pytest.importorskip(package)  # the calls' own words are read, for which they are imported

from kohyakit.cli import COMMANDS, group
from tools.command_pages import BY_HAND, CALLS, PLACE, index, page


def test_the_index_and_every_page_are_current():
    stale = [] if (PLACE / "README.md").read_text(encoding="utf-8") == index() else ["README"]
    for name in COMMANDS:
        text = (PLACE / f"{name}.md").read_text(encoding="utf-8")
        (by_hand,) = BY_HAND.findall(text)
        stale += [name] if text != page(name, by_hand) else []
    assert not stale, "run: python -m tools.command_pages"


def test_there_is_a_page_for_every_command_and_no_other():
    assert {path.stem for path in PLACE.iterdir()} == {*COMMANDS, "README"}


def test_every_option_stands_in_its_page_with_its_default():
    for name in COMMANDS:
        text = (PLACE / f"{name}.md").read_text(encoding="utf-8")
        command = group.get_command(None, name)
        for one in getattr(command, "commands", {"": command}).values():
            for option in one.params:
                row = next((line for line in text.splitlines() if re.match(rf"\| `{option.opts[0]}[,`]", line)), "")
                assert row or option.param_type_name == "argument" or option.hidden, f"{name}: {option.opts}"
                if row and isinstance(option.default, (int, float, str)) and not option.is_flag and option.default:
                    assert f"`{option.default}`" in row, f"{name}: {row}"


def test_what_python_calls_belongs_to_a_command():
    words = {name for name in COMMANDS} | {
        f"{name} {sub}" for name in COMMANDS for sub in getattr(group.get_command(None, name), "commands", {})
    }
    assert set(CALLS) <= words

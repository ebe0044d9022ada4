"""docs/runs.md says what there is: commands, filter names, states, files."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from kohyakit.cli.runs import runs
from kohyakit.runs import run as run_module
from kohyakit.runs.comparison.filter import FIELDS, METRICS, STATISTICS, parse

PAGE = Path(__file__).parents[2] / "docs" / "runs.md"


@pytest.fixture(scope="module")
def text() -> str:
    return PAGE.read_text(encoding="utf-8")


def test_every_command_and_option_is_explained(text: str) -> None:
    for name, command in runs.commands.items():
        assert f"kohyakit runs {name}" in text, name
        for option in command.params:
            if isinstance(option, click.Option) and not {"--json", "--project", "--help"} & set(option.opts):
                told = [opt for opt in (*option.opts, *option.secondary_opts) if opt in text]
                assert told, f"{name} {option.opts}"


def test_every_command_that_is_shown_exists(text: str) -> None:
    shown = set(re.findall(r"kohyakit runs ([a-z]+)", text))
    assert shown <= set(runs.commands) | {"reads"}


def test_every_filter_that_is_shown_reads(text: str) -> None:
    shown = re.findall(r'--filter "([^"]+)"', text)
    assert len(shown) >= 3
    for expression in shown:
        parse(expression)


def test_every_name_a_filter_knows_is_listed(text: str) -> None:
    for name in (*FIELDS, *STATISTICS, *METRICS):
        assert f"`{name}`" in text or f"`{name}." in text, name


def test_every_state_and_file_is_listed(text: str) -> None:
    for status in (*run_module.STATUSES, run_module.LOST, run_module.UNREADABLE):
        assert f"`{status}`" in text, status
    files = [value for name, value in vars(run_module).items() if name.endswith("_FILE")]
    assert len(files) >= 8
    for file in files:
        assert file in text, file


def test_python_examples_use_names_that_are_there(text: str) -> None:
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        for line in block.splitlines():
            if line.startswith(("from ", "import ")):
                exec(line, {})

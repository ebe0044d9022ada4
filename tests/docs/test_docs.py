"""The pages: nothing that exists goes unmentioned, every link leads somewhere, generated pages are current."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kohyakit import registry
from kohyakit.cli import COMMANDS, group
from kohyakit.config.rules import not_in_process as builtin
from kohyakit.describe.names import TABLES, names_markdown
from kohyakit.registry import networks
from kohyakit.registry.networks import ALGORITHMS

ROOT = Path(__file__).resolve().parents[2]
PAGES = {path.name: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))}
COMMAND_PAGES = sorted(f"docs/commands/{path.name}" for path in (ROOT / "docs/commands").glob("*.md"))
TEXTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")}


def all_commands():
    """(words, command) of every command and subcommand."""
    for name in COMMANDS:
        command = group.get_command(None, name)
        yield (name,), command
        for sub, below in getattr(command, "commands", {}).items():
            yield (name, sub), below


@pytest.mark.parametrize(
    ("words", "command"), [pytest.param(words, command, id=" ".join(words)) for words, command in all_commands()]
)
def test_every_command_has_help_and_is_in_the_docs(words, command):
    assert command.help, "no help text"
    assert command.name == words[-1]
    for param in command.params:
        assert param.param_type_name == "argument" or param.hidden or param.help, f"{param.opts} has no help"
    text = "\n".join((TEXTS["README.md"], *PAGES.values()))
    assert re.search(rf"\bkohyakit {words[0]}\b", text) or len(words) > 1
    # A list of subcommands such as `kohyakit runs list | show | diff` counts too.
    if len(words) > 1:
        assert re.search(rf"\b{words[0]}\b[^\n]*\b{words[1]}\b", text), f"kohyakit {' '.join(words)} is nowhere"


def test_the_summary_beside_a_command_is_a_sentence():
    for name, (_, summary) in COMMANDS.items():
        assert re.fullmatch(r"[A-Z].{10,80}\.", summary), name


def test_every_registry_is_in_the_names_page():
    tables = [value for value in vars(registry).values() if isinstance(value, registry.Table)]
    assert {table.kind for table in tables} == {table.kind for _, table in TABLES}
    for table in tables:
        for name in table:
            assert f"`{name}`" in PAGES["names.md"] or not table[name].target
            assert re.match(r"[A-Za-z0-9]", table[name].help), f"{table.kind} {name} has no help"


def test_the_names_page_is_current():
    assert PAGES["names.md"] == names_markdown(), "run: python -m kohyakit.describe.names"


def test_training_lists_what_the_built_in_trainer_does_not_do():
    section = PAGES["training.md"].split("## What it does not do")[1].split("\n## ")[0]
    errors, hints = section.split("A hint")
    assert [name for name in builtin._CHANGES_RESULT if f"`{name}`" not in errors] == []
    assert [name for name in builtin._CHANGES_COMFORT if f"`{name}`" not in hints] == []


def test_training_lists_every_network_that_is_trained_in_process():
    section = PAGES["training.md"].split("## Networks")[1].split("\n## ")[0]
    assert [name for name in networks.trained_here() if f"`{name}`" not in section] == []
    assert [name for name in ALGORITHMS if f"`algo={name}`" not in section] == []


def test_every_page_is_in_the_index():
    assert {name for name in PAGES if name != "README.md" and f"]({name})" not in PAGES["README.md"]} == set()


def slug(heading: str) -> str:
    """As GitHub makes anchors."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("name", [*TEXTS, *(f"docs/{page}" for page in PAGES), *COMMAND_PAGES])
def test_every_link_leads_somewhere(name):
    path = ROOT / name
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        assert there.exists(), f"{name}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", there.read_text(encoding="utf-8"), re.M)
            assert anchor in map(slug, headings), f"{name}: {target}"


def test_the_readmes_pictures_are_there_and_small():
    shown = set(re.findall(r"(?:src|srcset)=\"([^\"]+)\"|!\[[^]]*\]\(([^)]+)\)", TEXTS["README.md"]))
    files = {ROOT / (one or other) for one, other in shown}
    assert files == set((ROOT / "docs" / "pictures").iterdir())
    assert len(files) >= 5
    assert sum(path.stat().st_size for path in files) < 300_000


def test_contributing_is_short_enough_to_be_read():
    assert len(TEXTS["CONTRIBUTING.md"].splitlines()) <= 90


def test_the_changelog_opens_with_what_is_new():
    assert re.search(r"^## (Unreleased|\d+\.\d+\.\d+)", TEXTS["CHANGELOG.md"], re.M)

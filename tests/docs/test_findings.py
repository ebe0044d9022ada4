"""docs/findings.md is the one table of what check and audit name: nothing is missing, nothing is made up."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from kohyakit.audit.check import load_checks
from kohyakit.dataset.decode.record import Verdict

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/findings.md").read_text(encoding="utf-8")
# Where check's findings are made; rules about settings alone are not listed.
PLACES = (
    "planning/**/*.py", "dataset/layout.py", "dataset/folders.py", "dataset/subset_files.py", "dataset/faults.py",
    "dataset/sources/*.py", "dataset/subsets.py", "formats/prompt_lines.py", "formats/weights/state_folder.py",
    "runs/resume.py", "runs/unfinished.py", "config/arguments/presets.py",
)  # fmt: skip
OLD = ("images_beside_folders", "nested_folder", "image_unreadable", "image_truncated", "format_not_read",
       "below_resolution", "caption_blank", "captions_missing")  # fmt: skip


def documented() -> Iterator[tuple[str, set[str]]]:
    """(name, who finds it) of every row."""
    for cells in (line.strip("|").split(" | ") for line in PAGE.splitlines() if line.startswith("| `")):
        by = set(re.findall(r"\w+", cells[1])) if len(cells) == 3 else {"check"}
        for name in re.findall(r"`(\w+)`", cells[0]):
            yield name, by


def named_in(place: Path) -> set[str]:
    """The names that a module gives its Problems, read from its text."""
    named = set()
    for node in ast.walk(ast.parse(place.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "name":
            found = (n.value for n in ast.walk(node.value) if isinstance(n, ast.Constant))
            named |= {value for value in found if str(value).endswith(("_unusable", "folder_missing"))}
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("Problem", "_not_read", "replace"):
            texts = [*node.args[3:4], *node.args[2:3], *(k.value for k in node.keywords if k.arg == "name")]
            values = (text.value for text in texts if isinstance(text, ast.Constant))
            named |= {value for value in values if re.fullmatch("[a-z_0-9]+", str(value))}
    return named


def of_pixels() -> set[str]:
    """What a look into an image's pixels may be called, as Verdict's own words say."""
    words = (Verdict.__doc__ or "").partition("issue:")[2].partition("detail:")[0]
    return set(re.findall(r"`(\w+)`", words))


def test_each_name_has_one_row() -> None:
    names = [name for name, _ in documented()]
    assert sorted(names) == sorted(set(names))
    assert len(names) > 120


def test_what_check_names() -> None:
    places = [file for place in PLACES for file in sorted((ROOT / "kohyakit").glob(place))]
    assert len(places) > 20
    named = {name for place in places for name in named_in(place)} | of_pixels()
    assert {name for name, by in documented() if "check" in by} == named


def test_what_the_audit_names() -> None:
    named = {(issue, name) for name, check in load_checks().items() for issue in check.issues}
    assert {(name, check) for name, by in documented() for check in by - {"check"}} == named


def test_a_name_that_changed_is_in_the_changelog_with_the_new_one() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").split("### Changed")[1]
    rows = dict(re.findall(r"`(\w+)` is now `(\w+)`", text))
    names = {name for name, _ in documented()}
    assert set(OLD) <= set(rows)
    assert set(rows.values()) <= names
    assert not names.intersection(OLD)

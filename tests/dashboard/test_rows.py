"""The runs table's rows: the family tree, the words, the numbers."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kohyakit.dashboard.pages.parts.page import parse_pick
from kohyakit.dashboard.read import store
from kohyakit.dashboard.read.family import tree
from kohyakit.dashboard.read.rows import rows_text, table_rows
from kohyakit.dashboard.read.search import filtered


def test_a_chain_stays_in_its_column() -> None:
    order = [f"1{chr(97 + i)}" for i in range(5)]
    parents = dict(zip(order[1:], order, strict=False))
    assert tree(order, parents) == [("1a", "v"), ("1b", "x"), ("1c", "x"), ("1d", "x"), ("1e", "^")]


def test_branches_move_right_and_the_last_child_goes_on() -> None:
    parents = {"1b": "1a", "1c": "1b", "2a": "1a"}
    assert tree(["1a", "1b", "1c", "2a"], parents) == [("1a", "v"), ("1b", "+v"), ("1c", "|^"), ("2a", "^")]


def test_a_hidden_parent_is_stepped_over() -> None:
    assert tree(["1a", "1c"], {"1b": "1a", "1c": "1b"}) == [("1a", "v"), ("1c", "^")]


def test_parents_in_a_ring_do_not_hang() -> None:
    assert {version for version, _ in tree(["1a", "1b"], {"1a": "1b", "1b": "1a"})} <= {"1a", "1b"}
    assert tree(["1a"], {"1a": "1a"}) == [("1a", "o")]


def test_five_thousand_generations() -> None:
    order = [str(i) for i in range(5000)]
    assert len(tree(order, dict(zip(order[1:], order, strict=False)))) == 5000


@given(st.lists(st.integers(0, 30), max_size=30))
def test_every_run_is_drawn_once_below_its_parent(parents: list[int]) -> None:
    """Run i has an earlier run as parent, or none."""
    order = [str(i) for i in range(len(parents))]
    family = {str(i): str(parent) for i, parent in enumerate(parents) if parent < i}
    drawn = [version for version, _ in tree(order, family)]
    assert sorted(drawn, key=int) == order
    for child, parent in family.items():
        assert drawn.index(parent) < drawn.index(child)


def test_rows_of_the_small_project(project: Path) -> None:
    runs = store.runs_of(project)
    rows = {
        row["id"]: row
        for row in table_rows(runs, store.summaries(runs, seconds=60), lambda path, width: f"{path.name}@{width}")
    }
    assert list(rows) == ["1a", "1b", "2a", "2b", "1c", "2c"]
    assert rows["1b"]["changed"] == "from 1a: network_dim 16 → 32, network_alpha 8 → 16"
    assert rows["1a"]["changed"].startswith("network_dim 16, network_alpha 8, learning_rate 0.0001")
    assert rows["1c"]["status"] == "failed"
    assert rows["1c"]["status_note"] == "CUDA out of memory at step 120"
    assert rows["1a"]["duration_text"] == "10 min"
    assert rows["2a"]["images"] == 10
    assert rows["1a"]["thumb"].startswith("1a_000300_00")
    assert rows["2c"]["status_text"] == "unreadable"
    assert rows["2c"]["last"] is None
    json.dumps(list(rows.values()))  # goes to the browser as it is


def test_the_rows_text_is_kept_until_something_in_it_changes(project: Path, made: ModuleType) -> None:
    def text(name: str = "") -> str:
        runs = store.runs_of(project)
        return rows_text(runs, store.summaries(runs, seconds=60), lambda path, width: f"{name}{path.name}@{width}")

    def row(version: str) -> dict:
        return next(row for row in json.loads(text()) if row["id"] == version)

    assert text() is text()
    runs = store.runs_of(project)
    assert json.loads(text()) == table_rows(runs, store.summaries(runs), lambda path, width: f"{path.name}@{width}")
    assert json.loads(text("other/"))[0]["thumb"].startswith("other/")
    runs[1].update(name="the good one")
    assert row("1b")["name"] == "the good one"
    before = row("2c")["status_note"]  # a record that cannot be read
    (project / "runs" / "2c" / "run.json").unlink()
    assert row("2c")["status_note"] != before
    made.write_samples(project, "1b", ["a boat"], steps=[9999], per_epoch=50)
    assert row("1b")["thumb"].startswith("1b_009999")
    made.write_events(runs[0].logs[0], made.loss_curves(310, seed=5))
    last = made.loss_curves(310, seed=5)["loss/average"][-1][1]
    assert row("1a")["last"] == pytest.approx(last, rel=1e-5)


def test_rows_before_anything_is_read(project: Path) -> None:
    runs = store.runs_of(project)
    assert {row["last_text"] for row in table_rows(runs, {}, lambda path, width: "")} == {"reading …"}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ["1a", "1b", "1c", "2a", "2b", "2c"]),
        ("network_dim >= 32", ["1b", "2a", "2b"]),
        ("status == 'failed'", ["1c"]),
        ("added", ["2a"]),
        ("lighthouse constant", ["2b"]),
        ("nothing of the kind", []),
    ],
)
def test_the_filter_field(project: Path, text: str, found: list[str]) -> None:
    runs, problem = filtered(store.runs_of(project), text)
    assert problem is None
    assert [run.record.version for run in runs] == found


@pytest.mark.parametrize("text", ["network_dim >=", "__import__('os').system('x') == 1", "network_dimm > 3", "("])
def test_a_filter_that_is_none_says_why_and_hides_nothing(project: Path, text: str) -> None:
    runs, problem = filtered(store.runs_of(project), text)
    assert len(runs) == 6
    assert problem is not None


@pytest.mark.parametrize(
    ("text", "there", "missing"),
    [
        ("1a,2b", ["1a", "2b"], []),
        ("2b, 1a,2b,", ["2b", "1a"], []),
        ("9z,1a", ["1a"], ["9z"]),
        ("", [], []),
        ("<b>", [], ["<b>"]),
    ],
)
def test_the_pick_in_the_address(text: str, there: list[str], missing: list[str]) -> None:
    assert parse_pick(text, ["1a", "2b", "2a"]) == (there, missing)

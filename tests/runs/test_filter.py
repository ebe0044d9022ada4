"""Filters: what they find, what they refuse, and that they run nothing."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kohyakit.errors import ConfigError
from kohyakit.runs.comparison.filter import matching, parse
from kohyakit.runs.logs.metrics import Summary
from kohyakit.runs.run import Record, Run


def line(tag: str, last: float, lowest: float) -> Summary:
    return Summary(tag, 100, 1.0, last, lowest, 40, 1.0, 0, 0.5, 100, 0)


def run(version: str, settings: dict[str, object], **record: object) -> Run:
    made = Run(Path("p/runs") / version, Record(version=version, **{"status": "finished", **record}))  # type: ignore[arg-type]
    made.settings = settings
    return made


RUNS = [
    run("1a", {"network_dim": 16, "optimizer_type": "AdamW8bit", "unet_lr": 1e-4}, image_count=20, note="first try"),
    run("1b", {"network_dim": 32, "optimizer_type": "Prodigy", "unet_lr": None}, image_count=20, seconds=7200.0),
    run("2a", {"network_dim": 64, "optimizer_type": "AdamW8bit"}, image_count=34, status="failed"),
    run("10a", {"network_dim": 8, "flip_aug": True, "my_key": 3}, image_count=5, name="Portrait"),
]
METRICS = {
    "1a": [line("loss/average", 0.12, 0.10), line("lr/unet", 0.0, 0.0)],
    "1b": [line("loss/average", 0.08, 0.07), line("loss/validation/epoch_average", 0.09, 0.085)],
    "2a": [],
    "10a": [line("loss/current", 0.30, 0.01)],
}


def found(expression: str) -> list[str]:
    kept = matching(RUNS, expression, summaries=lambda r: {s.tag: s for s in METRICS[r.record.version]})
    return [r.record.version for r in kept]


@pytest.mark.parametrize(
    ("expression", "versions"),
    [
        ("network_dim >= 32", ["1b", "2a"]),
        ("network_dim >= 32 and loss.last < 0.1", ["1b"]),
        ("loss.last < 0.2", ["1a", "1b"]),
        ("loss.min < 0.05 or images > 30", ["2a", "10a"]),
        ("loss.average.last < 0.2", ["1a", "1b"]),
        ("validation.min < 0.1", ["1b"]),
        ("lr.unet.max >= 0", ["1a"]),
        ("16 <= network_dim < 64", ["1a", "1b"]),
        ("network_dim in [8, 64]", ["2a", "10a"]),
        ("optimizer_type == 'adamw8bit'", ["1a", "2a"]),
        ("optimizer_type in ('Prodigy', 'Lion')", ["1b"]),
        ("'try' in note", ["1a"]),
        ("not status == 'finished'", ["2a"]),
        ("status != 'finished'", ["2a"]),
        ("version < '2a'", ["1a", "1b"]),
        ("version >= '2a'", ["2a", "10a"]),
        ("number == 1 and letter == 'b'", ["1b"]),
        ("flip_aug", ["10a"]),
        ("not flip_aug", ["1a", "1b", "2a"]),
        ("hours > 1.5", ["1b"]),
        ("network_dim / 2 >= 16", ["1b", "2a"]),
        ("images * 2 - 10 > 50", ["2a"]),
        ("network_dim / 0 > 1", []),
        ("my_key == 3", ["10a"]),
        ("unet_lr == None", ["1b", "2a", "10a"]),
        ("name == 'portrait'", ["10a"]),
        ("note > 3", []),
        ("-network_dim < -32", ["2a"]),
        ("True", ["1a", "1b", "2a", "10a"]),
    ],
)
def test_what_fits(expression: str, versions: list[str]) -> None:
    assert found(expression) == versions


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("netwrk_dim > 3", "did you mean 'network_dim'?"),
        ("loss > 3", "say which number of it: loss.last"),
        ("loss.median > 3", "'median' is none of last, first"),
        ("los.last > 3", "did you mean 'loss.last'?"),
        ("network_dim = 32", "write == to compare"),
        ("network_dim >", "cannot be understood"),
        ("", "is empty"),
        ("a" * 3000, "has 3000 characters"),
        ("not " * 300 + "1", "may not contain"),
    ],
)
def test_mistakes_are_told_with_what_to_do(expression: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        found(expression)
    assert told in str(caught.value)


def test_all_unknown_names_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        found("qwertz > 1 and netwrk_dim > 2")
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os').system('echo hi')", "network_dim.__class__", "(lambda: 1)()", "[x for x in (1, 2)]",
        "note[0]", "2 ** 999999999", "network_dim << 3", "f'{note}'", "open", "exec('1')", "(x := 3)", "{1: 2}",
        "note if 1 else 2", "().__class__.__bases__", "b'x' == note", "1j > 0", "note % 3", "network_dim // 2",
        "await note", "*note", "note.__init__.__globals__",
    ],
)  # fmt: skip
def test_nothing_but_comparisons_gets_through(expression: str) -> None:
    with pytest.raises(ConfigError):
        found(expression)


@given(st.text(max_size=60))
def test_no_text_raises_anything_else(text: str) -> None:
    with contextlib.suppress(ConfigError):
        parse(text)


def test_logs_are_read_only_when_asked_for() -> None:
    kept = matching(RUNS, "network_dim > 10", summaries=lambda r: pytest.fail("a log was read"))
    assert len(kept) == 3

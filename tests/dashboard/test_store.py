"""What the pages read, while it changes, breaks and vanishes under them."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from kohyakit.dashboard.read import store
from kohyakit.dashboard.read.memo import Memo
from kohyakit.runs.process import this_process
from kohyakit.runs.run import LOST, UNREADABLE, open_run


def test_runs_are_read_again_when_a_record_changes(project: Path) -> None:
    (folder,) = store.run_projects(project)
    runs = store.runs_of(folder)
    assert [run.record.version for run in runs] == ["1a", "1b", "1c", "2a", "2b", "2c"]
    assert store.runs_of(folder) is runs
    runs[0].update(note="the good one")
    assert store.runs_of(folder)[0].record.note == "the good one"
    shutil.rmtree(project / "runs" / "1b")
    assert [run.record.version for run in store.runs_of(folder)] == ["1a", "1c", "2a", "2b", "2c"]
    shutil.rmtree(project / "runs")
    assert store.runs_of(folder) == ()


def test_a_damaged_record_is_shown_as_such(project: Path) -> None:
    run = store.runs_of(project)[-1]
    assert run.status == UNREADABLE
    assert run.problem is not None


def test_a_killed_run_is_lost(project: Path, made: ModuleType) -> None:
    gone = {**asdict(this_process()), "pid": 2**22 - 3, "born": "long ago"}
    made.write_run(project, "3a", status="running", process=gone)
    assert store.runs_of(project)[-1].status == LOST


def test_scalars_point_for_point(project: Path, made: ModuleType) -> None:
    run = open_run(project / "runs" / "1a")
    step, value, wall = store.series(store.scalars_of(run), "loss/current")
    expected = made.loss_curves(300, seed=0, low=0.085)["loss/current"]
    assert step.tolist() == [point[0] for point in expected]
    np.testing.assert_allclose(value, [point[1] for point in expected], rtol=1e-6)
    assert wall[1] - wall[0] == pytest.approx(2.0)


def test_a_log_that_grows_is_followed(project: Path, made: ModuleType) -> None:
    made.write_run(project, "3a", status="running", process=asdict(this_process()), scalars=made.loss_curves(50))
    run = open_run(project / "runs" / "3a")
    assert store.series(store.scalars_of(run), "loss/current")[0][-1] == 50
    path = made.write_events(run.logs[0], made.loss_curves(80))
    assert store.series(store.scalars_of(run), "loss/current")[0][-1] == 80
    path.write_bytes(path.read_bytes()[:-7])  # the last record is being written
    cut = store.scalars_of(run)
    assert cut.frame is not None
    assert any("3a" in problem.where for problem in cut.problems)


@pytest.mark.parametrize("content", [b"", b"\x00" * 64, b"not an event file at all, but long enough to be looked at"])
def test_a_corrupt_log_is_a_problem_and_no_error(project: Path, content: bytes) -> None:
    run = open_run(project / "runs" / "1a")
    (event_file,) = run.logs[0].glob("*tfevents*")
    event_file.write_bytes(content)
    found = store.scalars_of(run)
    assert found.frame is None
    assert found.problems
    assert store.summarise(found).line is None


def test_a_log_folder_that_is_gone(project: Path) -> None:
    run = open_run(project / "runs" / "1a")
    shutil.rmtree(project / "logs")
    (problem,) = store.scalars_of(run).problems
    assert "gone" in problem.what


def test_a_resumed_run_is_one_line(project: Path, made: ModuleType) -> None:
    """Two log folders; the second begins 20 steps before the first ended, and its values stand."""
    made.write_run(project, "3a", steps=200)
    made.write_events(project / "logs" / "a", {"loss/current": [(i, 1.0) for i in range(1, 101)]})
    made.write_events(project / "logs" / "b", {"loss/current": [(i, 2.0) for i in range(81, 151)]})
    run = open_run(project / "runs" / "3a").update(logs=[project / "logs" / "a", project / "logs" / "b"])
    step, value, _ = store.series(store.scalars_of(run), "loss/current")
    assert step.tolist() == list(range(1, 151))
    assert value.tolist() == [1.0] * 80 + [2.0] * 70


def test_summaries_come_within_their_time(project: Path) -> None:
    runs = store.runs_of(project)
    none_yet = store.summaries(runs, seconds=-1)
    assert set(none_yet.values()) == {None}
    first = store.summaries(runs, seconds=60)
    assert all(first.values())
    assert store.summaries(runs, seconds=-1) == first


def test_a_summary_by_hand(project: Path, made: ModuleType) -> None:
    found = store.summaries(store.runs_of(project), seconds=60)["2a"]
    values = [value for _, value in made.loss_curves(300, seed=3, low=0.085 - 0.018, overfit=0.05)["loss/average"]]
    assert found is not None
    assert found.line is not None
    assert found.line.last == pytest.approx(values[-1], rel=1e-6)
    assert found.line.min == pytest.approx(min(values), rel=1e-6)
    assert len(found.spark) == 40
    assert min(v for v in found.spark if v is not None) == pytest.approx(min(values), rel=1e-3)


def test_a_spark_shows_gaps() -> None:
    assert store.spark(np.array([1.0, np.nan, 3.0])) == (1.0, None, 3.0)
    assert store.spark(np.empty(0)) == ()


def test_epoch_averages_lie_at_their_epochs_end(project: Path, made: ModuleType) -> None:
    """sd-scripts logs loss/epoch_average against the epoch's number; 300 steps are 6 epochs."""
    made.write_events(project / "logs" / "1a" / "network_train", {"loss/epoch_average": [(1, 0.3), (2, 0.2)]})
    run = open_run(project / "runs" / "1a")
    (over_steps,), _ = store.lines_of([run], "loss/epoch_average", "step")
    (over_epochs,), _ = store.lines_of([run], "loss/epoch_average", "epoch")
    assert over_steps.x.tolist() == [50, 100]
    assert over_epochs.x.tolist() == [1, 2]


def test_images_seen_from_the_settings_in_force(project: Path) -> None:
    (line,), problems = store.lines_of([open_run(project / "runs" / "1a")], "loss/current", "images")
    assert line.x[:3].tolist() == [2, 4, 6]  # train_batch_size 2
    assert problems == []


def test_a_run_that_does_not_tell_its_batch_size(project: Path) -> None:
    (project / "runs" / "1a" / "settings.json").unlink()
    lines, problems = store.lines_of([open_run(project / "runs" / "1a")], "loss/current", "images")
    assert lines == []
    assert "does not tell" in problems[0].what


def test_memo_lets_the_longest_unused_go() -> None:
    memo = Memo(10, weigh=len)
    for key, value in (("a", "xxxx"), ("b", "xxxx")):
        memo.put(key, (1,), value)
    memo.peek("a", (1,))
    memo.put("c", (1,), "xxxx")
    assert memo.peek("b", (1,)) is None
    assert memo.peek("a", (1,)) == "xxxx"
    assert memo.peek("a", (2,)) is None


def test_record_is_json(project: Path) -> None:
    """The maker writes what the library reads: no test of ours leans on a format of its own."""
    data = json.loads((project / "runs" / "1a" / "run.json").read_text(encoding="utf-8"))
    assert open_run(project / "runs" / "1a").record.version == data["version"]


def test_several_tabs_follow_one_log(project: Path, made: ModuleType) -> None:
    """Every reader sees each point once, whoever came first."""
    from concurrent.futures import ThreadPoolExecutor

    made.write_run(project, "3a", status="running", process=asdict(this_process()), scalars=made.loss_curves(50))
    run = open_run(project / "runs" / "3a")
    with ThreadPoolExecutor(8) as pool:
        for steps in (60, 90, 140):
            made.write_events(run.logs[0], made.loss_curves(steps))
            found = list(pool.map(lambda _: store.series(store.scalars_of(run), "loss/current")[0].tolist(), range(8)))
            assert all(step == list(range(1, steps + 1)) for step in found)


def test_a_new_dashboard_need_not_read_the_logs_again(
    project: Path, made: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KOHYAKIT_CACHE", str(tmp_path / "cache"))
    runs = store.runs_of(project)
    before = store.summaries(runs, seconds=60)

    def another_process() -> None:
        monkeypatch.setattr(store, "_summaries", Memo(100))
        monkeypatch.setattr(store, "_on_disk", {})

    another_process()
    after = store.summaries(runs, seconds=-1)
    assert {version for version, summary in after.items() if summary is None} == {
        "2c"
    }  # it has no log to keep anything of
    assert all(after[version] == before[version] for version in ("1a", "1b", "1c", "2a", "2b"))
    another_process()
    made.write_events(runs[0].logs[0], made.loss_curves(310, seed=5))
    assert store.summaries(runs, seconds=-1)["1a"] is None
    for path in (tmp_path / "cache").rglob("*.json"):
        path.write_text('{"format": 1, "runs": {"x": 3}}', encoding="utf-8")
    another_process()
    assert store.summaries(runs, seconds=60)["1a"] is not None


def test_a_run_keeps_its_colour_whatever_else_is_picked(project: Path, made: ModuleType) -> None:
    runs = {run.record.version: run for run in store.runs_of(project)}
    for picked in (["1a", "2a"], ["2a", "1a"], ["2b", "2a", "1b"], ["2a"]):
        slots = dict(zip(picked, store.slots([runs[name] for name in picked]), strict=True))
        assert slots["2a"] == 3, picked  # the fourth of the project
        assert len(set(slots.values())) == len(picked)


def test_of_thirty_runs_no_two_look_alike(project: Path, made: ModuleType) -> None:
    for number in range(3, 31):
        made.write_run(project, f"{number}a", scalars={})
    runs = store.runs_of(project)
    every_fifth = runs[::10]  # all of them would like the same colour
    assert len(set(store.slots(every_fifth))) == len(every_fifth)
    assert len(set(store.slots(runs[:30]))) == 30


def test_why_a_line_ends_before_its_time(project: Path, made: ModuleType) -> None:
    good, bad = np.array([0.3, 0.2]), np.array([0.3, np.nan])
    runs = {run.record.version: run for run in store.runs_of(project)}
    assert store.broken_off(runs["1a"], good) == ""
    assert "not a number" in store.broken_off(runs["1a"], bad)
    assert store.broken_off(runs["1c"], good) == "failed"
    runs["1c"].update(outcome="the loss is NaN in step 91")
    assert store.broken_off(runs["1c"], good) == "failed: not a number"
    (line,) = store.lines_of([runs["1c"]], "loss/average", "step")[0]
    assert line.broken == "failed: not a number"

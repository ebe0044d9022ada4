"""What may go, that it goes to the trash, and that all of it comes back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kohyakit.config.train import TrainConfig
from kohyakit.errors import RunError
from kohyakit.runs import registry
from kohyakit.runs.prune import LIST_FILE, bring_back, candidates, prune
from kohyakit.runs.run import FAILED, FINISHED, INTERRUPTED, Run, open_run


@pytest.fixture
def run(config: TrainConfig, tmp_path: Path) -> Run:
    """Three epochs, each with a state, and the last under its plain name."""
    run = registry.start(config)
    model = tmp_path / "model"
    for epoch in (1, 2, 3):
        name = f"dog-{epoch:06}" if epoch < 3 else "dog"
        (model / f"{name}.safetensors").write_bytes(b"m" * epoch)
        run.add_checkpoint(model / f"{name}.safetensors", epoch=epoch, step=epoch * 10)
        (model / f"{name}-state").mkdir()
        (model / f"{name}-state" / "optimizer.bin").write_bytes(b"s" * 100)
        run.add_checkpoint(model / f"{name}-state", kind="state", epoch=epoch, step=epoch * 10)
    return run


def files(project: Path) -> set[str]:
    return {
        str(path.relative_to(project)) for path in project.rglob("*")
        if path.is_file() and "runs" not in path.relative_to(project).parts
    }  # fmt: skip


def test_of_a_finished_run_the_result_stays(run: Run) -> None:
    run.finish(FINISHED)
    found = candidates([run])
    assert sorted(c.path.name for c in found) == [
        "dog-000001-state", "dog-000001.safetensors", "dog-000002-state", "dog-000002.safetensors", "dog-state",
    ]  # fmt: skip
    assert sum(c.bytes for c in found) == 303


@pytest.mark.parametrize("status", [FAILED, INTERRUPTED])
def test_of_a_run_cut_off_the_newest_state_and_all_models_stay(run: Run, status: str) -> None:
    run.finish(status)
    assert sorted(c.path.name for c in candidates([run])) == ["dog-000001-state", "dog-000002-state"]


def test_of_a_running_run_nothing_goes(run: Run) -> None:
    assert candidates([run]) == ()


def test_without_its_last_file_the_furthest_model_stays(run: Run) -> None:
    run.finish(FINISHED)
    (run.project / "dog.safetensors").unlink()
    names = [c.path.name for c in candidates([run]) if c.checkpoint.kind == "model"]
    assert names == ["dog-000001.safetensors"]


def test_a_file_that_is_wanted_stays(run: Run) -> None:
    run.finish(FINISHED)
    best = run.project / "dog-000002.safetensors"
    assert best not in [c.path for c in candidates([run], keep=[best])]


def test_there_and_back_again(run: Run, clock) -> None:
    run.finish(FINISHED)
    before, record = files(run.project), open_run(run.folder).record
    moved = prune(run.project, candidates([run]), clock=clock)
    assert (len(moved.files), moved.bytes, moved.skipped) == (5, 303, ())
    assert files(run.project) == {"dog.safetensors"}
    assert [c.file for c in open_run(run.folder).record.checkpoints] == ["dog.safetensors"]
    assert len(json.loads((moved.trash / LIST_FILE).read_text(encoding="utf-8"))["moved"]) == 5
    back = bring_back(run.project)
    assert (len(back.files), back.bytes) == (5, 303)
    assert files(run.project) == before
    assert set(open_run(run.folder).record.checkpoints) == set(record.checkpoints)
    assert not moved.trash.exists()


def test_what_is_there_again_is_not_overwritten(run: Run) -> None:
    run.finish(FINISHED)
    prune(run.project, candidates([run]))
    new = run.project / "dog-000001.safetensors"
    new.write_bytes(b"a new one")
    back = bring_back(run.project)
    assert new.read_bytes() == b"a new one"
    (problem,) = back.skipped
    assert "is there again" in problem.what
    assert Path(problem.cure).read_bytes() == b"m"  # the old one, still in the trash


def test_two_prunings_come_back_one_after_the_other(run: Run, clock) -> None:
    run.finish(FINISHED)
    first, *others = candidates([run])
    prune(run.project, [first], clock=clock)
    clock.forward(seconds=5)
    prune(run.project, others, clock=clock)
    assert len(bring_back(run.project).files) == 4
    assert bring_back(run.project).files == (first.path,)
    with pytest.raises(RunError, match="nothing was pruned"):
        bring_back(run.project)


def test_two_prunings_in_one_second_keep_apart(run: Run, clock) -> None:
    run.finish(FINISHED)
    first, second, *_ = candidates([run])
    assert prune(run.project, [first], clock=clock).trash != prune(run.project, [second], clock=clock).trash


def test_a_list_that_points_out_of_the_trash_is_not_followed(run: Run) -> None:
    run.finish(FINISHED)
    moved = prune(run.project, candidates([run])[:1])
    outside = run.project / "private.txt"
    outside.write_text("x", encoding="utf-8")
    data = json.loads((moved.trash / LIST_FILE).read_text(encoding="utf-8"))
    data["moved"][0].update(to="../../../private.txt")
    (moved.trash / LIST_FILE).write_text(json.dumps(data), encoding="utf-8")
    assert bring_back(run.project).files == ()
    assert outside.exists()


def test_imported_files_are_left_alone_unless_asked_for(run: Run) -> None:
    run.update(imported={"key": "x"})
    run.finish(FINISHED)
    assert candidates([run]) == ()
    assert len(candidates([run], imported=True)) == 5

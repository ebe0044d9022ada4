"""A run's folder: states, changes from two sides, signs of life, paths."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from kohyakit.config.train import TrainConfig
from kohyakit.errors import RunError
from kohyakit.runs import registry
from kohyakit.runs.earlier import keep_all_earlier, restore
from kohyakit.runs.process import Process, birth, is_alive, this_host, this_process
from kohyakit.runs.record_file import write_json
from kohyakit.runs.run import FAILED, FINISHED, LOST, PROGRESS_FILE, RUN_FILE, RUNNING, STOP_FILE, Run, open_run


@pytest.fixture
def run(config: TrainConfig, clock) -> Run:
    return registry.start(config, clock=clock)


def sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])


def test_a_running_run_whose_process_is_killed_is_lost(run: Run) -> None:
    process = sleeper()
    try:
        run.update(process=Process(process.pid, birth(process.pid) or "", this_host()))
        assert run.status == RUNNING
    finally:
        process.kill()
    process.wait()
    assert run.status == LOST
    assert open_run(run.folder).status == LOST
    assert json.loads((run.folder / RUN_FILE).read_text(encoding="utf-8"))["status"] == RUNNING  # nothing was invented


def test_a_process_id_given_out_again_is_another_process() -> None:
    here = this_process()
    assert is_alive(here) is True
    assert is_alive(Process(here.pid, "another start", here.host)) is False
    assert is_alive(Process(here.pid, here.born, "another machine")) is None
    assert is_alive(Process(2**22 + 1, "", here.host)) is False
    assert birth(0) is None


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="zombies are told by /proc")
def test_a_zombie_has_ended() -> None:
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process_id = process.pid
    while (Path(f"/proc/{process_id}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]) != "Z":
        pass
    assert birth(process_id) is None
    process.wait()


def test_a_run_on_another_machine_is_told_by_its_last_sign_of_life(run: Run, clock) -> None:
    run.update(process=Process(1, "", "another machine"))
    write_json(run.folder / PROGRESS_FILE, {"time": 0})
    written = (run.folder / PROGRESS_FILE).stat().st_mtime
    clock.moment = clock.moment.fromtimestamp(written + 60, clock.moment.tzinfo)
    for file in run.folder.iterdir():
        os.utime(file, (written, written))
    assert run.status == RUNNING
    clock.forward(hours=1)
    assert run.status == LOST


def test_two_hands_change_one_record(run: Run) -> None:
    other = open_run(run.folder)
    other.update(note="written in the browser")
    run.update(device="cpu")
    assert (open_run(run.folder).record.note, open_run(run.folder).record.device) == ("written in the browser", "cpu")


def test_many_hands_at_once_lose_nothing(run: Run) -> None:
    fields = ("note", "device", "name", "outcome")

    def write(name: str) -> None:
        mine = open_run(run.folder)
        for number in range(10):
            mine.update(**{name: f"{name} {number}"})

    threads = [threading.Thread(target=write, args=(name,)) for name in fields]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    record = open_run(run.folder).record
    assert [getattr(record, name) for name in fields] == [f"{name} 9" for name in fields]


def test_a_lock_left_by_a_dead_process_is_broken(run: Run) -> None:
    (run.folder / f"{RUN_FILE}.lock").touch()
    run.update(note="after all")
    assert open_run(run.folder).record.note == "after all"


def test_keys_of_a_newer_version_are_kept(run: Run) -> None:
    file = run.folder / RUN_FILE
    data = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**data, "mood": "good"}), encoding="utf-8")
    open_run(run.folder).update(note="x")
    assert json.loads(file.read_text(encoding="utf-8"))["mood"] == "good"


def test_unknown_status_is_refused(run: Run) -> None:
    with pytest.raises(RunError, match="status 'done' is unknown"):
        run.update(status="done")


def test_a_project_may_be_moved(run: Run, tmp_path: Path) -> None:
    model = tmp_path / "model" / "dog.safetensors"
    model.write_bytes(b"12345")
    log = tmp_path / "model" / "log" / "20260301120000" / "network_train"
    log.mkdir(parents=True)
    run.add_checkpoint(model, step=30)
    run.update(logs=(log,), samples=tmp_path / "model" / "sample")
    run.finish(FINISHED)
    moved = tmp_path / "elsewhere"
    (tmp_path / "model").rename(moved)
    (again,) = registry.list_runs(moved)
    assert again.logs == (moved / "log" / "20260301120000" / "network_train",)
    assert again.samples == moved / "sample"
    (checkpoint,) = again.record.checkpoints
    assert (again.locate(checkpoint.file), checkpoint.bytes) == (moved / "dog.safetensors", 5)


def test_a_checkpoint_written_again_is_noted_once(run: Run, tmp_path: Path) -> None:
    state = tmp_path / "model" / "dog-state"
    state.mkdir()
    (state / "optimizer.bin").write_bytes(b"123")
    run.add_checkpoint(state, kind="state")
    (state / "scheduler.bin").write_bytes(b"4567")
    run.add_checkpoint(state, kind="state")
    assert [(c.file, c.bytes) for c in run.record.checkpoints] == [("dog-state", 7)]


def test_a_file_written_over_by_a_later_run_is_no_longer_the_earlier_ones(
    run: Run, config: TrainConfig, tmp_path: Path
) -> None:
    model = tmp_path / "model" / "dog.safetensors"
    model.write_bytes(b"first")
    run.add_checkpoint(model, step=30)
    run.finish(FINISHED)
    second = registry.start(config)
    model.write_bytes(b"second")
    second.add_checkpoint(model, step=30)
    assert [c.replaced_by for c in open_run(run.folder).record.checkpoints] == ["1b"]
    assert [c.replaced_by for c in open_run(second.folder).record.checkpoints] == [""]


def test_keys_that_a_newer_version_gives_a_checkpoint_are_no_damage(run: Run) -> None:
    file = run.folder / RUN_FILE
    data = json.loads(file.read_text(encoding="utf-8"))
    data["checkpoints"] = [{"file": "dog.safetensors", "mood": "good"}]
    file.write_text(json.dumps(data), encoding="utf-8")
    assert open_run(run.folder).record.checkpoints[0].file == "dog.safetensors"


def test_stopping_is_asked_for_by_a_file(run: Run) -> None:
    assert not run.stop_requested()
    open_run(run.folder).request_stop()
    assert run.stop_requested()
    assert (run.folder / STOP_FILE).exists()
    run.finish("stopped", "after 12 of 30 steps")
    assert not (run.folder / STOP_FILE).exists()


def test_progress_is_written_now_and_then_and_at_the_end(run: Run) -> None:
    for step in range(1, 501):
        run.report(step=step, steps=500, loss=0.1)
    assert open_run(run.folder).progress()["step"] == 500
    run.report(step=3, steps=500)
    assert run.progress()["step"] == 500  # within a second of the last


def test_a_failed_write_leaves_the_old_record(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (run.folder / RUN_FILE).read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("kohyakit.files.os.fsync", full)
    with pytest.raises(RunError, match="No space left on device"):
        run.update(note="x")
    assert (run.folder / RUN_FILE).read_bytes() == before
    assert not list(run.folder.glob("*.tmp"))


def test_a_reader_never_sees_half_a_record(run: Run) -> None:
    wrong: list[str] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            text = (run.folder / RUN_FILE).read_text(encoding="utf-8")
            if not text.endswith("}\n"):
                wrong.append(text)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(60):
        run.update(note="x" * (number * 37))
    done.set()
    reader.join()
    assert wrong == []


def test_failing_before_the_first_record_is_complete_leaves_a_trace(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kohyakit.formats.train_toml.dumps", lambda config: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        registry.start(config)
    (run,) = registry.list_runs(config.saving.output_dir or "")
    assert run.status == FAILED
    assert "division by zero" in run.record.outcome


def test_a_damaged_record_is_not_written_over(run: Run) -> None:
    (run.folder / RUN_FILE).write_text('{"version": "1a", "no', encoding="utf-8")
    with pytest.raises(RunError, match="cannot be read"):
        open_run(run.folder).update(note="x")
    assert (run.folder / RUN_FILE).read_text(encoding="utf-8") == '{"version": "1a", "no'


def test_a_folder_deleted_under_a_training_does_not_end_it(run: Run, tmp_path: Path) -> None:
    shutil.rmtree(run.folder)
    run.report(step=1, steps=2)
    model = tmp_path / "model" / "dog.safetensors"
    model.write_bytes(b"x")
    run.add_checkpoint(model)
    run.finish(FINISHED, "2 of 2 steps")
    again = open_run(run.folder)
    assert (again.record.outcome, again.record.image_count) == ("2 of 2 steps", 6)


def test_opening_nothing_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="there is no such run"):
        open_run(tmp_path / "runs" / "1a")


def saved(run: Run, *names: str, state: bool = False) -> None:
    """Write files with the run's version in them, and note them."""
    for name in names:
        path = run.project / name
        if state:
            path.mkdir()
            (path / "train_state.json").write_text(run.record.version, encoding="utf-8")
        else:
            path.write_text(run.record.version, encoding="utf-8")
        run.add_checkpoint(path, kind="state" if state else "model")


def test_the_epochs_of_two_runs_never_lie_under_one_name(config: TrainConfig, tmp_path: Path) -> None:
    out = tmp_path / "model"
    first = registry.start(config)
    saved(first, *(f"dog-{epoch:06}.safetensors" for epoch in range(1, 10)), "dog.safetensors")
    saved(first, "dog-000004-state", state=True)
    first.finish(FINISHED)
    for name in ("dog-2.safetensors", "dog-000003.txt", "dogs-000003.safetensors", "cat.safetensors"):
        (out / name).write_text("other", encoding="utf-8")
    (out / "dog-step00000030.safetensors").write_text("nobody's", encoding="utf-8")
    second = registry.start(config)
    moved = keep_all_earlier(second, out, "dog")
    saved(second, "dog-000001.safetensors", "dog.safetensors")
    assert len(moved) == 12
    assert {path.name for path in out.iterdir()} == {
        "runs", "replaced", "dog-2.safetensors", "dog-000003.txt", "dogs-000003.safetensors", "cat.safetensors",
        "dog-000001.safetensors", "dog.safetensors",
    }  # fmt: skip
    assert [path.name for path in (out / "replaced").iterdir()] == ["dog-step00000030.safetensors"]
    first = open_run(first.folder)
    assert len(first.record.checkpoints) == 11
    for checkpoint in first.record.checkpoints:
        place = first.locate(checkpoint.file)
        assert place.parent == first.folder / "files"
        assert (place / "train_state.json" if place.is_dir() else place).read_text(encoding="utf-8") == "1a"
    second.finish(FINISHED)
    # and back: what lies there now goes to its own run
    restore(open_run(first.folder))
    assert {path.name for path in out.glob("dog-0*")} == {
        *(f"dog-{epoch:06}.safetensors" for epoch in range(1, 10)), "dog-000004-state", "dog-000003.txt",
    }  # fmt: skip
    assert (out / "dog.safetensors").read_text(encoding="utf-8") == "1a"
    second = open_run(second.folder)
    assert {c.file for c in second.record.checkpoints} == {
        f"runs/1b/files/{name}.safetensors" for name in ("dog-000001", "dog")
    }
    restore(second)
    assert (out / "dog.safetensors").read_text(encoding="utf-8") == "1b"
    with pytest.raises(RunError, match="no files that were moved aside"):
        restore(open_run(second.folder))


def test_what_a_run_starts_from_and_what_another_is_writing_stays(config: TrainConfig, tmp_path: Path) -> None:
    out = tmp_path / "model"
    first = registry.start(config)
    saved(first, "dog-state", "dog-000001-state", state=True)
    first.finish(FINISHED)
    busy = registry.start(config)
    saved(busy, "dog-000002.safetensors")
    third = registry.start(config.with_values(resume=str(out / "dog-state")))
    assert set(keep_all_earlier(third, out, "dog", [out / "dog-state"])) == {out / "dog-000001-state"}
    saved(busy, "dog-000001-state", state=True)
    with pytest.raises(RunError, match="stays where it is"):
        restore(open_run(first.folder))
    assert (out / "dog-000001-state" / "train_state.json").read_text(encoding="utf-8") == "1b"


def test_a_name_can_carry_the_version(config: TrainConfig) -> None:
    config = config.with_values(output_name="dog-{version}")
    for version in ("1a", "1b"):
        run = registry.start(config)
        assert registry.output_name(config, run.version) == run.record.output_name == f"dog-{version}"
        assert open_run(run.folder).record.output_name == f"dog-{version}"
        assert f'output_name = "dog-{version}"' in (run.folder / "config.toml").read_text(encoding="utf-8")
        assert run.settings["output_name"] == "dog-{version}"
        run.finish(FINISHED)
    assert run.record.changes == ()

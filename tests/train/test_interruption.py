"""What ends a training from outside: the step is finished, all is saved, and the record says so."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("torch")

from kohyakit.formats import load, train_toml
from kohyakit.planning.make import check_plan
from kohyakit.runs.registry import list_runs
from kohyakit.train.interruption import Interruption
from kohyakit.train.start import train_network
from tests.train.observers import At

PATIENCE = 300  # seconds for what takes five on an idle machine
posix = pytest.mark.skipif(os.name == "nt", reason="Windows has neither SIGHUP nor signals between processes")


def train(config, *callbacks, said=None):
    said = [] if said is None else said
    return train_network(config, progress=False, echo=said.append, callbacks=callbacks)


@posix
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_shut_down_or_a_hang_up_saves_as_ctrl_c_does(make_config, tmp_path, name):
    number = signal.Signals[name]
    before, said = signal.getsignal(number), []
    run = train(make_config(), At(2, lambda: signal.raise_signal(number)), said=said)
    assert run.status == "interrupted"
    assert run.record.outcome.startswith("interrupted after step 2 of ")
    assert name in run.record.outcome
    assert (tmp_path / "out" / "tiny-step00000002.safetensors").exists()
    assert f"resume={tmp_path / 'out' / 'tiny-step00000002-state'}" in said[-1]
    assert signal.getsignal(number) == before


@posix
def test_a_terminal_that_hangs_up_twice_drops_nothing(make_config):
    def twice():
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGTERM)

    assert train(make_config(), At(3, twice)).record.outcome.startswith("interrupted after step 3 of ")


def test_a_second_ctrl_c_drops_the_step_and_is_recorded(make_config, tmp_path):
    def twice():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(make_config(), At(3, twice))
    (run,) = list_runs(tmp_path / "out")
    assert run.record.status == "interrupted"
    assert not list((tmp_path / "out").glob("*-state*"))


@posix
def test_a_hang_up_that_is_ignored_stays_ignored(make_config):
    """As nohup does, so that the training outlives its terminal."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        config = make_config(max_train_epochs=None, max_train_steps=3)
        assert train(config, At(2, lambda: signal.raise_signal(signal.SIGHUP))).status == "finished"
    finally:
        signal.signal(signal.SIGHUP, before)


@posix
def test_asked_to_end_while_loading_it_ends_at_once_and_is_recorded(make_config, tmp_path):
    def echo(line: str) -> None:
        if line.startswith("loading"):
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        train_network(make_config(), progress=False, echo=echo)
    (run,) = list_runs(tmp_path / "out")
    assert run.record.status == "interrupted"
    assert "before the first step" in run.record.outcome


def test_windows_close_button_waits_until_all_is_saved(make_config, tmp_path):
    """Windows calls a handler in a thread of its own and ends the process once it returns; here a thread does."""
    interruption = Interruption(lambda text: None)
    state = tmp_path / "out" / "tiny-step00000002-state"
    there = []

    def close() -> None:
        assert interruption.window_closed(2)
        there.append((state / "train_state.json").exists())

    thread = threading.Thread(target=close)
    with interruption.listening():
        assert not interruption.window_closed(0)  # Ctrl-C, which comes as a signal
        thread.start()
        while not interruption.by:
            time.sleep(0.01)
        train(make_config(), At(2, lambda: signal.raise_signal(signal.SIGTERM)))
        assert thread.is_alive()
    thread.join(10)
    assert there == [True]


def _started(config, tmp_path: Path, verb: str = "train", **options) -> subprocess.Popen:
    file = tmp_path / "config.toml"
    train_toml.write(config, file)
    child = subprocess.Popen([sys.executable, "-m", "kohyakit", verb, str(file)], **options)
    progress = tmp_path / "out" / "runs" / "1a" / "progress.json"
    _wait_for(lambda: progress.exists() or child.poll() is not None)
    return child


def _wait_for(what: Callable[[], bool]) -> None:
    """However busy the machine is."""
    deadline = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)


@posix
@pytest.mark.slow
def test_closing_the_terminal_saves(make_config, tmp_path):
    """A real terminal that goes away: its programs get SIGHUP, and whatever they print fails from then on."""
    ours, theirs = os.openpty()
    child = _started(
        make_config(max_train_epochs=400), tmp_path, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        preexec_fn=_take_terminal,
    )  # fmt: skip
    os.close(theirs)
    time.sleep(0.2)
    os.close(ours)
    assert child.wait(PATIENCE) == 130
    record = json.loads((tmp_path / "out" / "runs" / "1a" / "run.json").read_text(encoding="utf-8"))
    assert record["status"] == "interrupted"
    assert "SIGHUP" in record["outcome"]
    (state,) = (tmp_path / "out").glob("*-state")
    assert (state / "train_state.json").exists()
    assert f"resume={state}" in (tmp_path / "out" / "runs" / "1a" / "log.txt").read_text(encoding="utf-8")


def _take_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@posix
@pytest.mark.slow
def test_asking_the_launcher_to_end_asks_the_training(make_config, tmp_path):
    """accelerate ends at once; the launcher hands the signal on and waits for the training behind it."""
    hidden = {**os.environ, "ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    child = _started(make_config(max_train_epochs=400), tmp_path, "launch", env=hidden, stderr=subprocess.DEVNULL)
    child.send_signal(signal.SIGTERM)
    child.wait(PATIENCE)
    (run,) = list_runs(tmp_path / "out")
    assert run.record.status == "interrupted"
    assert "SIGTERM" in run.record.outcome


@posix
@pytest.mark.slow
def test_after_a_hard_kill_the_next_start_finds_the_last_state_and_goes_on(make_config, tmp_path):
    """Killed for good there is nothing to save with; the newest state of the run is named by check and by train."""
    config = make_config(max_train_epochs=40, save_every_n_steps=2, save_state=True)
    child = _started(config, tmp_path)
    _wait_for(lambda: bool(list((tmp_path / "out").glob("*-state/train_state.json"))))
    child.kill()
    child.wait()
    (run,) = list_runs(tmp_path / "out")
    assert run.status == "lost"
    steps = [int(state.name[9:17]) for state in (tmp_path / "out").glob("*-state")]
    (hint,) = [p for p in check_plan(load(tmp_path / "config.toml")).findings if p.name == "unfinished_run"]
    assert f"run 1a was cut off; its last state has {max(steps)} steps done" in str(hint)
    line = f'"resume={tmp_path / "out" / f"tiny-step{max(steps):08d}-state"}"'
    assert f'go on with: kohyakit train "{tmp_path / "config.toml"}" --set {line}' in str(hint)
    said: list[str] = []
    state = hint.cure.rpartition("resume=")[2].strip('"')
    gone_on = load(tmp_path / "config.toml", overrides={"resume": state, "max_train_epochs": str(max(steps) // 7 + 1)})
    assert train(gone_on, said=said).status == "finished"
    assert any(f"going on after step {max(steps)} of " in text for text in said)
    assert not [p for p in check_plan(config).findings if p.name == "unfinished_run"]


@posix
@pytest.mark.slow
def test_kills_at_random_points_leave_nothing_damaged():
    """Once each here; `python benchmarks/kills.py` does fifty."""
    script = Path(__file__).parents[2] / "benchmarks" / "kills.py"
    command = [sys.executable, str(script), "--times", "1", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["damaged files"] == 0
    assert all(sum(report[name]["ended"].values()) == 1 for name in ("SIGKILL", "SIGTERM", "SIGHUP"))

"""Trainings as processes of their own: what starts, what cannot, what is remembered."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from kohyakit.dashboard.read.project import PROJECT_VARIABLE, Project
from kohyakit.dashboard.serve.start import STARTS_DIR, memory_of, start, starts, tail
from kohyakit.resources import shared_dir
from kohyakit.runs.process import this_process


def wait_for_end(one, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while one.alive:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_preset_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command's own sentence reaches the Live page; a process that has ended is no zombie that counts as alive."""
    project = Project.open(tmp_path)
    begun = start(project, tmp_path / "nowhere.toml")
    wait_for_end(begun)
    assert begun.exit_code == 2
    assert "nowhere.toml" in tail(begun.log)
    assert "Traceback" not in tail(begun.log)
    (again,) = starts(project)
    assert again == begun
    monkeypatch.setenv(PROJECT_VARIABLE, str(tmp_path))
    app = (
        AppTest.from_file(shared_dir("dashboards") / "app.py", default_timeout=60)
        .run()
        .switch_page("views/live.py")
        .run()
    )
    assert "could not start" in app.error[0].value
    assert "nowhere.toml" in app.code[0].value


@pytest.mark.skipif(sys.platform == "win32", reason="process groups are of POSIX")
def test_it_is_in_a_session_of_its_own(tmp_path: Path) -> None:
    """So that Ctrl+C in the dashboard's terminal and closing that terminal do not reach the training."""
    import os

    begun = start(Project.open(tmp_path), tmp_path / "x.toml")
    try:
        assert os.getsid(begun.process.pid) == begun.process.pid
    except ProcessLookupError:
        pytest.fail("it ended before its session could be asked for")
    finally:
        wait_for_end(begun)


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        "null",
        '{"name": "a"}',
        json.dumps({"name": "a", "preset": "b", "time": "x", "process": {}, "log": 1}),
    ],
)
def test_a_damaged_note_is_passed_over(tmp_path: Path, content: str) -> None:
    folder = tmp_path / STARTS_DIR
    folder.mkdir(parents=True)
    (folder / "1.json").write_text(content, encoding="utf-8")
    assert starts(Project.open(tmp_path)) == ()


def test_a_note_cannot_name_a_log_elsewhere(tmp_path: Path) -> None:
    folder = tmp_path / "in" / STARTS_DIR
    folder.mkdir(parents=True)
    (tmp_path / "secret.txt").write_text("secret", encoding="utf-8")
    process = {"pid": 1, "born": "", "host": ""}
    note = {"name": "a", "preset": "b", "time": 1.0, "process": process, "log": "../../../secret.txt"}
    (folder / "1.json").write_text(json.dumps(note), encoding="utf-8")
    (one,) = starts(Project.open(tmp_path / "in"))
    assert one.log.parent == folder.resolve()
    assert tail(one.log) == ""


def test_the_tail_of_a_log(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_bytes(b"".join(b"line %d\n" % i for i in range(20_000)) + b"10%\r50%\r100%\n\n\xff end")
    assert tail(path, lines=3).splitlines() == ["line 19999", "100%", "\ufffd end"]
    assert tail(tmp_path / "none.txt") == ""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="read from /proc")
def test_memory_of_this_process() -> None:
    memory = memory_of(this_process())
    assert memory is not None
    assert 10e6 < memory < 100e9

"""Trainings as processes of their own: what starts, what cannot, what is remembered."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from kohyakit.dashboard.read.project import PROJECT_VARIABLE, Project
from kohyakit.dashboard.serve.start import CAPTIONS_DIR, STARTS_DIR, memory_of, start, starts, tail
from kohyakit.resources import shared_dir
from kohyakit.runs.process import Process, birth, this_host, this_process


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


def test_a_model_captions_from_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chosen on the page, run as a process of its own, watched, its captions in the files and in the history."""
    from PIL import Image

    from tests.captioning.test_server import Answering

    folder = tmp_path / "img" / "1_door"
    folder.mkdir(parents=True)
    Image.new("RGB", (64, 48), (250, 10, 10)).save(folder / "door.png")
    server = Answering()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv(PROJECT_VARIABLE, str(tmp_path))
    app = AppTest.from_file(shared_dir("dashboards") / "app.py", default_timeout=60).run()
    app.switch_page("views/captions.py").run()
    app.segmented_control(key="edit").set_value("Ask a model").run()
    next(box for box in app.selectbox if box.label == "Model").set_value("server").run()
    next(box for box in app.text_input if box.label.startswith("Its folder")).set_value(server.address).run()
    next(box for box in app.text_input if box.label == "Trigger word").set_value("sks").run()
    next(button for button in app.button if button.label == "Caption 1 photo").click().run()
    (begun,) = starts(Project.open(tmp_path), notes=CAPTIONS_DIR)
    wait_for_end(begun)
    server.shutdown()
    assert (folder / "door.txt").read_text(encoding="utf-8") == "sks, a red door"
    assert "1 of 1 captioned" in tail(begun.log)
    app.run()
    assert not app.exception
    app.segmented_control(key="edit").set_value("History").run()
    assert any(button.label == "Take back" for button in app.button)


def test_only_what_this_dashboard_started_is_stopped(tmp_path: Path) -> None:
    """A note names any process it likes, as a project from a stranger may."""
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    notes = tmp_path / CAPTIONS_DIR
    notes.mkdir(parents=True)
    process = asdict(Process(sleeper.pid, birth(sleeper.pid) or "", this_host()))
    note = {"name": "x", "preset": "img", "time": 0, "process": process, "log": "x.log"}
    (notes / "x.json").write_text(json.dumps(note), encoding="utf-8")
    (one,) = starts(Project.open(tmp_path), notes=CAPTIONS_DIR)
    assert one.alive
    assert not one.is_ours
    one.stop()
    time.sleep(0.5)
    assert sleeper.poll() is None
    sleeper.kill()
    sleeper.wait()

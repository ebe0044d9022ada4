"""A child's output is shown as it comes, its progress bar is kept as one line, Ctrl-C reaches it."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from kohyakit.launch.stream import run_streamed


def script(text: str) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(text)]


def test_shown_and_logged(tmp_path):
    shown = io.BytesIO()
    text = r"""
    import sys
    print("学習開始 token=hunter2-hunter2")
    for i in range(50): sys.stderr.write(f"\rsteps: {i}/50")
    sys.stderr.write("\n")
    print("last line without an end", end="")
    """
    blot = lambda line: line.replace("hunter2-hunter2", "***")  # noqa: E731
    ended = run_streamed(script(text), tmp_path / "log.txt", show=shown, clean=blot)
    assert ended.code == 0
    assert ended.stopped == ""
    assert "steps: 0/50" in shown.getvalue().decode("utf-8")
    lines = (tmp_path / "log.txt").read_text(encoding="utf-8").splitlines()
    assert lines == ["学習開始 token=***", "steps: 49/50", "last line without an end"]


def test_output_comes_at_once_and_can_be_watched(tmp_path):
    """The child prints, waits to be told to end, and would sleep for a minute otherwise."""
    seen = []

    def watch(fresh: str) -> bool:
        seen.append(fresh)
        return "ready" in "".join(seen)

    began = time.monotonic()
    text = """
    import time
    try:
        print("ready", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        print("saved")
    """
    ended = run_streamed(script(text), tmp_path / "log.txt", show=io.BytesIO(), watch=watch)
    assert time.monotonic() - began < 30
    assert ended.stopped == "stopped"
    assert "saved" in ended.tail


def test_environment_and_exit_code(tmp_path):
    text = "import os, sys; print(os.environ['WANDB_API_KEY']); sys.exit(7)"
    ended = run_streamed(script(text), tmp_path / "l.txt", show=io.BytesIO(), environment={"WANDB_API_KEY": "k"})
    assert (ended.code, ended.tail.strip()) == (7, "k")


def test_no_such_program(tmp_path):
    with pytest.raises(OSError):
        run_streamed([str(tmp_path / "nothing")], tmp_path / "log.txt", show=io.BytesIO())


@pytest.mark.skipif(os.name == "nt", reason="sends a POSIX signal to stand for Ctrl-C")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_is_handed_on(tmp_path, number):
    parent = f"""
    import io, sys
    from pathlib import Path
    from kohyakit.launch.stream import run_streamed
    child = [sys.executable, "-c", '''
    import time
    try: print("ready", flush=True), time.sleep(60)
    except KeyboardInterrupt: print("the child saved", flush=True)
    ''']
    child[2] = child[2].replace("\\n    ", "\\n")
    ended = run_streamed(child, Path({str(tmp_path / "log.txt")!r}))
    print("parent says", ended.stopped, flush=True)
    """
    done = subprocess.Popen(script(parent), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert done.stderr is not None
    assert done.stderr.readline().strip() == "ready"
    done.send_signal(number)
    out, err = done.communicate(timeout=40)
    assert "parent says interrupted" in out
    assert "the child saved" in err

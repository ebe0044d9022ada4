"""`kohyakit train` at the command line: a whole training, Ctrl-C sent to a real process, a dry run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.door import kohyakit

pytest.importorskip("torch")

from kohyakit.demo.project import make_project

pytestmark = pytest.mark.slow

ASKED = ("sample_every_n_epochs=0", "sample_at_first=false", "output_name=demo")
SETTINGS = [*(word for setting in ASKED for word in ("--set", setting)), "--skip-bad-images", "--quiet"]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("cli") / "demo")


def test_a_dry_run_says_what_check_says(project):
    dry, check = kohyakit("train", project.preset, "--dry-run"), kohyakit("check", project.preset)
    assert dry.stdout == check.stdout
    assert dry.returncode == check.returncode == 1


def test_a_bad_image_stops_it_with_code_2_and_one_sentence(project):
    done = kohyakit("train", project.preset, "--quiet")
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error")]
    assert "IMG_13.jpg" in line
    assert "--skip-bad-images" in line
    assert not list((project.folder / "model").iterdir())


@pytest.fixture(scope="module")
def interrupted(project):
    """What a training in a process of its own said, its imports among it, that got Ctrl-C after its first step.

    Windows has no SIGINT for another process; there it ends after one step by itself.
    """
    long = ("max_train_epochs=40",) if os.name != "nt" else ("max_train_steps=1", "max_train_epochs=0")
    command = [sys.executable, "-X", "importtime", "-m", "kohyakit", "train", str(project.preset), *SETTINGS]
    command += [word for setting in long for word in ("--set", setting)]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, encoding="utf-8")
    said: list[str] = []
    reader = threading.Thread(target=lambda: said.extend(running.stderr))  # a full pipe would make it wait
    reader.start()
    progress = project.folder / "model" / "runs" / "1a" / "progress.json"
    deadline = time.monotonic() + 300
    try:
        while not progress.exists() and running.poll() is None:
            assert time.monotonic() < deadline, "it did not begin"
            time.sleep(0.05)
        if os.name != "nt":
            running.send_signal(signal.SIGINT)
        code = running.wait(300)
    finally:
        running.kill()
        reader.join()
    assert code == (130 if os.name != "nt" else 0), "".join(said)
    return said


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for another process")
def test_ctrl_c_leaves_a_state_from_which_the_printed_command_goes_on(project, interrupted):
    record = json.loads((project.folder / "model/runs/1a/run.json").read_text(encoding="utf-8"))
    assert record["status"] == "interrupted"
    (hint,) = [line.rstrip() for line in interrupted if line.startswith("go on with: kohyakit train ")]
    state = Path(hint.rsplit('"resume=', 1)[1].rstrip('"'))
    done = int(state.name.removeprefix("demo-step").removesuffix("-state"))
    assert record["outcome"].startswith(f"interrupted after step {done} of ")
    resumed = kohyakit(
        "train", project.preset, "--set", f"resume={state}", "--set", f"max_train_steps={done + 2}",
        *SETTINGS, "--set", "max_train_epochs=0",
    )  # fmt: skip
    assert resumed.returncode == 0, resumed.stderr
    assert f"going on after step {done} of {done + 2}" in resumed.stderr
    assert (project.folder / "model" / "demo.safetensors").exists()


def test_what_no_training_uses_is_not_imported(interrupted):
    """diffusers and transformers import peft and scipy where they are installed: a quarter of the start."""
    for package in ("peft", "scipy"):
        pytest.importorskip(package)
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in interrupted if "|" in line}
    assert {"torch", "diffusers", "transformers"} <= imported
    assert imported & {"peft", "scipy", "sklearn"} == set()

"""`kohyakit demo` from end to end, as a newcomer runs it: no network, every promised file, a polite second run."""

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

for package in ("PIL", "torch", "diffusers", "transformers", "peft", "pandas"):
    pytest.importorskip(package)

from kohyakit.demo.walk import Teller, run_demo
from kohyakit.formats.weights import safetensors_header

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent

# Loaded by every Python that the demo starts: whoever asks for another machine is written down and refused.
NO_NETWORK = """
import os, socket

def refuse(what):
    def refused(*args, **kwargs):
        with open(os.environ["ASKED"], "a", encoding="utf-8") as file:
            file.write(f"{what} {args[-1]!r}\\n")
        raise OSError("the test allows no network")
    return refused

connect = socket.socket.connect
socket.getaddrinfo = refuse("getaddrinfo")
socket.socket.connect = lambda self, to: connect(self, to) if isinstance(to, str) else refuse("connect")(self, to)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with a space and letters of other scripts in its name, as users have."""
    return tmp_path_factory.mktemp("demo") / "my photos 写真"


def kohyakit(place: Path, *args: str) -> subprocess.CompletedProcess[str]:
    closed = "http://127.0.0.1:9"  # nothing listens there
    env = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    env |= {name: closed for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")}
    blocker = place.parent / "blocker"
    blocker.mkdir(exist_ok=True)
    (blocker / "sitecustomize.py").write_text(NO_NETWORK, encoding="utf-8")
    env |= {
        "PYTHONPATH": os.pathsep.join((str(blocker), str(ROOT))),
        "ASKED": str(place.parent / "asked.txt"),
        "HF_HOME": str(place.parent / "hf"),  # an empty cache: nothing fetched before helps
    }
    place.mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, "-m", "kohyakit", *args], cwd=place, env=env, capture_output=True, text=True, encoding="utf-8"
    )


@pytest.fixture(scope="module")
def walked(place) -> subprocess.CompletedProcess[str]:
    return kohyakit(place, "demo", "--quiet", "--steps", "3")


def test_the_guard_sees_a_call_for_another_machine(place):
    env_probe = "import socket\ntry: socket.create_connection(('localhost', 9), 1)\nexcept OSError as e: print(e)"
    blocker = place.parent / "probe"
    blocker.mkdir()
    (blocker / "sitecustomize.py").write_text(NO_NETWORK, encoding="utf-8")
    env = os.environ | {"PYTHONPATH": str(blocker), "ASKED": str(blocker / "asked.txt")}
    done = subprocess.run([sys.executable, "-c", env_probe], env=env, capture_output=True, text=True, encoding="utf-8")
    assert "the test allows no network" in done.stdout
    assert "getaddrinfo" in (blocker / "asked.txt").read_text(encoding="utf-8")


def test_it_ends_well_without_a_network(walked, place):
    assert walked.returncode == 0, walked.stdout + walked.stderr
    assert "Traceback" not in walked.stderr
    asked = place.parent / "asked.txt"
    assert not asked.exists(), asked.read_text(encoding="utf-8")


def test_it_says_what_it_found_and_what_to_do_next(walked):
    for words in ("IMG_13.jpg", "breaks off before its end", "IMG_05.jpg", "IMG_15.jpg 48x48", "left out:",
                  "exact_duplicate", "1a -> 1b: network_dim 8 → 2; network_alpha 8 → 2; network_args"):  # fmt: skip
        assert words in walked.stdout, words
    assert walked.stdout.count("finished:") == 2
    assert walked.stdout.splitlines()[-1].split("  ")[1] == "kohyakit dashboard kohyakit-demo"


def test_every_promised_file_is_there(walked, place):
    project = place / "kohyakit-demo"
    model = project / "model"
    for version, rank in (("1a", "8"), ("1b", "2")):
        header = safetensors_header.read(model / f"lighthouse-{version}.safetensors")
        assert header.metadata["ss_network_dim"] == rank
        assert all(key.startswith("lora_unet_") for key in header.tensors)
        run = model / "runs" / version
        assert json.loads((run / "run.json").read_text(encoding="utf-8"))["status"] == "finished"
        assert (run / "source.json").read_bytes() == (project / "preset.json").read_bytes()
    lines = (model / "sample" / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    drawn = [(told["run"], told["step"], told["seed"]) for told in map(json.loads, lines)]
    assert drawn == [(run, 3, seed) for run in ("1a", "1b") for seed in (1, 1, 2, 3, 4)]
    assert len(list((project / "log").glob("*/network_train/events.out.tfevents.*"))) == 2
    assert len(list((project / "img").glob("*/*.jpg"))) == 15


def test_the_sheet_shows_every_sample_of_both(walked, place):
    from PIL import Image

    with Image.open(place / "kohyakit-demo" / "learnt.png") as sheet:
        assert sheet.size == (102 + 6, 10 * 102 + 6)  # one moment; five prompts of two runs


def test_what_it_names_next_works_as_printed(walked, place):
    """Every command under "What to look at next" save the dashboard, which does not return."""
    lines = walked.stdout.split("What to look at next:")[1].splitlines()
    commands = [line.strip().rpartition("  ")[0].strip() for line in lines if line.strip().startswith("kohyakit ")]
    assert len(commands) >= 5
    for command in commands:
        if "dashboard" in command:
            continue
        done = kohyakit(place, *command.split()[1:])
        assert done.returncode == (1 if "repair" in command else 0), command + done.stdout + done.stderr
        assert done.stdout.strip()


def test_a_second_run_refuses_and_changes_nothing(walked, place):
    before = {p: p.stat().st_mtime_ns for p in place.rglob("*")}
    done = kohyakit(place, "demo", "--quiet")
    assert done.returncode == 2
    assert "there is such a folder already" in done.stderr
    assert "--dir NAME" in done.stderr
    assert {p: p.stat().st_mtime_ns for p in place.rglob("*")} == before


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for a process alone")
def test_ctrl_c_in_the_first_training_ends_the_demo_after_saving(tmp_path):
    """The interruption comes as from the keyboard, once steps are taken; the second training must not begin."""
    said: list[str] = []
    over = threading.Event()

    def interrupt() -> None:
        progress = tmp_path / "demo" / "model" / "runs" / "1a" / "progress.json"
        deadline = time.monotonic() + 300
        while not (progress.exists() or over.is_set()) and time.monotonic() < deadline:
            time.sleep(0.02)
        if not over.is_set():  # or the tests that come after would hear of it
            os.kill(os.getpid(), signal.SIGINT)

    def echo(text: str) -> None:
        said.append(text)
        if text.startswith("run 1a"):
            threading.Thread(target=interrupt, daemon=True).start()

    try:
        with pytest.raises(KeyboardInterrupt):
            run_demo(tmp_path / "demo", Teller(lambda config, plan: None, echo, progress=False), steps=400)
    finally:
        over.set()
    assert [path.name for path in (tmp_path / "demo" / "model" / "runs").iterdir() if path.is_dir()] == ["1a"]
    assert any(text.startswith("go on with: kohyakit train") for text in said)

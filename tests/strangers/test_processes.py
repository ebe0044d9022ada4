"""Python files that lie in a data set or a project run in no process: not in ours, not in those that we start."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kohyakit.config.train import TrainConfig
from kohyakit.launch import accelerate, sd_scripts
from kohyakit.launch.checkout import Checkout
from kohyakit.resources import safe_environment
from tests.strangers.conftest import MARK, ROOT, snapshot

pytestmark = pytest.mark.slow

# Python's own start imports these for `python -m` before any module of ours can help it (docs/never-runs.md)
BEFORE_US = set("importlib warnings contextlib collections keyword operator reprlib functools types".split())  # noqa: SIM905
OTHERS = set("click toml tomlkit numpy pandas PIL cv2 simplejpeg torch accelerate streamlit tokenizers toml".split())  # noqa: SIM905


@pytest.fixture
def mined(set_: Path, home: Path) -> Path:
    """A folder with a Python file for every module of the standard library and of ours; each leaves its name."""
    mark = home / MARK
    for name in (sys.stdlib_module_names | OTHERS) - BEFORE_US:
        text = f"open({str(mark)!r}, 'a').write({name + ' '!r})\nraise SystemExit(99)\n"
        (set_ / f"{name}.py").write_text(text, encoding="utf-8")
    return set_


COMMANDS = [
    ("audit . --workers 1", True), ("audit . --workers 1", False), ("repair . --workers 1", False),
    ("check a.toml", False), ("train a.toml", False), ("runs list", False),
]  # fmt: skip


@pytest.mark.parametrize(("words", "safe"), COMMANDS)
def test_no_command_runs_a_file_of_the_folder_it_stands_in(
    mined: Path, home: Path, picture: Callable[..., Path], words: str, safe: bool, kohyakit: Callable[..., object]
) -> None:
    if safe:
        for name in BEFORE_US:
            shutil.copyfile(mined / "click.py", mined / f"{name}.py")
    (mined / "a.toml").write_text('pretrained_model_name_or_path = "m"\n', encoding="utf-8")
    shutil.copyfile(picture("drawn.jpg"), mined / "a.jpg")
    done = kohyakit(*words.split(), cwd=mined, safe=safe)
    assert not (home / MARK).exists(), (home / MARK).read_text(encoding="utf-8")
    assert done.returncode in (0, 1, 2)
    assert "Traceback" not in done.stderr
    assert not list(mined.glob("__pycache__/*"))


def test_the_trap_itself_works(mined: Path, home: Path) -> None:
    """Or the tests beside this one could pass by setting no trap."""
    subprocess.run([sys.executable, "-c", "import json"], cwd=mined, check=False)
    assert (home / MARK).read_text(encoding="utf-8") == "json "


def test_a_training_started_from_the_dashboard(mined: Path, home: Path) -> None:
    pytest.importorskip("streamlit")
    from kohyakit.dashboard.read.project import Project
    from kohyakit.dashboard.serve.start import start

    for name in BEFORE_US:
        shutil.copyfile(mined / "click.py", mined / f"{name}.py")
    (mined / "a.toml").write_text('pretrained_model_name_or_path = "m"\n', encoding="utf-8")
    begun = start(Project.open(mined), mined / "a.toml")
    deadline = time.monotonic() + 60
    while begun.alive and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not (home / MARK).exists()
    assert begun.exit_code == 2
    assert "no resolution is given" in begun.log.read_text(encoding="utf-8")


def test_accelerate_and_what_it_starts(mined: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `launch` starts it, with every name of the standard library lying in wait."""
    if importlib.util.find_spec("accelerate") is None:
        pytest.skip("accelerate is not installed")
    for name in BEFORE_US:
        shutil.copyfile(mined / "click.py", mined / f"{name}.py")
    (mined / "a.toml").write_text('pretrained_model_name_or_path = "m"\n', encoding="utf-8")
    monkeypatch.chdir(mined)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    assert accelerate.launch_builtin(TrainConfig(), Path("a.toml")) != 0
    assert not (home / MARK).exists()


def test_sd_scripts_finds_its_own_modules_and_none_of_the_folders(mined: Path, home: Path, tmp_path: Path) -> None:
    """A checkout's program imports what lies beside it; a Python before 3.11 is started so that it cannot do else."""
    checkout = tmp_path / "sd-scripts"
    (checkout / "library").mkdir(parents=True)
    (checkout / "library" / "__init__.py").write_text("", encoding="utf-8")
    said = tmp_path / "said"
    text = "import os, library, json, pickle\nopen(SAID, 'w').write(os.environ['TORCH_FORCE_WEIGHTS_ONLY_LOAD'])\n"
    (checkout / "train_network.py").write_text(text.replace("SAID", repr(str(said))), encoding="utf-8")
    found = Checkout(checkout, checkout / "train_network.py", sys.executable, {"python": "3.11.0"})
    environment = {**os.environ, **sd_scripts._environment(TrainConfig(), found)}
    subprocess.run([sys.executable, found.script], cwd=mined, env=environment, check=True)
    assert said.read_text(encoding="utf-8") == "1"
    assert not (home / MARK).exists()
    assert not found.old
    assert Checkout(checkout, found.script, "python", {"python": "3.10.14"}).old


def test_an_old_python_is_started_without_the_working_folder(mined: Path, home: Path) -> None:
    """PYTHONSAFEPATH left out, as Python 3.10 does not heed it: the command alone must do."""
    if importlib.util.find_spec("accelerate") is None:
        pytest.skip("accelerate is not installed")
    words = accelerate.command(TrainConfig(), ["--help"], old=True)
    done = subprocess.run(words, cwd=mined, capture_output=True, text=True, encoding="utf-8", check=False)
    assert not (home / MARK).exists()
    assert "accelerate" in done.stdout.lower()


def test_an_empty_entry_of_the_module_path_means_the_working_folder_and_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", str(ROOT), ""]))
    assert safe_environment()["PYTHONPATH"].split(os.pathsep)[0] == str(ROOT)
    assert "" not in safe_environment(Path("x"))["PYTHONPATH"].split(os.pathsep)


def test_reading_a_project_leaves_the_home_as_it_was(mined: Path, home: Path, kohyakit: Callable[..., object]) -> None:
    before = snapshot(home)
    kohyakit("audit", ".", "--workers", "1", cwd=mined)
    assert snapshot(home) == before

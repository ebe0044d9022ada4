"""`log_with` wandb and `log_trackio`: the event files' numbers, sent or kept, and never in the way of a training."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

pytest.importorskip("torch")

from kohyakit.errors import ConfigError, MissingExtra
from kohyakit.formats import train_toml
from kohyakit.planning.inputs.tracker import settings_of, tracker_problems
from kohyakit.planning.machine import machine_problems
from kohyakit.train.callbacks import StepReport, TensorBoard
from kohyakit.train.output.mirrors import Trackio, Wandb, mirrors

INSTALLED = importlib.util.find_spec("wandb") is not None
TRACKIO = importlib.util.find_spec("trackio") is not None


class Run:
    """What a run of a tracker is asked: keeps it, and fails when told to."""

    def __init__(self, fails_at: int = 99) -> None:
        self.logged: list[dict] = []
        self.finished, self._fails_at = False, fails_at

    def log(self, values: dict) -> None:
        if len(self.logged) == self._fails_at:
            raise OSError("no network")
        self.logged.append(values)

    def finish(self) -> None:
        self.finished = True


def report(step: int) -> StepReport:
    return StepReport(step, 1, step - 1, True, 0.5, 0.25, {"unet": 1e-3}, {}, {"max_norm/keys_scaled": 2.0})


def told(run: Run, folder: Path) -> list[str]:
    said: list[str] = []
    board = TensorBoard(folder, unet_only=True, first_is_text=False, mirrors=[Wandb(run, said.append)])
    board.step(report(1))
    board.step(report(2))
    board.epoch(1, 2, 0.3)
    board.end()
    return said


def test_every_tag_is_told_with_step_and_epoch(tmp_path):
    run = Run()
    assert told(run, tmp_path) == []
    assert run.finished
    assert run.logged[1] == {
        "loss/current": 0.5, "loss/average": 0.25, "lr/unet": 1e-3, "lr/group0": 1e-3, "max_norm/keys_scaled": 2.0,
        "global_step": 2, "epoch": 1,
    }  # fmt: skip
    assert run.logged[2] == {"loss/epoch_average": 0.3, "global_step": 2, "epoch": 1}


def test_what_fails_there_is_said_once_and_ends_nothing(tmp_path):
    said = told(Run(fails_at=1), tmp_path)
    assert said == ["warning: Weights & Biases takes no more numbers (no network); the training goes on"]


def test_a_tracker_config_is_read_or_refused_in_one_sentence(tmp_path, make_config):
    file = tmp_path / "tracker.toml"
    file.write_text('[wandb]\nentity = "me"\n[tensorboard]\nflush_secs = 9\n', encoding="utf-8")
    assert settings_of(str(file), "wandb") == {"entity": "me"}
    assert list(tracker_problems(make_config(log_tracker_config=str(file)))) == []
    for text in ("[wandb", "wandb = 3", "trackio = 3"):
        file.write_text(text, encoding="utf-8")
        (problem,) = tracker_problems(make_config(log_tracker_config=str(file)))
        assert problem.name == "tracker_config"
        with pytest.raises(ConfigError):
            settings_of(str(file), "trackio" if "trackio" in text else "wandb")


@pytest.mark.skipif(INSTALLED, reason="wandb is installed")
def test_without_the_package_check_and_train_name_it(make_config):
    config = make_config(log_with="wandb")
    (problem,) = [p for p in machine_problems(config) if p.where.startswith("log_with")]
    assert problem.name == "package_missing"
    assert problem.cure == 'pip install "kohyakit[wandb]"'
    with pytest.raises(MissingExtra, match="needs the package wandb"):
        mirrors(config, None, print)


@pytest.mark.skipif(not INSTALLED, reason="needs wandb")
def test_without_a_key_a_run_is_kept_for_later(make_config, tmp_path, monkeypatch):
    """The real thing, offline: it would ask for a key otherwise, and wait."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    said: list[str] = []

    class Place:
        folder = tmp_path / "run"

    Place.folder.mkdir()
    config = make_config(log_with="wandb", log_tracker_name="dogs", wandb_run_name="1a", log_config=True)
    (mirror,) = mirrors(config, Place, said.append)
    mirror.write({"loss/current": 0.5}, 1, 1)
    mirror.close()
    assert "no key is known" in said[0]
    assert list((Place.folder / "wandb").glob("offline-run-*/run-*.wandb"))


def test_trackio_is_told_the_step_and_its_talk_of_uploading_is_not_heard(capsys):
    logged = []

    class Speaking:
        def log(self, values: dict, step: int) -> None:
            logged.append((values, step))

        def finish(self) -> None:
            print("* Run finished. Uploading logs to Trackio (please wait...)")

    mirror = Trackio(Speaking(), print)
    mirror.write({"loss/current": 0.5}, 3, 1)
    mirror.close()
    assert logged == [({"loss/current": 0.5, "epoch": 1}, 3)]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("way", ["variable", "table"])
def test_numbers_leave_the_machine_only_where_that_is_set_and_said(make_config, tmp_path, monkeypatch, way):
    """Trackio itself goes by its variable; what it is handed is looked at here, whether it is installed or not."""
    begun: list[dict] = []
    monkeypatch.setitem(sys.modules, "trackio", types.SimpleNamespace(init=lambda **given: begun.append(given)))
    monkeypatch.delenv("TRACKIO_SERVER_URL", raising=False)
    monkeypatch.delenv("TRACKIO_SPACE_ID", raising=False)
    file = tmp_path / "asked.toml"
    file.write_text('[trackio]\nspace_id = "me/dogs"\n' if way == "table" else "", encoding="utf-8")
    run, said = types.SimpleNamespace(folder=Path("1a")), []
    mirrors(make_config(log_trackio=True), run, said.append)
    assert said == []
    if way == "variable":
        monkeypatch.setenv("TRACKIO_SPACE_ID", "me/dogs")
    mirrors(make_config(log_trackio=True, log_tracker_config=str(file)), run, said.append)
    name = "TRACKIO_SPACE_ID" if way == "variable" else "space_id"
    assert said == [f"Trackio: {name} is set, so the numbers leave this machine"]
    assert [(given["project"], given["name"]) for given in begun] == [("network_train", "1a")] * 2


@pytest.mark.skipif(TRACKIO, reason="trackio is installed")
def test_without_trackio_check_and_train_name_it(make_config):
    config = make_config(log_trackio=True)
    (problem,) = [p for p in machine_problems(config) if "trackio" in p.where]
    assert (problem.name, problem.cure) == ("package_missing", 'pip install "kohyakit[trackio]"')
    with pytest.raises(MissingExtra, match="needs the package trackio"):
        mirrors(config, None, print)


@pytest.mark.skipif(not TRACKIO, reason="needs trackio")
def test_trackio_keeps_the_numbers_on_this_machine(make_config, tmp_path):
    """The real thing, in a process of its own, as it reads its folder's name when it is imported."""
    file = tmp_path / "asked.toml"
    train_toml.write(make_config(log_trackio=True, log_tracker_name="dogs"), file)
    there = {**os.environ, "TRACKIO_DIR": str(tmp_path / "kept"), "HOME": str(tmp_path)}
    script = (
        "import sys, types; from pathlib import Path; from kohyakit.formats import load; "
        "from kohyakit.train.output.mirrors import mirrors; "
        "run = types.SimpleNamespace(folder=Path('1a')); "
        "(mirror,) = mirrors(load(Path(sys.argv[1])), run, print); "
        "mirror.write({'loss/current': 0.5}, 3, 1); mirror.close(); import trackio; "
        "print(trackio.Api().runs('dogs')[0].name)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(file)], capture_output=True, text=True, env=there)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "kept" / "dogs.db").stat().st_size > 0
    assert "1a" in done.stdout

"""How a running training's numbers are told."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("streamlit")

from kohyakit.dashboard.pages.live import progress_of, speed_text
from kohyakit.dashboard.read import gpu
from kohyakit.runs.process import this_process
from kohyakit.runs.run import Run, open_run


def running(project: Path, made: ModuleType, **told: object) -> Run:
    """A training that began an hour ago, of which most was loading."""
    folder = made.write_run(project, "3a", status="running", process=asdict(this_process()), steps=1000, scalars={})
    started = (datetime.now(UTC) - timedelta(hours=1)).isoformat(timespec="seconds")
    open_run(folder).update(started=started)
    (folder / "progress.json").write_text(json.dumps(told), encoding="utf-8")
    return open_run(folder)


def test_loading_counts_for_no_time_left(project: Path, made: ModuleType) -> None:
    """After the first step nothing is known of the speed: an hour of loading is not 999 hours to go."""
    now = progress_of(running(project, made, step=1, steps=1000, steps_per_second=None, seconds_left=None))
    assert now["seconds_left"] is None
    assert now["speed"] is None
    now = progress_of(running(project, made, step=200, steps=1000, steps_per_second=4.0, rates={"unet": 1e-4}))
    assert now["seconds_left"] == 200
    assert (now["speed"], now["rate"]) == (4.0, 1e-4)


def test_a_log_tells_the_speed_where_the_training_does_not(project: Path, made: ModuleType) -> None:
    run = running(project, made, step=50, steps=100)
    made.write_events(project / "log" / "3a", {"loss/average": [(step, 0.1) for step in range(1, 51)]}, seconds=0.5)
    run.update(logs=[project / "log" / "3a"])
    now = progress_of(run)
    assert now["speed"] == pytest.approx(2, rel=0.01)
    assert now["seconds_left"] == pytest.approx(25, rel=0.01)


@pytest.mark.parametrize(("speed", "text"), [(2.5, "2.50 it/s"), (0.25, "4.00 s/it"), (None, "–"), (0, "–")])
def test_speed_in_words(speed: float | None, text: str) -> None:
    assert speed_text(speed) == text


def test_what_nvidia_smi_says() -> None:
    """The second card does not tell its load, as some under Windows do not."""
    assert gpu.parse("47, 10240, 81920\n[N/A], 1, 2\n") == (gpu.Load(47, 10240 * 2**20, 81920 * 2**20),)
    assert gpu.parse("Failed to initialize NVML") == ()


def test_the_tool_is_not_taken_from_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\ntouch ran\n", encoding="utf-8")
    tool.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", ".")
    monkeypatch.setattr(gpu, "_last", (0.0, ()))
    assert gpu.loads() == ()
    assert not (tmp_path / "ran").exists()

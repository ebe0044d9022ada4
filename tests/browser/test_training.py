"""Start a real tiny training from the Preset page, watch it, stop one, and see what is left."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]
pytest.importorskip("torch")
pytest.importorskip("diffusers")


@pytest.fixture(scope="module")
def _demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from kohyakit.demo.project import make_project

    return make_project(tmp_path_factory.mktemp("demo") / "lighthouse").folder


@pytest.fixture
def demo(_demo: Path, tmp_path: Path) -> Path:
    """The demo's pictures and model with a short preset of their own: one epoch, no samples."""
    project = tmp_path / "lighthouse"
    shutil.copytree(_demo, project)
    for picture in sorted((project / "img" / "10_sks lighthouse").glob("*.jpg"))[2:]:
        picture.unlink()
        picture.with_suffix(".txt").unlink()
    (project / "img" / "10_sks lighthouse").rename(project / "img" / "2_sks lighthouse")
    preset(project)
    return project


def preset(project: Path, epochs: int = 2) -> None:
    (project / "presets").mkdir(exist_ok=True)
    values = {
        "pretrained_model_name_or_path": (project / "tiny-sd15").as_posix(),
        "train_data_dir": (project / "img").as_posix(), "output_dir": (project / "model").as_posix(),
        "output_name": "lighthouse", "logging_dir": (project / "log").as_posix(),
        "resolution": "96,96", "caption_extension": ".txt",
        "network_module": "networks.lora", "network_dim": 4, "network_alpha": 2, "learning_rate": 1e-4,
        "optimizer_type": "AdamW", "train_batch_size": 1, "max_train_epochs": epochs, "save_every_n_epochs": 1,
        "save_model_as": "safetensors", "seed": 1,
        "max_data_loader_n_workers": 0, "cache_latents": True,
    }  # fmt: skip
    lines = [f"{name} = {json.dumps(value)}" for name, value in values.items()]
    (project / "presets" / "lighthouse.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def start(page: Any, url: str) -> None:
    page.goto(url + "preset?preset=presets/lighthouse.toml")
    page.get_by_role("button", name="Start training").click()
    page.wait_for_url(re.compile("live"))


def record(project: Path, version: str = "1a") -> dict[str, Any]:
    return json.loads((project / "model" / "runs" / version / "run.json").read_text(encoding="utf-8"))


def wait_until(what: Callable[[], bool], seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.5)


def test_start_a_training_and_watch_it_end(page: Any, serve: Callable[..., str], demo: Path) -> None:
    page.set_default_timeout(240_000)
    start(page, serve(demo))
    page.get_by_text(re.compile("is starting|step \\d+ of|getting ready|The last was")).first.wait_for()
    page.get_by_text("The last was 1a").wait_for()
    assert "finished" in page.get_by_text("The last was 1a").inner_text()
    assert record(demo)["status"] == "finished"
    assert (demo / "model" / "lighthouse.safetensors").exists()
    page.get_by_role("link", name="Its curves").click()
    page.locator("[data-testid=stEChartsChart] canvas").first.wait_for()
    page.get_by_role("link", name="Runs").first.click()
    page.locator('.row[data-id="1a"]').wait_for()


def test_the_demo_trains_from_its_own_preset(
    page: Any, serve: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the README says: `kohyakit demo`, then `kohyakit dashboard kohyakit-demo` in the same folder. One of its
    photos is damaged: the button says that it is left out.
    """
    from kohyakit.demo.project import make_project

    monkeypatch.chdir(tmp_path)
    demo = make_project(Path("kohyakit-demo"))
    values = json.loads(demo.preset.read_text(encoding="utf-8"))
    short = {"max_train_steps": 4, "sample_every_n_epochs": 0, "additional_parameters": ""}
    demo.preset.write_text(json.dumps(values | short), encoding="utf-8")
    page.set_default_timeout(240_000)
    page.goto(serve(Path("kohyakit-demo")) + "preset")
    page.get_by_role("combobox", name="Preset").click()
    page.get_by_role("option").first.click()
    page.wait_for_url(re.compile(r"preset=preset\.json"))
    page.get_by_role("button", name="Start training without 1 photo").click()
    page.wait_for_url(re.compile("live"))
    page.get_by_text("The last was 1a").wait_for()
    assert record(tmp_path / "kohyakit-demo")["status"] == "finished"


def test_it_outlives_page_and_dashboard_and_stops_when_asked(page: Any, serve: Callable[..., str], demo: Path) -> None:
    page.set_default_timeout(240_000)
    preset(demo, epochs=400)
    url = serve(demo)
    start(page, url)
    wait_until(lambda: (demo / "model" / "runs" / "1a" / "progress.json").exists())
    page.get_by_text(re.compile(r"step [\d,]+ of [\d,]+")).wait_for()
    page.goto("about:blank")
    second = serve(demo)  # another dashboard, as if the first had been closed
    page.goto(second + "live")
    page.get_by_text(re.compile(r"step [\d,]+ of [\d,]+")).wait_for()
    page.get_by_role("button", name="Stop", exact=True).click()
    page.get_by_role("button", name="Stop after this step").click()
    page.get_by_text("The last was 1a").wait_for()
    assert record(demo)["status"] == "stopped"
    assert list((demo / "model").glob("lighthouse*.safetensors"))


@pytest.mark.skipif(sys.platform == "win32", reason="kills by signal")
def test_a_killed_training_is_shown_as_such(page: Any, serve: Callable[..., str], demo: Path) -> None:
    page.set_default_timeout(240_000)
    preset(demo, epochs=400)
    url = serve(demo)
    start(page, url)
    wait_until(lambda: (demo / "model" / "runs" / "1a" / "progress.json").exists())
    os.kill(record(demo)["process"]["pid"], signal.SIGKILL)
    page.get_by_text("process gone").first.wait_for()
    page.goto(url)
    page.locator('.row[data-id="1a"]').get_by_text("lost").wait_for()

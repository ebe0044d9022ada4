"""A dashboard of its own process and one headless Chromium for the whole folder of tests."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

playwright = pytest.importorskip("playwright.sync_api")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def made() -> ModuleType:
    """The maker of projects of the dashboard's tests."""
    path = Path(__file__).parent.parent / "dashboard" / "made.py"
    spec = importlib.util.spec_from_file_location("made", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium; where there is none the tests are skipped, in CI they fail."""
    if not Path(CHROMIUM).exists():
        if os.environ.get("CI"):
            pytest.fail("CI needs chromium (apt-get install chromium)")
        pytest.skip("no chromium on this machine")
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page of a context of its own; what its scripts throw fails the test."""
    context = browser.new_context(viewport={"width": 1360, "height": 900}, accept_downloads=True)
    opened = context.new_page()
    opened.set_default_timeout(60_000)
    thrown: list[str] = []
    opened.on("pageerror", lambda error: thrown.append(str(error)))
    yield opened
    context.close()
    assert thrown == []


@contextlib.contextmanager
def dashboards(cache: Path) -> Iterator[Callable[..., str]]:
    """Start `kohyakit dashboard` on a free port; returns the address that it prints. Ends every one of them."""
    running: list[subprocess.Popen[str]] = []

    def start(project: Path, *options: str) -> str:
        command = [sys.executable, "-m", "kohyakit", "dashboard", str(project), "--port", "0", "--no-browser", *options]
        environment = {**os.environ, "KOHYAKIT_CACHE": str(cache)}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8", env=environment)
        running.append(process)
        assert process.stdout is not None
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found, "the dashboard did not start"
        return found.group()

    try:
        yield start
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(20)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """serve(project, *options) -> the address of a dashboard of the test's own."""
    with dashboards(tmp_path / "user-cache") as start:
        yield start


@pytest.fixture(scope="module")
def shown(made: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of one dashboard for all tests that only look at a small project."""
    home = tmp_path_factory.mktemp("shown")
    with dashboards(home / "user-cache") as start:
        yield start(made.small_project(home))

"""Small projects with real logs and pictures for the dashboard's tests."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from types import ModuleType

import pytest

from kohyakit.dashboard.read.project import PROJECT_VARIABLE

pytest.importorskip("streamlit")


def load_made() -> ModuleType:
    """made.py, which lies beside this file and is no package."""
    spec = importlib.util.spec_from_file_location("made", Path(__file__).with_name("made.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def _working_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pages make the project their working folder; afterwards it is the tests' own again."""
    monkeypatch.chdir(Path.cwd())


@pytest.fixture(scope="session")
def made() -> ModuleType:
    """The maker of projects, runs, logs and pictures."""
    return load_made()


@pytest.fixture(scope="session")
def _finished_project(made: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.small_project(tmp_path_factory.mktemp("made"))


@pytest.fixture
def project(_finished_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the small project (see made.small_project) that a test may spoil; the dashboard is opened on it."""
    copy = tmp_path / "lighthouse"
    shutil.copytree(_finished_project, copy)
    for listed in copy.glob("runs/*/dataset.json"):  # lists name folders by their whole path
        data = json.loads(listed.read_text(encoding="utf-8"))
        for entry in data["entries"]:
            entry["root"] = str(copy / Path(entry["root"]).relative_to(_finished_project))
        listed.write_text(json.dumps(data), encoding="utf-8")
    monkeypatch.setenv(PROJECT_VARIABLE, str(copy))
    monkeypatch.setenv("KOHYAKIT_CACHE", str(tmp_path / "user-cache"))
    return copy

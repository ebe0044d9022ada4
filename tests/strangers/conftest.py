"""A home that must stay as it is, and a folder in it that came from a stranger."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MARK = "executed"


def snapshot(folder: Path, *, without: tuple[Path, ...] = ()) -> dict[str, str]:
    """Every file, folder and link below a folder with its bytes, its mode and where it leads."""
    found = {}
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if Path(place, name) not in without]
        for name in (*folders, *files):
            path = Path(place, name)
            about = path.lstat()
            what = f"{stat.filemode(about.st_mode)} "
            if path.is_symlink():
                what += os.readlink(path)
            elif path.is_file():
                what += hashlib.sha256(path.read_bytes()).hexdigest()
            found[path.relative_to(folder).as_posix()] = what
    return found


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with things that matter in it: a key, a start-up script, photos of somebody's own."""
    home = tmp_path / "home"
    for name, text in (
        (".ssh/id_rsa", "a private key"), (".bashrc", "alias ll='ls -l'"), ("photos/mine.jpg", "my own photo"),
        (".config/app/settings.toml", "mine = true"), ("photos/mine.txt", "my own caption"),
    ):  # fmt: skip
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return home


@pytest.fixture
def set_(home: Path) -> Path:
    """The folder that a stranger gave."""
    folder = home / "downloads" / "set"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def kohyakit(home: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """kohyakit("audit", ".", cwd=folder): the command line in a process of its own, in that home."""

    def run(*words: str, cwd: Path, safe: bool = False, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT", "LD_LIBRARY_PATH") if name in os.environ}
        env = {**kept, "HOME": str(home), "USERPROFILE": str(home), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, *(["-P"] if safe else []), "-m", "kohyakit", *words]
        return subprocess.run(
            command, cwd=cwd, env=env, capture_output=True, text=True, encoding="utf-8", timeout=timeout, check=False
        )

    return run

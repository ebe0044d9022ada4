"""Types and form, held by the tools that people run themselves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
@pytest.mark.parametrize("words", ["mypy", "ruff check .", "ruff format --check ."])
def test_nothing_to_complain_about(words: str) -> None:
    """As whoever runs it by hand: what is known of unchanged files is kept beside the code, and saves a minute."""
    pytest.importorskip(words.split()[0])
    command = [sys.executable, "-m", *words.split()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]

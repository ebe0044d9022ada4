"""The command: wrong use is a sentence, the address is what it says, the options send nothing."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from kohyakit.dashboard.draw import theme
from kohyakit.dashboard.serve import server
from kohyakit.dashboard.serve.server import Address
from kohyakit.errors import KohyakitError


def run(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kohyakit", "dashboard", "--no-browser", *options]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=60, check=False)


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    result = run(str(tmp_path / "nowhere"))
    assert result.returncode == 2
    assert "is not a folder" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = run(str(tmp_path), "--port", str(taken.getsockname()[1]))
    assert result.returncode == 2
    assert "--port 0 for any free one" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("port", [70000, -1])
def test_a_port_that_is_none(port: int) -> None:
    with pytest.raises(KohyakitError, match="cannot be listened on"):
        server._listen("127.0.0.1", port)


def test_an_address_that_is_none() -> None:
    with pytest.raises(KohyakitError, match="name an address of this machine"):
        server._listen("no.such.host.invalid", 0)


def test_addresses() -> None:
    assert Address("127.0.0.1", 8501).url == "http://127.0.0.1:8501/"
    assert Address("::1", 1).url == "http://[::1]:1/"
    assert Address("192.168.1.2", 1, "abc").url == "http://192.168.1.2:1/?token=abc"
    assert Address("0.0.0.0", 1, "abc").url == f"http://{socket.gethostname()}:1/?token=abc"


def test_nothing_is_reported_to_anybody() -> None:
    assert server.STREAMLIT_OPTIONS["browser.gatherUsageStats"] is False
    assert server.STREAMLIT_OPTIONS["client.showErrorDetails"] == "none"


def test_every_option_is_one_of_streamlits() -> None:
    from streamlit import config

    known = set(config.get_config_options())
    assert {*server.STREAMLIT_OPTIONS, *theme.streamlit_options()} <= known

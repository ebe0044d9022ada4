"""`kohyakit doctor`: on this machine as it is, and on environments made for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from kohyakit.doctor import devices, packages, report


def doctor(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kohyakit", "doctor", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, encoding="utf-8", cwd=cwd, env={**os.environ, **environment}
    )


def package(site: Path, name: str, number: str) -> None:
    """An installed package as pip leaves it, but for its files."""
    folder = site / f"{name.replace('-', '_')}-{number}.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {number}\n", encoding="utf-8")


@pytest.mark.slow
def test_what_is_printed_tells_versions_and_no_secret(tmp_path: Path) -> None:
    home = tmp_path / "home" / "marguerite"
    checkout = home / "sd-scripts"
    (checkout / "library").mkdir(parents=True)
    (checkout / "train_network.py").touch()
    site = tmp_path / "site"
    package(site, "onnxruntime-gpu", "1.20")
    package(site, "onnxruntime", "1.20")
    done = doctor(
        "--json", cwd=home, HOME=str(home), USERPROFILE=str(home), HF_TOKEN="hf_verysecret", USER="marguerite",
        LOGNAME="marguerite", HF_HOME=str(home / "hub"), PYTHONPATH=os.pathsep.join([str(site), *sys.path]),
        KOHYAKIT_CACHE=str(home / "cache"),
    )  # fmt: skip
    told = json.loads(done.stdout)
    assert told["Packages"]["base"].startswith(f"click {version('click')}")
    assert told["Surroundings"]["HF_TOKEN"] == "set"
    assert told["Surroundings"]["HF_HOME"] in ("~/hub", "~\\hub")
    assert list(told["sd-scripts"]) in (["~/sd-scripts"], ["~\\sd-scripts"])
    assert "hf_verysecret" not in done.stdout
    assert str(home) not in done.stdout
    (twins,) = [problem for problem in told["problems"] if problem["name"] == "twin_packages"]
    assert twins["what"].startswith("onnxruntime and onnxruntime-gpu are both installed")


@pytest.mark.slow
def test_a_package_that_does_not_start_is_an_error_and_exit_code_1(tmp_path: Path) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise OSError('libcudart.so.12: no such file')", encoding="utf-8")
    done = doctor(cwd=tmp_path, PYTHONPATH=os.pathsep.join([str(tmp_path), *sys.path]))
    assert done.returncode == 1
    assert "torch: is installed but does not start: OSError: libcudart.so.12" in " ".join(done.stdout.split())


def test_a_version_out_of_its_range() -> None:
    assert not packages.Package("torch", ">=2.6,<=2.13.0", "2.5.1").fits
    assert packages.Package("torch", ">=2.6,<=2.13.0", "2.13.0+cpu").fits
    assert packages.Package("torch", ">=2.6", "").fits


def test_cards_in_words_and_a_build_that_does_not_use_them() -> None:
    card = {"name": "NVIDIA GeForce RTX 2070", "bytes": 8_589_934_592, "bf16": False}
    assert list(devices.in_words({"torch": "2.6", "cards": [card]})) == [
        ("NVIDIA GeForce RTX 2070", "8.0 GiB, fp16, no bf16")
    ]
    (told,) = devices.problems({"torch": "2.6+cpu", "threads": 4}, has_nvidia=True)
    assert told.what.startswith("is a build without CUDA")
    assert not list(devices.problems({"torch": "2.6+cpu", "threads": 4}, has_nvidia=False))


def test_a_name_inside_other_words_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "anna")
    assert report.clean("/mnt/anna/annapurna") == "/mnt/user/annapurna"

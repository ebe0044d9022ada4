"""The README's commands run as printed, in its order, in one folder; what it shows is what they say.

The demo trains a few steps only: what it prints is the same.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.docs.shown import blocks, named_commands, pattern, run, steps

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DEMO_NEEDS = ("PIL", "torch", "diffusers", "transformers", "pandas", "cv2")


def test_the_pattern_is_no_wildcard():
    assert pattern("a\n…\nb ... d\n").fullmatch("a\nx\ny\nb cc d\n")
    assert pattern("a\n…\n").fullmatch("a\n")
    assert not pattern("a\n…\nb\n").fullmatch("a\nx\n")
    assert not pattern("a\n").fullmatch("a\nb\n")


@pytest.mark.slow
def test_console_blocks_run_as_printed(tmp_path):
    for package in DEMO_NEEDS:
        pytest.importorskip(package)
    assert len(steps(README)) >= 10
    for command, shown in steps(README):
        run(command.replace("kohyakit demo", "kohyakit demo --steps 3"), shown, tmp_path)
    assert (tmp_path / "back.json").read_bytes() == (tmp_path / "kohyakit-demo/preset.json").read_bytes()
    (python,) = blocks(README, "python")
    (tmp_path / "readme.py").write_text(python, encoding="utf-8")
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "readme.py"], cwd=tmp_path, env=env, capture_output=True, text=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("12 steps; "), done.stdout
    assert re.search(r"^1c finished$", done.stdout, re.M), done.stdout
    assert "loss/average" in done.stdout


def test_shell_blocks_name_commands_and_options_that_exist():
    assert named_commands(README) >= 6


def test_the_install_lines_name_extras_that_exist():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = {extra for group in re.findall(r'"\.\[([a-z,]+)\]"', README) for extra in group.split(",")}
    assert named == {"all", "dev"}
    assert named <= set(project["optional-dependencies"])
    assert 'pip install -e ".[all]" && kohyakit demo\n' in README
    if (ROOT / ".ci" / "run").is_file():
        line = re.search(r"grep -m1 -E '(.+?)' README\.md", (ROOT / ".ci" / "run").read_text(encoding="utf-8"))
        assert len(re.findall(line[1], README, re.M)) == 1, "CI takes the test command from here"


def test_it_stays_readable_in_one_sitting():
    assert len(README.splitlines()) < 260


def test_the_workflow_runs_the_readmes_line_on_every_version_that_is_promised():
    yaml = pytest.importorskip("yaml")
    (job,) = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text(encoding="utf-8"))["jobs"].values()
    assert job["steps"][-1]["run"] in README
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    told = [c.rpartition(" ")[2] for c in project["classifiers"] if re.search(r"Python :: 3\.\d", c)]
    assert job["strategy"]["matrix"]["python"] == told

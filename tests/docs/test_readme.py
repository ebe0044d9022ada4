"""The README's commands run as printed, in its order, in one folder; what it shows is what they say. After them, those
of the pages of commands (docs/commands), which go on where the demo left off.

The demo trains a few steps only: what it prints is the same.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from kohyakit.cli import COMMANDS
from tests.docs.shown import blocks, compare, named_commands, pattern, run, steps
from tests.door import kohyakit

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {name: (ROOT / f"docs/commands/{name}.md").read_text(encoding="utf-8") for name in COMMANDS}
DEMO_NEEDS = ("PIL", "torch", "diffusers", "transformers", "pandas", "cv2")


def test_the_pattern_is_no_wildcard():
    assert pattern("a\n…\nb ... d\n").fullmatch("a\nx\ny\nb cc d\n")
    assert pattern("a\n…\n").fullmatch("a\n")
    assert not pattern("a\n…\nb\n").fullmatch("a\nx\n")
    assert not pattern("a\n").fullmatch("a\nb\n")


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> tuple[Path, str]:
    """A folder with the demo's project in it, and what the demo said."""
    for package in DEMO_NEEDS:
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp("demo")
    return folder, kohyakit("demo", "--steps", 3, cwd=folder).stdout


@pytest.mark.slow
def test_console_blocks_run_as_printed(demo):
    folder, said = demo
    assert len(steps(README)) >= 10
    for command, shown in steps(README):
        if command == "kohyakit demo":
            compare(command, shown, said)
        else:
            run(command, shown, folder)
    assert (folder / "back.json").read_bytes() == (folder / "kohyakit-demo/preset.json").read_bytes()
    (python,) = blocks(README, "python")
    (folder / "readme.py").write_text(python, encoding="utf-8")
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "readme.py"], cwd=folder, env=env, capture_output=True, text=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("12 steps; "), done.stdout
    assert re.search(r"^1c finished$", done.stdout, re.M), done.stdout
    assert "loss/average" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_a_commands_page_shows_what_it_says_and_what_it_ends_with(demo, name):
    folder, said = demo
    told = " ".join(re.findall(r"[Ee]xit code(?:\*\*|:)? (.*)", PAGES[name]))
    for command, shown in steps(PAGES[name]):
        if name == "demo":
            compare(command, shown, said)
        elif name == "dashboard":
            compare(command, shown, first_words(command, folder, shown.count("\n")))
        else:
            assert re.search(rf"\b{run(command, shown, folder)}\b", told), told


def first_words(command: str, folder: Path, lines: int) -> str:
    """What a command that does not return says at its start; Ctrl-C then ends it well."""
    words = [sys.executable, "-m", *command.split()]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(words, cwd=folder, env=env, stdout=subprocess.PIPE, text=True, encoding="utf-8") as process:
        assert process.stdout is not None
        said = "".join(process.stdout.readline() for _ in range(lines))
        if os.name == "nt":
            process.terminate()
        else:
            process.send_signal(signal.SIGINT)
            assert (process.wait(), process.stdout.read()) == (0, "")
    return said


@pytest.mark.parametrize("name", COMMANDS)
def test_a_commands_page_has_an_example_and_says_what_is_written(name):
    assert re.search(rf"^\$ kohyakit {name}\b", PAGES[name], re.M)
    assert "- **Writes** " in PAGES[name]
    assert "- **Undo**" in PAGES[name] or re.search(r"\*\*Writes\*\* (nothing|the files)", PAGES[name])
    assert named_commands(PAGES[name]) >= 0


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

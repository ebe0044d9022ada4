"""The README's commands run as printed, in its order, in one folder; what it shows is what they say.

A line `…` in a console block stands for any lines, `...` within a line for any text.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.door import kohyakit

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DEMO_NEEDS = ("PIL", "torch", "diffusers", "transformers", "pandas", "cv2")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.M | re.S)


def steps() -> list[tuple[str, str]]:
    """Every `$ ` line of the console blocks with the lines shown below it."""
    found = []
    for block in blocks("console"):
        for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
            command, _, shown = part.partition("\n")
            found.append((command, shown))
    return found


def pattern(shown: str) -> re.Pattern[str]:
    lines = []
    for line in shown.splitlines():
        if line == "…":
            lines.append(r"(?:.*\n)*?")
        else:
            lines.append(r".*?".join(re.escape(part) for part in line.split("...")) + r"[ ]*\n")
    return re.compile("".join(lines))


def test_the_pattern_is_no_wildcard():
    assert pattern("a\n…\nb ... d\n").fullmatch("a\nx\ny\nb cc d\n")
    assert pattern("a\n…\n").fullmatch("a\n")
    assert not pattern("a\n…\nb\n").fullmatch("a\nx\n")
    assert not pattern("a\n").fullmatch("a\nb\n")


@pytest.mark.slow
def test_console_blocks_run_as_printed(tmp_path):
    for package in DEMO_NEEDS:
        pytest.importorskip(package)
    assert len(steps()) >= 10
    for command, shown in steps():
        words = shlex.split(command)
        assert words[0] == "kohyakit"
        done = kohyakit(*words[1:], cwd=tmp_path)
        said = (done.stderr if done.returncode == 2 else done.stdout).replace("\\", "/")
        assert pattern(shown).fullmatch(said), f"$ {command}\n{said}{done.stderr if done.returncode != 2 else ''}"
    assert (tmp_path / "back.json").read_bytes() == (tmp_path / "kohyakit-demo/preset.json").read_bytes()
    (python,) = blocks("python")
    (tmp_path / "readme.py").write_text(python, encoding="utf-8")
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "readme.py"], cwd=tmp_path, env=env, capture_output=True, text=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("17 steps; "), done.stdout
    assert re.search(r"^1b finished$|^2a finished$", done.stdout, re.M), done.stdout
    assert "loss/average" in done.stdout


def test_shell_blocks_name_commands_and_options_that_exist():
    from kohyakit.cli import COMMANDS, group

    lines = [line for block in blocks("sh") for line in block.splitlines() if "kohyakit " in line]
    lines += re.findall(r"`(kohyakit [a-z][^`]*)`", README)
    assert len(lines) >= 6
    for line in lines:
        words = line.partition("kohyakit ")[2].split()
        assert words[0] in COMMANDS, line
        known = {name for param in group.get_command(None, words[0]).params for name in param.opts}
        for word in words[1:]:
            assert not word.startswith("--") or word in known, f"{line}: {word}"


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

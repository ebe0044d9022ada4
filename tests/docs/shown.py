"""Console blocks of a page: what is typed, and what is shown below it.

A line `…` in a console block stands for any lines, `...` within a line for any text.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from kohyakit.cli import COMMANDS, group
from tests.door import kohyakit


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)


def steps(text: str) -> list[tuple[str, str]]:
    """Every `$ ` line of the console blocks with the lines shown below it."""
    found = []
    for block in blocks(text, "console"):
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


def run(command: str, shown: str, folder: Path) -> None:
    """Run a step in a folder, and compare what it says with what is shown."""
    words = shlex.split(command)
    assert words[0] == "kohyakit"
    done = kohyakit(*words[1:], cwd=folder)
    said = (done.stderr if done.returncode == 2 else done.stdout).replace("\\", "/")
    assert pattern(shown).fullmatch(said), f"$ {command}\n{said}{done.stderr if done.returncode != 2 else ''}"


def named_commands(text: str) -> int:
    """How many commands a page's shell blocks and sentences name; each exists, with the options given to it."""
    lines = [line for block in blocks(text, "sh") for line in block.splitlines() if "kohyakit " in line]
    lines += re.findall(r"`(kohyakit [a-z][^`]*)`", text)
    for line in lines:
        words = line.partition("kohyakit ")[2].split()
        assert words[0] in COMMANDS, line
        known = {name for param in group.get_command(None, words[0]).params for name in param.opts}
        for word in words[1:]:
            assert not word.startswith("--") or word in known, f"{line}: {word}"
    return len(lines)

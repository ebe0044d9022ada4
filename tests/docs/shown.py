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


def run(command: str, shown: str, folder: Path) -> int:
    """Run a step in a folder, compare what it says with what is shown, and return what it ended with."""
    words = shlex.split(command)
    assert words[0] == "kohyakit"
    done = kohyakit(*words[1:], cwd=folder)
    said = done.stderr if done.returncode == 2 else done.stdout
    compare(command, shown, said, done.stderr if done.returncode != 2 else "")
    return done.returncode


def compare(command: str, shown: str, said: str, beside: str = "") -> None:
    """What a command said must be what is shown; beside: what else helps to see why it is not."""
    said, shown = said.replace("\\", "/"), shown.replace("\\", "/")
    assert pattern(shown).fullmatch(said), f"$ {command}\n{said}{beside}"


def named_commands(text: str) -> int:
    """How many commands a page's shell blocks and sentences name; each exists, with the options given to it."""
    lines = [line for block in blocks(text, "sh") for line in block.splitlines() if "kohyakit " in line]
    lines += re.findall(r"`(kohyakit [a-z][^`]*)`", text)
    for line in lines:
        words = line.partition("kohyakit ")[2].split()
        assert words[0] in COMMANDS, line
        command = group.get_command(None, words[0])
        command = getattr(command, "commands", {}).get([*words, ""][1], command)
        known = {name for param in command.params for name in (*param.opts, *param.secondary_opts)}
        for word in words[1 : words.index("--") if "--" in words else None]:
            assert not word.startswith("--") or word in known, f"{line}: {word}"
    return len(lines)

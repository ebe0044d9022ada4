"""Which shell a command file is for, and how that shell goes on with a line."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Dialect:
    """sh, cmd or PowerShell. sign: what goes on with a line at its end. plain: the file's name does not say which
    shell, as for .args; then a backslash is only a backslash, both quotes hold words together and a line that
    begins with an option belongs to the line before."""

    name: str
    sign: str
    plain: bool = False

    @property
    def folds_case(self) -> bool:
        """Are $X and $x the same variable?"""
        return self.name != "sh"

    def comment(self, line: str) -> bool:
        """Is the whole line a comment?"""
        line = line.lstrip().lstrip("@").lower()
        return line.startswith("#") or (
            (self.plain or self.name == "cmd") and (line.startswith(("::", "rem ")) or line == "rem")
        )


_SIGNS = {"sh": "\\", "cmd": "^", "PowerShell": "`"}
_ENDINGS = {
    "bat": "cmd", "cmd": "cmd", "ps1": "PowerShell", "sh": "sh", "bash": "sh", "zsh": "sh", "command": "sh",
}  # fmt: skip
ENDINGS = tuple(f".{ending}" for ending in (*_ENDINGS, "args"))
_MARKS = (
    ("cmd", re.compile(r"(?im)^\s*@echo\s|[ \t]\^[ \t]*$|^\s*@?set\s+\"?\w+=|^\s*(?:rem|::)\s")),
    ("PowerShell", re.compile(r"(?im)[ \t]`[ \t]*$|^\s*\$(?:env:)?\w+\s*\+?=")),
)


def dialect_of(text: str, where: str) -> Dialect:
    """By the file's ending; without a telling one by its marks, sh where there are none."""
    name = _ENDINGS.get(where.lower().rpartition(".")[2], "")
    if name:
        return Dialect(name, _SIGNS[name])
    if text.startswith("#!"):
        name = "PowerShell" if "pwsh" in text[:80] else "sh"
    else:
        name = next((name for name, mark in _MARKS if mark.search(text)), "sh")
    return Dialect(name, _SIGNS[name], plain=True)

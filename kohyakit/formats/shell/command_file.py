"""A command file (.bat .sh .ps1 .args) -> the one command of it that starts a training, its variables put in.

A file may set variables, enter folders, wake an environment, train several times. Each line is looked at as its own
shell would read it, and none is run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from kohyakit.config.scripts import SCRIPTS
from kohyakit.config.train import Note
from kohyakit.errors import ConfigError, Problem
from kohyakit.formats.shell.dialect import dialect_of
from kohyakit.formats.shell.pieces import Command, OpenQuote
from kohyakit.formats.shell.variables import Variables, missing
from kohyakit.formats.shell.words import Lexer
from kohyakit.formats.text import BOM, shorten

LARGEST = 400_000  # characters; a command file has a few thousand

# words of the shells that open and close what is only done under a condition
_OPENS = {"if", "for", "while", "until", "case", "select", "foreach", "function"}
_CLOSES = {"fi", "done", "esac", "}", ")", "end"}
_SKIPPED = {"then", "else", "do", "elif", "@echo", "setlocal", "endlocal", "set-strictmode", "#!/bin/bash", "local"}
_LEADS = {"then", "do", "else", "time", "exec", "nohup", "sudo", "env", "call", "start", "command", "{", "("}


@dataclass(frozen=True, slots=True)
class Told:
    """A command with its variables put in. line: where it begins; words: with the marks of what has no value;
    script: the Python program that it starts, "" where none is named; start: its place among the words."""

    line: int
    words: tuple[str, ...]
    script: str = ""
    start: int | None = None

    @property
    def name(self) -> str:
        """What tells it from the others: its output_name, else the model or the config_file, else its line."""
        for option in ("output_name", "config_file", "pretrained_model_name_or_path"):
            value = self.value(option)
            if value:
                return value
        return f"line {self.line}"

    def value(self, option: str) -> str:
        """The text of an option, as far as it is known."""
        for place, word in enumerate(self.words):
            if word == f"--{option}" and place + 1 < len(self.words):
                return missing(self.words[place + 1])[0]
            if word.startswith(f"--{option}="):
                return missing(word.partition("=")[2])[0]
        return ""


@dataclass(slots=True)
class CommandFile:
    """What a file holds. command: the training's; folder: where a `cd` before it leads, relative to the file's."""

    command: Told
    folder: Path | None = None
    only: bool = True
    notes: list[Note] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def read(text: str, where: str, *, folder: Path | None = None, chosen: str | None = None) -> CommandFile:
    """The training command of a file. chosen: which of several, by its number or its output_name.

    folder: where the file lies, which some files use. Raises ConfigError for an open quote, for a file without such
    a command, and for several without a choice, each named.
    """
    text = text.removeprefix(BOM)
    if len(text) > LARGEST:
        raise ConfigError(Problem(where, f"has {len(text):,} characters; that is no command file", name="too_large"))
    dialect = dialect_of(text, where)
    said: list[tuple[int, str]] = []
    try:
        commands = Lexer(text, dialect, lambda line, what: said.append((line, what))).commands()
    except OpenQuote as error:
        raise ConfigError(Problem(where, f"is no command line ({error})", "close the quote", name="bad_args")) from None
    walk = _Walk(Variables(dialect, folder))
    for command in commands:
        walk.take(command)
    found = _choose(walk.commands, where, chosen)
    file = CommandFile(found, walk.folders.get(found.line), only=len(commands) == 1 and not walk.variables.lines)
    file.notes = list(_notes(walk, found))
    file.problems = [
        Problem(where, f"line {line} {what}", "it is read as it is meant", "command_file", "warning")
        for line, what in dict.fromkeys(said)
    ]
    file.problems += _conditional(walk, found, where)
    return file


class _Walk:
    """Goes through the commands in their order."""

    def __init__(self, variables: Variables) -> None:
        self.variables = variables
        self.commands: list[Told] = []
        self.raws: dict[int, str] = {}
        self.left: list[Command] = []
        self.used: dict[int, set[str]] = {}
        self.folders: dict[int, Path] = {}
        self.depth, self.folder = 0, Path()

    def take(self, command: Command) -> None:
        words = [word.plain for word in command.words]
        first = words[0].lower() if words else ""
        if first in _CLOSES or first.startswith(")"):
            self.depth = max(0, self.depth - 1)
            if words[-1] in ("(", "{"):
                self.depth += 1
            return
        opens = first in _OPENS or words[-1] in ("(", "{") or first.endswith(("(){", "()"))
        while command.words and command.words[0].plain.lower() in _LEADS and len(command.words) > 1:
            command = Command(command.line, command.words[1:], command.raw, command.before)
        inline = opens and self.variables.dialect.name == "cmd" and words[-1] not in ("(", "{")
        if self.variables.take(command, conditional=self.depth > 0 or opens):
            return
        if not self._program(command) and not opens:
            self._other(command)
        if opens and not inline:
            self.depth += 1

    def _program(self, command: Command) -> bool:
        """Keep a command that starts a Python program or is a list of options."""
        self.variables.used = set()
        words = self.variables.expand(command.words)
        while words and re.match(r"[A-Za-z_]\w*=", words[0]) and not words[0].startswith("-"):
            words = words[1:]  # variables set for this command alone
        start = _script_place(words)
        options = self.variables.dialect.plain and words and words[0].startswith("-")
        if start is None and not options:
            return False
        name = missing(words[start])[0].replace("\\", "/").rsplit("/", 1)[-1] if start is not None else ""
        script = name if name.lower().endswith(".py") and not missing(words[start or 0])[1] else ""
        self.commands.append(Told(command.line, tuple(words), script, start))
        self.used[command.line] = self.variables.used
        self.raws[command.line] = command.raw
        if self.folder != Path():
            self.folders[command.line] = self.folder
        return True

    def _other(self, command: Command) -> None:
        if command.words[0].plain.lower() in _SKIPPED:
            return
        self.left.append(command)
        if command.words[0].plain.lower() in ("cd", "chdir", "pushd", "set-location", "push-location"):
            into = [word for word in self.variables.expand(command.words[1:]) if word.lower() not in ("/d", "--")]
            if into and not missing(into[0])[1]:
                self.folder = self.folder / into[0].replace("\\", "/")


def _script_place(words: list[str]) -> int | None:
    """Where the program stands: the word that ends in .py, or behind `launch` the first that has no value here."""
    named = next((place for place, word in enumerate(words) if word.lower().endswith(".py")), None)
    if named is not None:
        return named
    heads = [word.replace("\\", "/").rsplit("/", 1)[-1].lower() for word in words[:6]]
    launch = next((place for place, head in enumerate(heads) if head in ("launch", "accelerate.commands.launch")), None)
    if launch is None:
        return None
    rest = range(launch + 1, len(words))
    return next((place for place in rest if not words[place].startswith("-") and missing(words[place])[1]), None)


def _choose(commands: list[Told], where: str, chosen: str | None) -> Told:
    trainings = [command for command in commands if command.script in SCRIPTS]
    trainings = trainings or [command for command in commands if command.script and _is_launched(command)]
    trainings = trainings or [command for command in commands if not command.script]
    trainings = trainings or [command for command in commands if any(word[:2] == "--" for word in command.words)]
    if not trainings:
        what = "no line of it starts a training: there is no accelerate launch and no program of sd-scripts"
        cure = "put the line with train_network.py into it"
        raise ConfigError(Problem(where, what, cure, name="no_command"))
    if chosen is not None:
        return _chosen(trainings, where, chosen)
    if len(trainings) == 1:
        return trainings[0]
    what = f"holds {len(trainings)} trainings: {_listed(trainings)}"
    raise ConfigError(Problem(where, what, "say which one with --command 1", name="several_commands"))


def _chosen(trainings: list[Told], where: str, chosen: str) -> Told:
    if chosen.isdecimal() and 0 < int(chosen[:9]) <= len(trainings):
        return trainings[int(chosen) - 1]
    named = [command for command in trainings if command.name == chosen]
    if len(named) == 1:
        return named[0]
    several = "several are" if named else "none is"
    what = f"{several} called {shorten(chosen)}; there {_are(len(trainings))}: {_listed(trainings)}"
    raise ConfigError(Problem(where, what, "give one of these numbers to --command", name="several_commands"))


def _are(count: int) -> str:
    return "is one training" if count == 1 else f"are {count} trainings"


def _listed(trainings: list[Told]) -> str:
    shown = [
        f"{number} {command.name[:60]} (line {command.line}, {command.script or 'options only'})"
        for number, command in enumerate(trainings[:12], 1)
    ]
    return ", ".join(shown) + (f" and {len(trainings) - 12} more" if len(trainings) > 12 else "")


def _is_launched(command: Told) -> bool:
    return "launch" in command.words[:4] or any(word.startswith("--network_") for word in command.words)


def _notes(walk: _Walk, found: Told) -> Iterator[Note]:
    variables = walk.variables
    for key in sorted(walk.used.get(found.line, ())):
        value = variables.values.get(key)
        if key in variables.lines and value is not None:
            shown = variables.shown(variables.names.get(key, key))
            yield Note(shown, "mapped", f"{shorten(value)}, set in line {variables.lines[key]}")
    left = [(command.line, command.raw) for command in walk.left]
    left += [(other.line, walk.raws[other.line]) for other in walk.commands if other is not found]
    for line, raw in sorted(left):
        first = raw.partition("\n")[0].strip()
        yield Note(f"line {line}", "dropped", f"is not run: {first if len(first) <= 60 else first[:59] + '…'}")


def _conditional(walk: _Walk, found: Told, where: str) -> Iterator[Problem]:
    """Variables of the command that the file also sets under a condition."""
    variables = walk.variables
    for key in sorted(walk.used.get(found.line, ())):
        lines = variables.conditional.get(key)
        if lines:
            shown = ", ".join(map(str, lines[:8])) + (" …" if len(lines) > 8 else "")
            name = variables.shown(variables.names.get(key, key))
            what = f"{name} changes under conditions (line {shown}), which were not followed"
            cure = "look there, and give what you need with --set"
            yield Problem(where, what, cure, "command_file", "warning")

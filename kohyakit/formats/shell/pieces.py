"""What a command file is read into: commands of words, words of text and of variables, nothing expanded."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from kohyakit.formats.shell.dialect import Dialect

HERE = "\x00here"  # the name of the variable that stands for the file's own folder


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a word. kind: text, variable, or unknown: what only a shell could work out."""

    kind: str
    text: str
    quoted: bool = False
    default: str | None = None


@dataclass(slots=True)
class Word:
    """A word; items: what stands in brackets behind it, as in `X=(a b)`."""

    pieces: list[Piece] = field(default_factory=list)
    items: list[Word] | None = None

    @property
    def plain(self) -> str:
        """The text in front of the first variable or quote."""
        first = self.pieces[0] if self.pieces else None
        return first.text if first and first.kind == "text" and not first.quoted else ""


@dataclass(slots=True)
class Command:
    """One command of a file. line: where it begins, from 1; raw: as it stands there; before: what parts it from the
    command before (a line end, `&&`, `|`)."""

    line: int
    words: list[Word] = field(default_factory=list)
    raw: str = ""
    before: str = "\n"


class OpenQuote(ValueError):
    """A quote that never closes; the text says where."""


class Reader:
    """A place in a text, and the words and commands read so far. say: told (line, what) of each repair."""

    def __init__(self, text: str, dialect: Dialect, say: Callable[[int, str], None] = lambda line, what: None) -> None:
        self.text = text.replace("\r\n", "\n").replace("\r", "\n")
        if dialect.name == "PowerShell":
            self.text = re.sub(r"<#.*?#>", lambda found: "\n" * found[0].count("\n"), self.text, flags=re.DOTALL)
        self.dialect, self.say = dialect, say
        self.delayed = "enabledelayedexpansion" in text.lower()
        self.at, self.line = 0, 1
        self.found: list[Command] = []
        self.word: Word | None = None
        self.words: list[Word] = []
        self.start, self.start_line, self.before = 0, 1, "\n"
        self.skip_next, self.heredoc = False, ""
        self.commas = False
        self.one_command = dialect.plain and self._begins_with_option()

    def _begins_with_option(self) -> bool:
        lines = (line for line in self.text.split("\n") if line.strip() and not self.dialect.comment(line))
        return next(lines, "").lstrip().startswith("-")

    def _put(self, text: str, kind: str = "text", quoted: bool = False, default: str | None = None) -> None:
        if self.word is None:
            self.word = Word()
            if not self.words:
                self.start_line = self.line
        pieces = self.word.pieces
        if pieces and kind == pieces[-1].kind == "text" and pieces[-1].quoted == quoted:
            text = pieces.pop().text + text
        pieces.append(Piece(kind, text, quoted, default))

    def _end_word(self) -> None:
        if self.word is None:
            return
        if self.skip_next:
            self.skip_next = False
        else:
            self.words.append(self.word)
        self.word = None

    def _end_command(self, separator: str) -> None:
        self._end_word()
        self.skip_next = False
        if self.words:
            raw = self.text[self.start : self.at].strip()
            self.found.append(Command(self.start_line, self.words, raw, self.before))
        self.words, self.before = [], separator
        self.start = self.at + len(separator)

    def _is_path(self) -> bool:
        """Does the word before hold a backslash already, so that one at its end may belong to it?"""
        return self.word is not None and any("\\" in piece.text for piece in self.word.pieces)

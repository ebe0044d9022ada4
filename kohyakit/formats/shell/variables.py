"""The variables that a command file sets, and words with their values put in. Nothing is run: a value that only a
shell could work out, or that is not set in the file, stays missing and is told."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from kohyakit.formats.shell.dialect import Dialect
from kohyakit.formats.shell.pieces import HERE, Command, Word

_LONGEST, _MOST = 32_000, 4_000  # characters of a value, words of a list: no shell's line is longer
_OPEN, _CLOSE = "\ue000", "\ue001"  # around the name of what has no value
MISSING = re.compile(f"{_OPEN}([^{_CLOSE}]*){_CLOSE}")
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)(\+?)=")
_DECLARES = frozenset(("export", "declare", "local", "readonly", "typeset"))
_SET = re.compile(r"""@?set\s+(?:"([^"=]+)=([^"\n]*)"?|([^"/=\s][^"=\n]*?)\s*=([^\n]*))\s*""", re.IGNORECASE)
_SET_NUMBER = re.compile(r"""@?set\s+/a\s+"?(\w+)\s*=\s*(-?\d+)"?\s*""", re.IGNORECASE)
_SET_UNKNOWN = re.compile(r"""@?set\s+/[ap]\s+"?(\w+)\s*=[^\n]*""", re.IGNORECASE)
_CMD_NAME = re.compile(r"%([A-Za-z_~][\w.-]*)%|%(~dp0)")
_PS_START = re.compile(r"(?:\[[\w.\[\]]+\]\s*)?")

Value = str | list[str]


@dataclass(slots=True)
class Variables:
    """What is set so far. folder: the file's own, for the variable that stands for it. conditional: name -> lines
    that set it under a condition, which was not followed."""

    dialect: Dialect
    folder: Path | None = None
    values: dict[str, Value] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    conditional: dict[str, list[int]] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    names: dict[str, str] = field(default_factory=dict)  # as they were written first

    def __post_init__(self) -> None:
        if self.folder is not None:
            sign = "/" if self.dialect.name == "sh" else "\\" if self.dialect.name == "cmd" else ""
            self.values[HERE] = str(self.folder).replace("\\", "/") + (sign if self.dialect.name == "cmd" else "")

    def key(self, name: str) -> str:
        return name.lower() if self.dialect.folds_case and name != HERE else name

    def shown(self, name: str) -> str:
        """A variable as its shell writes it."""
        if name == HERE:
            return {"cmd": "%~dp0", "PowerShell": "$PSScriptRoot"}.get(self.dialect.name, "the file's folder")
        return f"%{name}%" if self.dialect.name == "cmd" else f"${name}"

    # setting

    def take(self, command: Command, *, conditional: bool) -> bool:
        """Take a command that sets variables; False where it is something else."""
        reader = {"sh": self._sh, "cmd": self._cmd, "PowerShell": self._powershell}[self.dialect.name]
        found = reader(command)
        if not found and self.dialect.plain:
            other = {"sh": self._cmd, "cmd": self._sh}.get(self.dialect.name)
            found = other(command) if other else []
        for name, adds, value in found or ():
            self._set(name, value, command.line, adds, conditional)
        return bool(found)

    def _set(self, name: str, value: Value | None, line: int, adds: bool, conditional: bool) -> None:
        key = self.key(name)
        self.names.setdefault(key, name)
        if conditional:
            self.conditional.setdefault(key, []).append(line)
            return
        old = self.values.get(key)
        if value is None:
            self.values.pop(key, None)
            return
        if adds and old is not None:
            if isinstance(old, list):
                value = old + (value if isinstance(value, list) else [value])
            else:
                value = old + (value if isinstance(value, str) else " ".join(value))
        if isinstance(value, str):
            value = value[:_LONGEST]
        else:
            value = value[:_MOST] if sum(map(len, value[:_MOST])) <= _LONGEST else []
        self.values[key] = value
        self.lines[key] = line

    def _sh(self, command: Command) -> list[tuple[str, bool, Value | None]]:
        words = command.words
        if words and words[0].plain in _DECLARES:
            words = [word for word in words[1:] if not word.plain.startswith("-")]
        found: list[tuple[str, bool, Value | None]] = []
        for word in words:
            match = _ASSIGNMENT.match(word.plain)
            if not match:
                return [] if words is command.words else found
            found.append((match[1], bool(match[2]), self._value(word, match.end())))
        return found

    def _value(self, word: Word, skip: int) -> Value | None:
        """What stands behind the first characters of a word."""
        if word.items is not None:
            return self.expand(word.items)
        first = word.pieces[0]
        rest = Word([type(first)(first.kind, first.text[skip:], first.quoted), *word.pieces[1:]])
        text = "".join(self._text(rest))
        return None if any(piece.kind == "unknown" for piece in word.pieces) else text

    def _cmd(self, command: Command) -> list[tuple[str, bool, Value | None]]:
        raw = command.raw.strip()
        if not raw.lower().lstrip("@").startswith("set"):
            inner = re.search(r"\bset\s+[\"\w][^\n]*$", raw, re.IGNORECASE)
            if not inner or not raw.lower().lstrip("@").startswith(("if ", "for ")):
                return []
            raw = inner[0].rstrip(") ")
        number = _SET_NUMBER.fullmatch(raw)
        if number:
            return [(number[1], False, number[2])]
        unknown = _SET_UNKNOWN.fullmatch(raw)
        if unknown:
            return [(unknown[1], False, None)]
        match = _SET.fullmatch(raw)
        if not match:
            return []
        name, value = (match[1], match[2]) if match[1] else (match[3], match[4].strip())
        if len(value) > 1 and value[0] == value[-1] == '"' and '"' not in value[1:-1]:
            value = value[1:-1]
        return [(name.strip(), False, self._percent(value))]

    def _percent(self, value: str) -> str:
        def put(match: re.Match[str]) -> str:
            name = HERE if match[2] or match[1] == "~dp0" else match[1]
            known = self.values.get(self.key(name))
            return known if isinstance(known, str) else f"{_OPEN}{name}{_CLOSE}"

        return _CMD_NAME.sub(put, value[:_LONGEST])[:_LONGEST]

    def _powershell(self, command: Command) -> list[tuple[str, bool, Value | None]]:
        pieces = command.words[0].pieces
        if pieces and pieces[0].kind == "text" and _PS_START.fullmatch(pieces[0].text):
            pieces = pieces[1:]
        if not pieces or pieces[0].kind != "variable":
            return []
        name, rest = pieces[0].text, pieces[1:]
        items, values = command.words[0].items, command.words[1:]
        if rest and rest[0].text.startswith(".Add("):
            return [(name, True, ["".join(self._text(Word(rest[1:-1])))])] if len(rest) > 1 else []
        if rest and rest[0].kind == "text" and (sign := re.match(r"\+?=", rest[0].text)):
            head = type(rest[0])("text", rest[0].text[sign.end() :], rest[0].quoted)
            values = [Word([head, *rest[1:]] if head.text or rest[1:] else [], items), *values]
            adds = sign[0] == "+="
        elif values and values[0].plain in ("=", "+=") and not rest:
            adds, values = values[0].plain == "+=", values[1:]
        else:
            return []
        return [(name, adds, self._ps_value([word for word in values if word.pieces or word.items is not None]))]

    def _ps_value(self, words: list[Word]) -> Value | None:
        if len(words) == 1 and words[0].items is not None:
            return self.expand(words[0].items)
        if len(words) == 1 and words[0].plain.startswith("["):
            return [] if "List" in words[0].plain else None
        if any(piece.kind == "unknown" for word in words for piece in word.pieces):
            return None
        if len(words) > 1 and all(word.plain == "+" for word in words[1::2]):
            return "".join("".join(self._text(word)) for word in words[::2])
        if len(words) > 1 and all(_ends_in_comma(word) for word in words[:-1]):
            return [part.strip(",") for part in self.expand(words)]
        return "".join(self._text(words[0])) if len(words) == 1 else None

    # putting in

    def expand(self, words: list[Word]) -> list[str]:
        """Words with the values in place: a list gives a word for each of its items, an unquoted text falls apart."""
        found: list[str] = []
        for word in words:
            found += self._words(word)
            if len(found) > _MOST:
                return found[:_MOST]
        return found

    def _words(self, word: Word) -> Iterator[str]:
        parts = [""]
        keep = any(piece.quoted for piece in word.pieces)
        for text, splits in self._pieces(word):
            if isinstance(text, list):
                keep = keep and bool(text)
                parts = [*parts[:-1], parts[-1] + text[0], *text[1:]] if text else parts
            elif splits and any(character.isspace() for character in text):
                inner = _apart(text)
                parts = [*parts[:-1], parts[-1] + (inner[0] if inner else ""), *inner[1:]]
            else:
                parts[-1] += text
            parts = [part[:_LONGEST] for part in parts[:_MOST]]
        if keep or parts != [""]:
            yield from parts

    def _text(self, word: Word) -> Iterator[str]:
        for text, _ in self._pieces(word):
            yield text if isinstance(text, str) else " ".join(text)

    def _pieces(self, word: Word) -> Iterator[tuple[Value, bool]]:
        """(value, may it fall apart at blanks?) of each piece."""
        for piece in word.pieces:
            if piece.kind == "text":
                yield piece.text, False
            elif piece.kind == "unknown":
                yield f"{_OPEN}{piece.text}{_CLOSE}", False
            else:
                key = self.key(piece.text)
                self.used.add(key)
                value = self.values.get(key, piece.default)
                if value is None:
                    value = _CONSTANTS.get(key) if self.dialect.name == "PowerShell" else None
                if value is None:
                    value = f"{_OPEN}{self.shown(piece.text)}{_CLOSE}"
                splits = not piece.quoted and isinstance(value, str)
                if splits and self.dialect.name == "PowerShell":
                    splits = str(value).startswith("--")
                yield value, splits


_CONSTANTS = {"true": "True", "false": "False", "null": ""}


def _ends_in_comma(word: Word) -> bool:
    return bool(word.pieces) and word.pieces[-1].text.endswith(",")


def _apart(text: str) -> list[str]:
    """A value split at its blanks; cmd's values may hold quotes of their own."""
    if '"' not in text:
        return text.split()
    return [part.replace('"', "") for part in re.findall(r'(?:[^\s"]|"[^"]*"?)+', text)]


def missing(text: str) -> tuple[str, list[str]]:
    """Text without what has no value, and the names of that."""
    return MISSING.sub("", text), MISSING.findall(text)

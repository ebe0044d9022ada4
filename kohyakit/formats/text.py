"""Bytes of a settings file -> text -> JSON or TOML values, with every way this goes wrong in a sentence.

The text keeps its byte order mark and line ends, so that the file can be written back as it was.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kohyakit.errors import ConfigError, Problem
from kohyakit.files import in_place_of, read_bytes

BOM = "\ufeff"
LARGEST = 8 * 1024 * 1024  # a preset is 10 kB; beyond this it is some other file
DEEPEST = 40  # tables and lists within each other; sd-scripts' parser is recursive too


def read_text(path: Path) -> str:
    """The file's text as it stands (byte order mark and line ends kept). Raises ConfigError."""
    try:
        if path.is_dir():
            raise ConfigError(Problem(str(path), "is a folder, but a file was wanted", name="not_a_file"))
        size = path.stat().st_size
        if size > LARGEST:
            with path.open("rb") as file:
                _refuse_other_files(file.read(64), path.name)
            raise ConfigError(Problem(str(path), f"has {size:,} bytes; that is no settings file", name="too_large"))
        raw = read_bytes(path, LARGEST)
    except FileNotFoundError:
        raise ConfigError(
            Problem(str(path), "there is no such file", "look at the path", name="no_such_file")
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(Problem(str(path), f"cannot be read ({reason})", name="unreadable_file")) from None
    return decode(raw, path.name)


def decode(raw: bytes, where: str) -> str:
    """UTF-8 bytes as text. Raises ConfigError with line and column of the first byte that is not."""
    _refuse_other_files(raw[:64], where)
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ConfigError(Problem(where, "is UTF-16, but UTF-8 was wanted", "save it as UTF-8", name="not_utf8"))
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        if b"\x00" in raw[:4096]:
            what = "is no text, so it holds no settings"
            raise ConfigError(Problem(where, what, "name a settings file", name="not_settings")) from None
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - raw.rfind(b"\n", 0, error.start)
        what = f"line {line}, column {column}: the byte 0x{raw[error.start]:02x} is not UTF-8"
        raise ConfigError(Problem(where, what, "save the file as UTF-8", name="not_utf8")) from None


_MODEL = "is a model or a LoRA, and holds no settings to read here"
_FROM_LORA = "the settings that a LoRA was trained with are read by kohyakit runs import FOLDER"
# first bytes -> what the file is, what to do
_OTHER_FILES: tuple[tuple[bytes, str, str], ...] = (
    (b"PK\x03\x04", "is a zip file or a .ckpt/.pt model", "unpack it, or name the settings file"),
    (b"\x80\x02", f"is a pickle: it {_MODEL}", ""),
    (b"\x80\x04", f"is a pickle: it {_MODEL}", ""),
    (b"GGUF", f"is a GGUF file: it {_MODEL}", ""),
    (b"\x89PNG", "is a picture", "name the settings file"),
    (b"\xff\xd8\xff", "is a picture", "name the settings file"),
    (b"GIF8", "is a picture", "name the settings file"),
    (b"RIFF", "is a picture or a sound", "name the settings file"),
    (b"%PDF", "is a PDF", "name the settings file"),
    (b"\x1f\x8b", "is a gzipped file", "unpack it first"),
    (b"7z\xbc\xaf", "is a 7z file", "unpack it first"),
    (b"Rar!", "is a rar file", "unpack it first"),
    (b"SQLite format 3", "is a database", "name the settings file"),
)


def _refuse_other_files(head: bytes, where: str) -> None:
    """Raises ConfigError for a file that is no text at all, by its first bytes."""
    if len(head) > 9 and head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") < 2**32 and b"\x00" in head[:8]:
        raise ConfigError(Problem(where, f"is a safetensors file: it {_MODEL}", _FROM_LORA, name="not_settings"))
    for start, what, cure in _OTHER_FILES:
        if head.startswith(start):
            raise ConfigError(Problem(where, what, cure or _FROM_LORA, name="not_settings"))


def _too_deep(text: str) -> bool:
    if text.count("[") + text.count("{") <= DEEPEST:
        return False
    depth = 0
    for character in text:
        if character in "[{":
            depth += 1
            if depth > DEEPEST:
                return True
        elif character in "]}" and depth:
            depth -= 1
    return False


def parse_json(text: str, where: str) -> tuple[Any, list[Problem]]:
    """JSON text -> value and findings (a key written twice, NaN). Raises ConfigError with line and column."""
    findings: list[Problem] = []

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in items:
            if key in found and found[key] != value:
                what = f"'{key}' stands there twice; the last one, {shorten(value)}, counts"
                findings.append(Problem(where, what, "take the other out", name="duplicate_key", severity="warning"))
            found[key] = value
        return found

    if _too_deep(text):
        raise ConfigError(
            Problem(where, f"is nested more than {DEEPEST} levels deep; that is no preset", name="too_deep")
        )
    try:
        return json.loads(text.removeprefix(BOM), object_pairs_hook=pairs), findings
    except json.JSONDecodeError as error:
        what = f"line {error.lineno}, column {error.colno}: is not valid JSON ({error.msg.lower()})"
        raise ConfigError(Problem(where, what, _json_cure(text, error), name="bad_json")) from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(Problem(where, f"is not valid JSON ({error})", name="bad_json")) from None


_PYTHON = {"True": "true", "False": "false", "None": "null", "TRUE": "true", "FALSE": "false", "nil": "null"}
_CURES = (
    (re.compile(r"//[^\n]*|/\*.*?(?:\*/|\Z)|#[^\n]*", re.DOTALL), "JSON has no comments; take {} out"),
    (re.compile(r"[}\]]"), "take the comma before it out"),
    (re.compile(r"'"), "write double quotes in place of the single quotes"),
    (re.compile(r"[“”„«»]"), 'write plain double quotes (") in place of those'),
    (re.compile(r"[A-Za-z_]\w*(?=\s*:)"), "put the name {} in double quotes"),
    (re.compile(r"[A-Za-z_][\w./\\:-]*"), "put the text {} in double quotes"),
    (re.compile(r"\.\d|\d+\.(?!\d)|\+\d"), "write numbers like 0.5"),
    (re.compile(r"=|;"), "write : between name and value, and a comma behind it"),
)


def _json_cure(text: str, error: json.JSONDecodeError) -> str:
    """What to do at the place where JSON breaks off, by what stands there."""
    body, place = text.removeprefix(BOM), error.pos
    if not body.strip():
        return "the file is empty"
    message = error.msg.lower()
    if "control character" in message and body[place : place + 1] in ("\n", "\r"):
        return "close the text on its line with a double quote"
    if "control character" in message or "escape" in message:
        return "write a backslash in a path as \\\\ or as /"
    if "unterminated" in message or place >= len(body.rstrip()):
        return "a quote or a bracket is open; the file may be cut off"
    if "trailing comma" in message:
        return "take the comma out"
    word = re.compile(r"\w+").match(body, place)
    if word and word[0] in _PYTHON:
        return f"write {_PYTHON[word[0]]}"
    if "extra data" in message:
        found = _CURES[0][0].match(body, place)
        return _CURES[0][1].format(_first_line(found[0])) if found else "take out what stands behind the last }"
    if "delimiter" in message and body[place : place + 1] in ('"', "{", "["):
        return "a comma is missing just before"
    for pattern, cure in _CURES:
        found = pattern.match(body, place)
        if found:
            return cure.format(_first_line(found[0]))
    return "a comma or a quote is missing just before" if "delimiter" in message else "mend that place"


def _first_line(text: str) -> str:
    line = text.split("\n")[0].strip()
    return line if len(line) <= 40 else line[:39] + "…"


def parse_toml(text: str, where: str) -> tuple[dict[str, Any], list[Problem]]:
    """TOML text -> tables and findings. Raises ConfigError with line and column.

    What only sd-scripts' own parser (the `toml` package) takes is taken with a warning, and what it alone
    refuses is a warning too: sd-scripts would stop there.
    """
    body = text.removeprefix(BOM)
    if _too_deep(body):
        raise ConfigError(
            Problem(where, f"is nested more than {DEEPEST} levels deep; that is no config", name="too_deep")
        )
    theirs = _as_sd_scripts(body)
    try:
        values = tomllib.loads(body)
    except (ValueError, RecursionError) as error:
        if isinstance(theirs, dict) and theirs:
            what = f"is not quite TOML ({error}); sd-scripts reads it all the same"
            return theirs, [Problem(where, what, "mend that place", name="loose_toml", severity="warning")]
        raise ConfigError(
            Problem(where, f"is not valid TOML ({error})", _toml_cure(str(error), body), name="bad_toml")
        ) from None
    findings = []
    if isinstance(theirs, str):
        what = f"sd-scripts' own parser stops at this file ({theirs})"
        findings.append(Problem(where, what, "write that place more plainly", name="toml_dialect", severity="warning"))
    if text.startswith(BOM):
        what = "starts with a byte order mark, at which sd-scripts stops"
        findings.append(
            Problem(where, what, "save it as UTF-8 without BOM", name="byte_order_mark", severity="warning")
        )
    return values, findings


def _as_sd_scripts(body: str) -> dict[str, Any] | str | None:
    """What the `toml` package makes of the text: tables, its complaint, or None where it was not asked.

    It slows down with the square of the length and does not end well on odd input, so only texts of an
    ordinary size are put to it.
    """
    if len(body) > 60_000 or max(map(len, body.splitlines()), default=0) > 4_000:
        return None
    import toml

    try:
        return toml.loads(body)
    except Exception as error:  # it also raises IndexError, TypeError and others
        return str(error) or type(error).__name__


def sd_scripts_reads(text: str) -> bool:
    """Does the parser that sd-scripts uses take this TOML?"""
    import toml

    try:
        toml.loads(text)
    except Exception:  # the package raises more than its own error
        return False
    return True


_TOML_PLACE = re.compile(r"at line (\d+), column (\d+)")


def _toml_cure(message: str, body: str) -> str:
    if "escape" in message or "hex value" in message:
        return "write a backslash in a path as \\\\ or put the path in 'single quotes'"
    if "overwrite" in message or "already" in message:
        return "the same name stands there twice; take one out"
    place = _TOML_PLACE.search(message)
    if place is None:
        cut_off = "end of document" in message
        return "a quote or a bracket is open; the file may be cut off" if cut_off else "mend that place"
    lines = body.split("\n")
    line = lines[min(int(place[1]), len(lines)) - 1]
    rest = line[int(place[2]) - 1 :].strip()
    word = re.match(r"\w+", rest)
    if word and word[0] in _PYTHON and "value" in message:
        written = _PYTHON[word[0]]
        return f"write {written}" if written != "null" else "TOML has no null; take the line out"
    if re.match(r"\s*(//|/\*|--|;)", line) or rest.startswith(("//", "/*")):
        return "a comment begins with #"
    if "value" in message and re.match(r"[^\W\d]|[.~/\\]", rest):
        return f'put the text in quotes: "{_first_line(rest.partition("#")[0])}"'
    if "value" in message and (not rest or rest.startswith(("#", "\r"))):
        return "the value is missing; write one or take the line out"
    if rest.startswith(":") or re.match(r"\s*[\w\"'.-]+\s*:", line):
        return "write = between name and value"
    return "mend that place"


def names(text: str) -> tuple[str, ...]:
    """Names written with blanks between them."""
    return tuple(text.split())


def shorten(value: Any, length: int = 60) -> str:
    """A value for a sentence: its repr, cut."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        text = f"a {type(value).__name__}"
    return text if len(text) <= length else text[: length - 1] + "…"


def write_text(path: Path, text: str, verify: Callable[[Path], None] | None = None) -> None:
    """Write text as it is under a temporary name in the same folder, verify, then move it into place.

    Raises ConfigError where the place cannot be written; what stood there before is then still there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with in_place_of(path) as fresh:
            with fresh.open("x", encoding="utf-8", newline="") as file:
                file.write(text)
            if verify:
                verify(fresh)
    except (OSError, ValueError) as error:
        what = f"cannot be written ({getattr(error, 'strerror', None) or error})"
        raise ConfigError(Problem(str(path), what, "choose another place", name="not_written")) from None

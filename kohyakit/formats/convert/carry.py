"""What one format cannot hold travels with the file, out of the way of those who read it.

A TOML made from a preset ends in a comment block with the preset's text; a preset made from a TOML has a key
`kohyakit` with the TOML's text, which the GUI drops without a word. So a file converted there and back is the same
file, byte for byte. See docs/presets.md.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kohyakit.formats.text import BOM

KEY = "kohyakit"
_HEAD = "#: kohyakit source: "
_ABOUT = (
    "#: The file that this one was made from; `kohyakit convert` gives it back as it was. sd-scripts reads none of\n"
    "#: it, what you change above goes before it, and deleting the block loses nothing that trains.\n"
)
_ABOUT_ANOTHER = (
    "#: The file that this one was made from, as it was. sd-scripts reads none of it, and deleting the block loses\n"
    "#: nothing that trains.\n"
)
_GIVEN_BACK = ("gui-json", "args", "toml", "dataset-json", "dataset-toml")
_SECRETS = ("wandb_api_key", "huggingface_token")
_UNPRINTED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")  # no TOML comment may hold these
_SECRET_LINE = re.compile(
    rf"(?m)^([ \t]*[\"']?(?:{'|'.join(_SECRETS)})[\"']?[ \t]*=[ \t]*)"
    r"(?:\"\"\"[\s\S]*?\"\"\"|'''[\s\S]*?'''|\"(?:[^\"\\\n]|\\.)*\"|'[^'\n]*'|[^\s#]+)"
)
_SECRET_KEY = re.compile(rf'"(?:{"|".join(_SECRETS)})"\s*:(?!\s*(?:""|null))')
_SECRET_ANYWHERE = re.compile(  # in another trainer's JSON or YAML
    rf"((?:{'|'.join(_SECRETS)}|hf_token)[\"']?[ \t]*:[ \t]*)(?:\"(?:[^\"\\\n]|\\.)*\"|'[^'\n]*'|[^\s,}}]+)"
)
_SECRET_OPTION = re.compile(rf"--({'|'.join(_SECRETS)})(=|\s+)[^\s\"'\\]+")


@dataclass(frozen=True, slots=True)
class Carried:
    """A source text in another file. reading: `meant` or `as-gui`, how it became that file; tab: the GUI's, or ""."""

    format: str
    text: str
    tab: str = ""
    reading: str = "meant"


def into_comments(body: str, carried: Carried) -> str:
    """TOML text with the carried source as comments at its end."""
    plain = carried.text.removeprefix(BOM)
    newline = "crlf" if "\r\n" in plain else "lf"
    lines = plain.replace("\r\n", "\n") if newline == "crlf" and "\n" not in plain.replace("\r\n", "") else plain
    legible = not _UNPRINTED.search(lines)
    about = [carried.format, carried.tab or "-", carried.reading, newline if legible else "packed"]
    about += ["bom"] if carried.text.startswith(BOM) and legible else []
    if legible:
        block = "".join(f"#| {line}\n" if line else "#|\n" for line in lines.split("\n"))
    else:
        packed = base64.b64encode(zlib.compress(carried.text.encode("utf-8"), 9)).decode("ascii")
        block = "".join(f"#| {packed[start : start + 100]}\n" for start in range(0, len(packed), 100))
    told = _ABOUT if carried.format in _GIVEN_BACK else _ABOUT_ANOTHER
    return f"{body.rstrip(chr(10))}\n\n{_HEAD}{' '.join(about)}\n{told}{block}"


def from_comments(text: str) -> tuple[str, Carried | None]:
    """TOML text -> the text without the block, and what the block carries; None where there is none or it is broken."""
    start = text.rfind(_HEAD)
    if start < 0 or (start and text[start - 1] != "\n"):
        return text, None
    head, *lines = text[start:].replace("\r\n", "\n").split("\n")
    about = head[len(_HEAD) :].split()
    own = next((place for place, line in enumerate(lines) if not line.startswith(("#|", "#:"))), len(lines))
    body = text[:start] + "\n".join(lines[own:])
    content = [line[3:] if line.startswith("#| ") else "" for line in lines[:own] if line.startswith("#|")]
    if len(about) < 4:
        return body, None
    source, tab, reading, style = about[:4]
    if style == "packed":
        try:
            carried = zlib.decompress(base64.b64decode("".join(content), validate=True)).decode("utf-8")
        except (binascii.Error, zlib.error, ValueError):
            return body, None
    else:
        carried = ("\r\n" if style == "crlf" else "\n").join(content)
        carried = BOM + carried if "bom" in about[4:] else carried
    return body, Carried(source, carried, "" if tab == "-" else tab, reading)


def into_preset(values: Mapping[str, Any], carried: Carried) -> str:
    """A preset's JSON text, as the GUI saves it, with the carried source as its last key."""
    about = "the file this preset was made from; the GUI drops this key"
    source = {"about": about, "format": carried.format, "text": carried.text}
    return json.dumps({**values, KEY: {"source": source}}, indent=2) + "\n"


def from_preset(preset: Mapping[str, Any]) -> Carried | None:
    """What a preset carries, or None."""
    table = preset.get(KEY)
    source = table.get("source") if isinstance(table, dict) else None
    if isinstance(source, dict) and isinstance(source.get("text"), str) and isinstance(source.get("format"), str):
        return Carried(source["format"], source["text"])
    return None


def without_secrets(text: str, kind: str) -> str:
    """Source text with keys and tokens emptied, the rest byte for byte."""
    text = _SECRET_OPTION.sub(lambda found: f"--{found[1]}{found[2]}***", text)
    if kind == "gui-json":
        if not _SECRET_KEY.search(text):
            return text
        filled = [key for key, (_, _, value) in top_level(text).items() if key in _SECRETS and value]
        return set_in_json(text, dict.fromkeys(filled, ""))
    text = _SECRET_LINE.sub(r'\1""', text)
    return _SECRET_ANYWHERE.sub(r'\1""', text) if kind not in ("toml", "args") else text


def top_level(text: str) -> dict[str, tuple[int, int, Any]]:
    """JSON text of an object -> key -> (start, end, value) of each value; the last of a doubled key."""
    decoder = json.JSONDecoder(strict=True)
    found: dict[str, tuple[int, int, Any]] = {}
    position = _blank(text, text.index("{") + 1)
    while text[position] != "}":
        key, position = decoder.raw_decode(text, position)
        start = _blank(text, _blank(text, position) + 1)
        value, end = decoder.raw_decode(text, start)
        found[key] = (start, end, value)
        position = _blank(text, end)
        if text[position] == ",":
            position = _blank(text, position + 1)
    return found


def _blank(text: str, position: int) -> int:
    while text[position] in " \t\r\n":
        position += 1
    return position


def set_in_json(text: str, changes: Mapping[str, Any]) -> str:
    """JSON text with top-level values replaced, everything else as it was; new keys at the end.

    A number becomes text where the old value is text, as old presets have it.
    """
    spans = top_level(text)
    for key in sorted((key for key in changes if key in spans), key=lambda key: -spans[key][0]):
        start, end, old = spans[key]
        value = changes[key]
        if isinstance(old, str) and isinstance(value, (int, float)) and not isinstance(value, bool):
            value = repr(value) if isinstance(value, float) else str(value)
        text = text[:start] + json.dumps(value) + text[end:]
    new = {key: value for key, value in changes.items() if key not in spans}
    if not new:
        return text
    close = text.rindex("}")
    end = len(text[:close].rstrip())
    opening = re.match(r"\s*", text[text.index("{") + 1 :])
    indent = opening[0] if opening and spans else "\n  "
    added = ("," if spans else "") + ",".join(
        f"{indent}{json.dumps(key)}: {json.dumps(value)}" for key, value in new.items()
    )
    return text[:end] + added + text[end:]

"""Tag expressions: `church & !trees`, `(red door | gate) & tokens > 75`, read by hand and never run."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import translate

from kohyakit.dataset.captions.caption import Caption
from kohyakit.errors import ConfigError, Problem

Wanted = Callable[[str], bool]  # a caption's text -> whether it is meant

_DEEP = 50  # brackets within brackets
_COMPARE = {">=": operator.ge, "<=": operator.le, "!=": operator.ne, ">": operator.gt, "<": operator.lt,
            "==": operator.eq, "=": operator.eq}  # fmt: skip
_TOKEN = re.compile(
    r"""\s*(?:
        (?P<measure>(?:tokens|tags|characters)\s*(?:>=|<=|!=|==|[<>=])\s*\d+)(?=\s*(?:[&|)]|$))
      | (?P<sign>[&|!()])
      | "(?P<quoted>[^"]*)"
      | (?P<tag>(?:\\.|\([^()&|]*\)(?=\s*(?:[&|)]|$))(?<=\))|[^&|!()"\\]|(?<=\S)!)+)
    )""",
    re.VERBOSE | re.IGNORECASE,
)


@dataclass(slots=True)
class _Reader:
    text: str
    parts: list[tuple[str, str]]
    at: int = 0

    def next_is(self, sign: str) -> bool:
        return self.at < len(self.parts) and self.parts[self.at] == ("sign", sign)

    def take(self, sign: str) -> bool:
        found = self.next_is(sign)
        self.at += found
        return found


def wanted(text: str) -> Wanted:
    """A tag expression as a function of a caption's text.

    `&` and, `|` or, `!` not, brackets; a tag is compared whole and without regard to case, `*` and `?` stand for any
    signs; one that holds such signs goes into double quotes. `tokens`, `tags` and `characters` compare with a number.
    Raises ConfigError.
    """
    reader = _Reader(text, _parts(text))
    found = _either(reader, 0)
    if reader.at < len(reader.parts):
        raise _wrong(text, f"has '{reader.parts[reader.at][1]}' where & or | should stand")
    return found


def _parts(text: str) -> list[tuple[str, str]]:
    parts, at = [], 0
    text = text.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise _wrong(text, f"cannot be read from '{text[at:][:20]}' on")
        kind = str(match.lastgroup)
        parts.append((kind, match[kind].strip()))
        at = match.end()
    return parts


def _either(reader: _Reader, depth: int) -> Wanted:
    options = [_both(reader, depth)]
    while reader.take("|"):
        options.append(_both(reader, depth))
    return options[0] if len(options) == 1 else lambda text: any(option(text) for option in options)


def _both(reader: _Reader, depth: int) -> Wanted:
    needed = [_one(reader, depth)]
    while reader.take("&"):
        needed.append(_one(reader, depth))
    return needed[0] if len(needed) == 1 else lambda text: all(need(text) for need in needed)


def _one(reader: _Reader, depth: int) -> Wanted:
    turned = False
    while reader.take("!"):
        turned = not turned
    if reader.take("("):
        if depth >= _DEEP:
            raise _wrong(reader.text, "has too many brackets")
        found = _either(reader, depth + 1)
        if not reader.take(")"):
            raise _wrong(reader.text, "has a bracket that is not closed")
    else:
        found = _leaf(reader)
    return (lambda text: not found(text)) if turned else found


def _leaf(reader: _Reader) -> Wanted:
    if reader.at >= len(reader.parts) or reader.parts[reader.at][0] == "sign":
        place = f"'{reader.parts[reader.at][1]}'" if reader.at < len(reader.parts) else "the end"
        raise _wrong(reader.text, f"has no tag before {place}")
    kind, words = reader.parts[reader.at]
    reader.at += 1
    if kind == "measure":
        return _measure(words)
    return has_tag(re.sub(r"\\(.)", r"\1", words) if kind == "tag" else words, patterns=kind == "tag")


def has_tag(tag: str, *, patterns: bool = True) -> Wanted:
    """Whether a tag stands in a caption, without regard to case. patterns: `*` and `?` stand for any signs."""
    tag = tag.strip().lower()
    if patterns and any(sign in tag for sign in "*?"):
        fits = re.compile(translate(tag.replace("[", "[[]"))).match
        return lambda text: any(fits(mine.lower()) for mine in _tags(text))
    return lambda text: tag in text.lower() and tag in (mine.lower() for mine in _tags(text))


def _measure(words: str) -> Wanted:
    name, sign, number = re.fullmatch(r"(\w+)\s*([<>=!]+)\s*(\d+)", words).groups()  # type: ignore[union-attr]
    compare, amount, count = _COMPARE[sign], int(number), _COUNTS[name.lower()]
    return lambda text: compare(count(text), amount)


def _tokens(text: str) -> int:
    from kohyakit.dataset.captions.tokens import count_tokens

    return count_tokens(text.partition("\n")[0])


def _tags(text: str) -> list[str]:
    return [tag for line in text.splitlines() for tag in Caption.parse(line).tags]


_COUNTS: dict[str, Callable[[str], int]] = {
    "tokens": _tokens, "tags": lambda text: len(_tags(text)), "characters": lambda text: len(text.strip()),
}  # fmt: skip


def _wrong(text: str, what: str) -> ConfigError:
    return ConfigError(Problem(f"'{text}'", what, "write it like: church & !trees", "bad_expression"))

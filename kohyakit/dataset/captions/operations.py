"""What can be done to the text of a caption, each a function from a text to the new one; of several lines each is one.

Lines on which nothing changes stay as they are written, line ends and all.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from kohyakit.dataset.captions.caption import Caption, has_words
from kohyakit.dataset.captions.expression import has_tag
from kohyakit.dataset.editing.captions import by_line, each_line, replace_text
from kohyakit.errors import ConfigError, Problem

Operation = Callable[[str], str]


def matches(find: str, *, kind: str = "text", ignore_case: bool = False) -> Callable[[str], bool]:
    """Whether a caption holds words (`text`), a whole tag (`tag`, `*` for any signs), or a `regex`. Raises
    ConfigError for an empty search, DatasetError for a pattern that is none.
    """
    _not_empty(find)
    if kind == "tag":
        return has_tag(find)
    if kind == "regex":
        replace_text(find, "", pattern=True)  # says what is wrong with it
    pattern = re.compile(find if kind == "regex" else re.escape(find), _flags(ignore_case))
    return lambda text: pattern.search(text) is not None


def substitute(find: str, put: str, *, kind: str = "text", ignore_case: bool = False) -> Operation:
    """Put words for words anywhere (`text`, `regex` with \\1 for groups), or a tag for a whole tag (`tag`)."""
    _not_empty(find)
    if kind == "tag":
        return rename_tag(find, put)
    if kind == "regex":
        replace_text(find, put, pattern=True)
        pattern = re.compile(find, _flags(ignore_case))
        return lambda text: pattern.sub(put, text)
    if not ignore_case:
        return lambda text: text.replace(find, put)
    pattern = re.compile(re.escape(find), re.IGNORECASE)
    return lambda text: pattern.sub(lambda _: put, text)


def rename_tag(old: str, new: str) -> Operation:
    """One tag for another in its place; where the new one is there already, the old one just goes."""
    _not_empty(old)
    if not new.strip():
        raise ConfigError(Problem("the new tag", "is empty", "use `captions remove` to take a tag out"))
    return by_line(lambda caption: caption.with_tag_replaced(old, new))


def add(tags: Iterable[str], *, at: int | None = None, before: str = "", after: str = "") -> Operation:
    """Tags that are not there yet, in their order. at: the place of the first, 1 the first, -1 the last (the default).

    before, after: beside this tag, where it stands; captions without it stay as they are.
    """
    fresh = _listed(tags)
    if sum((at is not None, bool(before), bool(after))) > 1:
        raise ConfigError(Problem("", "more than one place is given", "give one of --at, --first, --before, --after"))
    if at == 0:
        raise ConfigError(Problem("--at", "is 0", "1 is the first place, -1 the last"))

    def change(caption: Caption) -> Caption:
        due = [tag for tag in fresh if not caption.has(tag)]
        place = _place(caption, at, before, after)
        if not due or place is None:
            return caption
        return replace(caption, tags=(*caption.tags[:place], *due, *caption.tags[place:]))

    return by_line(change)


def _place(caption: Caption, at: int | None, before: str, after: str) -> int | None:
    many = len(caption.tags)
    if before or after:
        lower = [tag.lower() for tag in caption.tags]
        beside = (before or after).strip().lower()
        return lower.index(beside) + (not before) if beside in lower else None
    if at is None or at == -1:
        return many
    return min(at - 1, many) if at > 0 else max(many + at + 1, 0)


def remove(tags: Iterable[str] = (), *, at: int | None = None, regex: bool = False) -> Operation:
    """Tags out, wherever they stand, `*` for any signs; regex: patterns that fit a whole tag. at: the tag at that
    place, 1 the first, -1 the last.
    """
    unwanted = list(tags)
    if not unwanted and at is None:
        raise ConfigError(Problem("", "nothing is to be removed", "name a tag, or a place with --at"))
    if at is not None:
        if at == 0 or unwanted:
            what = "is 0" if at == 0 else "and a tag are both given"
            raise ConfigError(Problem("--at", what, "give a tag, or a place: 1 is the first, -1 the last"))
        return by_line(lambda caption: replace(caption, tags=_without_place(caption.tags, at)))
    for tag in unwanted:
        _not_empty(tag)
        if regex:
            replace_text(tag, "", pattern=True)
    if regex:
        patterns = [re.compile(tag, re.IGNORECASE) for tag in unwanted]
        fits: list[Callable[[str], bool]] = [_matches(one) for one in patterns]
    else:
        fits = [has_tag(tag) for tag in unwanted]
    return by_line(lambda caption: replace(caption, tags=tuple(t for t in caption.tags if not any(f(t) for f in fits))))


def _matches(pattern: re.Pattern[str]) -> Callable[[str], bool]:
    return lambda tag: pattern.fullmatch(tag) is not None


def _without_place(tags: tuple[str, ...], at: int) -> tuple[str, ...]:
    place = at - 1 if at > 0 else len(tags) + at
    return tags[:place] + tags[place + 1 :] if 0 <= place < len(tags) else tags


def sort(order: str = "name", *, keep: int = 0, counts: Mapping[str, int] | None = None) -> Operation:
    """Tags in order of `name`, or the most `frequent` of the set first (counts). keep: so many stay in front."""

    def key(tag: str) -> tuple[int, str, str]:
        return (-(counts or {}).get(tag.lower(), 0) if order == "frequent" else 0, tag.lower(), tag)

    return by_line(lambda c: replace(c, tags=(*c.tags[:keep], *sorted(c.tags[keep:], key=key))))


def dedupe() -> Operation:
    """Each tag once, at its first place, without regard to case."""

    def change(caption: Caption) -> Caption:
        found: dict[str, str] = {}
        for tag in caption.tags:
            found.setdefault(tag.lower(), tag)
        return replace(caption, tags=tuple(found.values()))

    return by_line(change)


def trim(*, tags: int | None = None, tokens: int | None = None) -> Operation:
    """Blanks at the ends and doubled, empty tags and blanks around separators go. tags: no more than so many; tokens:
    whole tags go from the end until no more than so many CLIP tokens are left (one tag always stays).
    """

    def one(line: str) -> str:
        caption = Caption.parse(" ".join(line.split()))
        kept = caption.tags[:tags]
        if tokens is not None:
            kept = _fitting(replace(caption, tags=kept), tokens)
        return replace(caption, tags=kept).render()

    return each_line(one)


def _fitting(caption: Caption, tokens: int) -> tuple[str, ...]:
    """The most tags from the front that have no more than so many tokens."""
    from kohyakit.dataset.captions.tokens import count_tokens

    low, high = min(1, len(caption.tags)), len(caption.tags)
    if count_tokens(caption.render()) <= tokens:
        return caption.tags
    while low < high:  # counts grow with the tags
        middle = (low + high + 1) // 2
        fits = count_tokens(replace(caption, tags=caption.tags[:middle]).render()) <= tokens
        low, high = (middle, high) if fits else (low, middle - 1)
    return caption.tags[:low]


CASES: dict[str, Callable[[str], str]] = {
    "lower": str.lower, "upper": str.upper, "title": lambda tag: string.capwords(tag),
    "sentence": lambda tag: tag[:1].upper() + tag[1:],
}  # fmt: skip


def case(how: str, *, keep: int = 0) -> Operation:
    """Letters small (`lower`), capital (`upper`), each word's first (`title`); `sentence`: the caption's first. keep:
    so many tags in front stay as they are.
    """
    change = CASES[how]
    if how == "sentence":
        return by_line(lambda c: replace(c, tags=(*map(change, c.tags[:1]), *c.tags[1:])))
    return by_line(lambda c: replace(c, tags=(*c.tags[:keep], *map(change, c.tags[keep:]))))


@dataclass(frozen=True, slots=True)
class Place:
    """What a template may say of a picture. name: without its ending. number: from 1 on, among those that are meant."""

    name: str
    subset: str
    subject: str
    number: int


FIELDS = ("caption", "tags", "first", "rest", "last", "name", "subset", "class", "n")


def template(text: str) -> Callable[[Place], Operation]:
    """A caption by a pattern: `photo of {class}, {caption}`. FIELDS may stand in braces; `{{` is a brace.

    Where a field is empty the separator that follows goes too. Raises ConfigError naming what is no field.
    """
    try:
        parts = [(before, name) for before, name, how, _ in string.Formatter().parse(text)]
    except ValueError as error:
        raise ConfigError(Problem("the template", f"cannot be read ({error})", "write a brace itself as {{")) from None
    unknown = [name for _, name in parts if name is not None and name not in FIELDS]
    if unknown:
        cure = f"there are {', '.join(FIELDS)}"
        raise ConfigError(Problem("the template", f"'{{{name}}}' is no field", cure) for name in unknown)
    if not text.strip():
        raise ConfigError(Problem("the template", "is empty", "write it like: photo of {class}, {caption}"))
    return lambda place: each_line(lambda line: _filled(parts, line, place))


def _filled(parts: list[tuple[str, str | None]], line: str, place: Place) -> str:
    tags = Caption.parse(line).tags
    values = {
        "caption": line.strip() if has_words(line) else "", "tags": ", ".join(tags), "first": tags[0] if tags else "",
        "rest": ", ".join(tags[1:]), "last": tags[-1] if tags else "", "name": place.name, "subset": place.subset,
        "class": place.subject, "n": str(place.number),
    }  # fmt: skip
    result = ""
    empty = False
    for before, name in parts:
        before = before.removeprefix(",").lstrip() if empty else before
        value = values[name] if name else ""
        empty = name is not None and not value
        result += before + value
    return result.rstrip(" ,") if empty else result


def _listed(tags: Iterable[str]) -> list[str]:
    """`a, b` and `c` as three tags; each once."""
    listed = [tag for text in tags for tag in Caption.parse(text).tags]
    if not listed:
        raise ConfigError(Problem("the tag", "is empty", "say which tag"))
    return list(dict.fromkeys(listed))


def _not_empty(find: str) -> None:
    if not find:
        raise ConfigError(Problem("what is looked for", "is empty", "say which words or tag"))


def _flags(ignore_case: bool) -> int:
    return re.IGNORECASE if ignore_case else 0

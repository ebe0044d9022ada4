"""Tags that look like one another: written in two ways, in another order of words, or misspelt."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

_MOST_TAGS, _LONGEST = 20_000, 40  # tags that are compared, the commonest first; characters of one
_SHORTEST = 5  # characters of a word from which one letter more or less is a misspelling and no other word
_RARER = 3  # times as often the other must stand for the rarer to be its misspelling

Pair = tuple[str, str, str]  # the rarer, the commoner, how they differ


def look_alike(counts: Mapping[str, int]) -> list[Pair]:
    """Pairs of tags that may mean the same, of the commonest first. counts: in how many captions each stands.

    How: `case` (the same to the text encoder), `form` (underscore, hyphen, plural, article), `order` of words,
    `spelling` (one letter more, less, exchanged or turned; words with digits are never compared so).
    """
    ranked = sorted(counts, key=lambda tag: (-counts[tag], tag))
    tags = [tag for tag in ranked if len(tag) <= _LONGEST][:_MOST_TAGS]
    found: dict[tuple[str, str], str] = {}
    for how, groups in (("case", _grouped(tags, str.lower)), ("form", _grouped(tags, _form)),
                        ("order", _grouped(tags, _words))):  # fmt: skip
        for group in groups:
            for rarer in group[1:]:
                found.setdefault((rarer, group[0]), how)
    for rarer, other in _misspelt(tags, counts):
        found.setdefault((rarer, other), "spelling")
    pairs = [(rarer, other, how) for (rarer, other), how in found.items()]
    return sorted(pairs, key=lambda pair: (-counts[pair[1]], -counts[pair[0]], pair))


def _grouped(tags: Iterable[str], key: Callable[[str], str]) -> Iterator[list[str]]:
    groups: dict[str, list[str]] = defaultdict(list)
    for tag in tags:
        groups[key(tag)].append(tag)
    return (group for group in groups.values() if len(group) > 1)


def _form(tag: str) -> str:
    words = re.split(r"[\s_-]+", tag.lower())
    bare = words[1:] if len(words) > 1 and words[0] in ("a", "an", "the") else words
    return "".join(_singular(word) for word in bare)


def _singular(word: str) -> str:
    """Rough: only so that a plural and its singular meet."""
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("ches", "shes", "xes", "sses")):
        return word[:-2]
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def _words(tag: str) -> str:
    return " ".join(sorted(re.split(r"[\s_-]+", tag.lower())))


def _misspelt(tags: list[str], counts: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """Tags are found beside each other by what they are without one letter, so that not each is held to each."""
    seen: dict[str, list[str]] = defaultdict(list)
    for tag in tags:  # the commonest first
        lower = tag.lower()
        if len(lower) < _SHORTEST or any(sign.isdigit() for sign in lower):
            continue
        keys = {lower, *(lower[:at] + lower[at + 1 :] for at in range(len(lower)))}
        near = {other for key in keys for other in seen.get(key, ())}
        for other in sorted(near):
            if counts[other] >= _RARER * counts[tag] and _one_slip(lower, other.lower()):
                yield tag, other
        for key in keys:
            seen[key].append(tag)


def _one_slip(a: str, b: str) -> bool:
    """Whether one letter more, less, exchanged for another or turned with its neighbour makes b of a; the word in
    which they differ must be long enough.
    """
    if a == b or abs(len(a) - len(b)) > 1:
        return False
    start = shared(a, b)
    rest_a, rest_b = a[start:], b[start:]
    end = shared(rest_a[::-1], rest_b[::-1])
    one, two = rest_a[: len(rest_a) - end], rest_b[: len(rest_b) - end]
    turned = len(one) == 2 and one == two[::-1]
    if not turned and max(len(one), len(two)) > 1:
        return False
    word = re.split(r"[\s_-]", a[:start])[-1] + re.split(r"[\s_-]", rest_a)[0]
    return len(word) >= _SHORTEST and (one + two).isalpha()


def shared(one: Sequence[str], other: Sequence[str]) -> int:
    """How many signs or tags two begin with alike."""
    same = (at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return next(same, min(len(one), len(other)))

"""Words from elsewhere made a caption: kept tokens, trigger, prefix, modes; and tags as boorus spell them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kohyakit.dataset.captions.caption import Caption

MODES = ("skip", "overwrite", "append", "prepend")
# Faces drawn with signs keep their underscores, as the field writes them.
KAOMOJI = frozenset(
    (
        "0_0",
        "(o)_(o)",
        "+_+",
        "+_-",
        "._.",
        "<o>_<o>",
        "<|>_<|>",
        "=_=",
        ">_<",
        "3_3",
        "6_9",
        ">_o",
        "@_@",
        "^_^",
        "o_o",
        "u_u",
        "x_x",
        "|_|",
        "||_||",
    )
)


@dataclass(frozen=True, slots=True)
class Rules:
    """What becomes of words that a model, a picture or another program gives for a caption.

    mode: skip leaves captions that are there; overwrite replaces them; append and prepend add what is new to them.
    trigger: a word or tag that stands first in every caption. keep_tokens: so many tags of the old caption stay in
    front, also when it is overwritten. prefix, suffix: put around those words, as they are written.
    """

    mode: str = "skip"
    trigger: str = ""
    keep_tokens: int = 0
    prefix: str = ""
    suffix: str = ""


def compose(old: str, said: str, rules: Rules) -> str:
    """The caption that a picture gets. Tags that are there already are not written twice."""
    fresh = _tags(", ".join(part for part in (rules.prefix.strip(" ,"), said, rules.suffix.strip(" ,")) if part))
    before = _tags(old)
    kept = before[: rules.keep_tokens]
    if rules.mode == "append":
        tags = [*before, *fresh]
    elif rules.mode == "prepend":
        tags = [*kept, *fresh, *before]
    else:
        tags = [*kept, *fresh]
    first = [rules.trigger.strip()] if rules.trigger.strip() else []
    return ", ".join(_once([*first, *tags]))


def _tags(text: str) -> list[str]:
    return list(Caption.parse(text).tags)


def _once(tags: Iterable[str]) -> list[str]:
    """Each tag at its first place, without regard to case."""
    found: dict[str, str] = {}
    for tag in tags:
        found.setdefault(tag.lower(), tag)
    return list(found.values())


def spelt(tag: str) -> str:
    """A booru's tag as people write it into captions: blanks for underscores, save in faces drawn with signs."""
    return tag if tag in KAOMOJI else tag.replace("_", " ")

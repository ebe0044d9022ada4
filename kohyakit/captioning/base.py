"""What a captioner is, and what becomes of its words: kept tokens, trigger, prefix, modes, and no loops."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from kohyakit.dataset.captions.caption import Caption

if TYPE_CHECKING:
    from PIL.Image import Image


class Captioner(Protocol):
    """A model that says what is on a picture. `about`: its name and what it runs on, said before the first picture."""

    about: str
    batch_size: int

    def caption(self, pictures: Sequence[Image]) -> list[str]:
        """A caption for each picture (RGB, upright), tags separated by `, ` or a sentence."""
        ...


@dataclass(frozen=True, slots=True)
class Rules:
    """What becomes of a model's words.

    mode: skip leaves captions that are there; overwrite replaces them; append and prepend add what is new to them.
    trigger: a word or tag that stands first in every caption. keep_tokens: so many tags of the old caption stay in
    front, also when it is overwritten. prefix, suffix: put around what the model says, as they are written.
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


_LEAST_LOOP = 3  # a phrase said so often in a row is a loop


def tidy(text: str) -> str:
    """One line, without the marks of a chat and without what a model said over and over.

    Returns "" where nothing is left, which nobody should write into a file.
    """
    text = re.sub(r"\s+", " ", re.sub(r"<\|?[\w/]+\|?>", " ", text)).strip()
    text = re.sub(r"^(?:assistant|caption)\s*:\s*", "", text, flags=re.IGNORECASE).strip('"').strip()
    return _without_loop(text)


def _without_loop(text: str) -> str:
    """The text up to the end of the first round of a loop: tags, sentences or words that repeat to the end."""
    for separator in (", ", ". ", " "):
        parts = text.split(separator)
        for size in range(1, len(parts) // _LEAST_LOOP + 1):
            rounds = 1
            while parts[-size * (rounds + 1) : len(parts) - size * rounds] == parts[-size:]:
                rounds += 1
            if rounds >= _LEAST_LOOP:
                return separator.join(parts[: len(parts) - size * (rounds - 1)])
    return text

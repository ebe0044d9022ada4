"""What a captioner is, and what is left of its words: no marks of a chat, no loops."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from PIL.Image import Image


class Captioner(Protocol):
    """A model that says what is on a picture. `about`: its name and what it runs on, said before the first picture."""

    about: str
    batch_size: int

    def caption(self, pictures: Sequence[Image]) -> list[str]:
        """A caption for each picture (RGB, upright), tags separated by `, ` or a sentence."""
        ...


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

"""A run's name: the number is the set of images, the letter the settings tried on it. 1a 1b … 1z 1aa 2a … 10a."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from kohyakit.errors import Problem, RunError

_PATTERN = re.compile(r"([1-9][0-9]{0,8})([a-z]{1,6})")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, order=True, slots=True)
class Version:
    """`Version(2, 1)` is 2a. Ordered by number, then letter as counted: 2a < 10a, 1z < 1aa.

    number: the set of images, from 1. letter: the try with those images, from 1 (1 is a, 26 z, 27 aa).
    """

    number: int
    letter: int

    def __post_init__(self) -> None:
        if self.number < 1 or self.letter < 1:
            raise ValueError(f"a version counts from 1a, not from ({self.number}, {self.letter})")

    @classmethod
    def parse(cls, text: str) -> Version:
        """Read `2a` (case and blanks around it do not matter). Raises RunError for anything else."""
        match = _PATTERN.fullmatch(text.strip().lower())
        if not match:
            cure = "write a number and a letter, such as 1a, 2c, 10aa"
            raise RunError(Problem("", f"{text!r} is not a version", cure))
        letter = 0
        for character in match[2]:
            letter = letter * 26 + _LETTERS.index(character) + 1
        return cls(int(match[1]), letter)

    @classmethod
    def is_version(cls, text: str) -> bool:
        """Whether a folder's name is a version, in the spelling that `str` gives."""
        return bool(_PATTERN.fullmatch(text))

    def __str__(self) -> str:
        letters, rest = "", self.letter
        while rest:
            rest, digit = divmod(rest - 1, 26)
            letters = _LETTERS[digit] + letters
        return f"{self.number}{letters}"


def next_version(parent: Version | None, same_images: bool, taken: Iterable[Version]) -> Version:
    """The first free name after `parent`: its number's next letter for the same images, else the next number.

    taken: every version of the project; a name that was once given is not given again while a later one stands.
    Without a parent the answer is the next number's a.
    """
    taken = set(taken)
    if parent is not None and same_images:
        letters = [version.letter for version in taken if version.number == parent.number]
        return Version(parent.number, max([*letters, parent.letter]) + 1)
    numbers = [version.number for version in taken]
    return Version(max([*numbers, parent.number if parent else 0], default=0) + 1, 1)

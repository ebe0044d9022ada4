"""Captions: the text beside an image, as sd-scripts reads it, and as a value that can be edited."""

from __future__ import annotations

import os
from collections.abc import Container
from dataclasses import dataclass, replace
from pathlib import Path

from kohyakit.files import read_bytes


class BadCaption(ValueError):
    """A caption file that cannot be used; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Caption:
    """A caption of one line as its tags. Parsing and rendering loses only spaces around tags and empty tags.

    separator: what stands between tags in the file, usually a comma.
    """

    tags: tuple[str, ...]
    separator: str = ","

    @classmethod
    def parse(cls, text: str, separator: str = ",") -> Caption:
        return cls(tuple(tag for tag in (part.strip() for part in text.split(separator)) if tag), separator)

    def render(self) -> str:
        joint = f"{self.separator} " if self.separator.strip() else self.separator
        return joint.join(self.tags)

    def __str__(self) -> str:
        return self.render()

    def has(self, tag: str) -> bool:
        """Whether the tag is there, without regard to case."""
        return tag.strip().lower() in (mine.lower() for mine in self.tags)

    def with_tag(self, tag: str, *, first: bool = False) -> Caption:
        """With the tag at the end (or first); unchanged where it is there already."""
        tag = tag.strip()
        if not tag or self.has(tag):
            return self
        return replace(self, tags=(tag, *self.tags) if first else (*self.tags, tag))

    def without_tag(self, tag: str) -> Caption:
        unwanted = tag.strip().lower()
        return replace(self, tags=tuple(mine for mine in self.tags if mine.lower() != unwanted))

    def with_tag_replaced(self, old: str, new: str) -> Caption:
        """With one tag replaced in its place; where the new one is there already, the old one just goes."""
        if self.has(new) and new.strip().lower() != old.strip().lower():
            return self.without_tag(old)
        unwanted = old.strip().lower()
        return replace(self, tags=tuple(new.strip() if mine.lower() == unwanted else mine for mine in self.tags))


def caption_names(image_name: str, extension: str) -> tuple[str, ...]:
    """The names of the caption files that belong to an image, the one that counts first.

    As sd-scripts: the image's stem, and, for names of its face cropper (`photo_x_y_w_h`), what stands before
    the last four underscores.
    """
    stem = os.path.splitext(image_name)[0]
    parts = stem.split("_")
    names = (stem + extension,)
    return (*names, "_".join(parts[:-4]) + extension) if len(parts) >= 5 else names


def find_caption(image: Path, extension: str, names: Container[str]) -> Path | None:
    """The caption file of an image among the names in its folder, or None."""
    for name in caption_names(image.name, extension):
        if name in names:
            return image.with_name(name)
    return None


def read_lines(path: Path) -> tuple[str, ...]:
    """The lines of a caption file, stripped. UTF-8; a byte order mark is taken off (sd-scripts would train it).

    Raises BadCaption for a file that is empty, cannot be read or is not UTF-8.
    """
    try:
        data = read_bytes(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadCaption(f"the caption cannot be read ({reason})") from None
    if not data:
        raise BadCaption("the caption file is empty; write the caption, or delete the file to use the folder's name")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if data.startswith((b"\xff\xfe", b"\xfe\xff")):
            kind = "UTF-16"
        else:
            kind = f"not UTF-8 (byte {error.start + 1} is 0x{data[error.start]:02x})"
        raise BadCaption(f"the caption is {kind}; save it as UTF-8") from None
    text = text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n")
    return tuple(line.strip() for line in text.split("\n"))


def read_caption(path: Path | None, *, class_tokens: str | None = None, enable_wildcard: bool = False) -> str:
    """The caption that a training starts from, before shuffling and dropouts.

    path: the caption file, or None where there is none: then the class tokens, or "". The first line counts; with
    enable_wildcard all lines that are not blank, joined by newlines, of which one is drawn later. Raises BadCaption.
    """
    if path is None:
        return class_tokens or ""
    lines = read_lines(path)
    return "\n".join(line for line in lines if line) if enable_wildcard else lines[0]

"""Captions: the text beside an image, as sd-scripts reads it, and as a value that can be edited."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from kohyakit.files import read_bytes

_INVISIBLE = frozenset("\u115f\u1160\u2800\u3164\uffa0\ufffd")  # letters and symbols with nothing to see in them


UNREADABLE, EMPTY = "the caption cannot be read", "the caption file is empty"
"""How what a BadCaption says begins; of everything else it says how the file is encoded."""


class BadCaption(ValueError):
    """A caption file that cannot be used; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Caption:
    """A caption of one line as its tags. Parsing and rendering loses only spaces around tags and tags without a sign
    that can be seen.

    separator: what stands between tags in the file, usually a comma.
    """

    tags: tuple[str, ...]
    separator: str = ","

    @classmethod
    def parse(cls, text: str, separator: str = ",") -> Caption:
        parts = filter(None, map(str.strip, text.split(separator)))
        plain = text.isascii() and text.isprintable()  # then all that is no blank can be seen
        return cls(tuple(parts if plain else filter(_is_visible, parts)), separator)

    def render(self) -> str:
        joint = f"{self.separator} " if self.separator.strip() else self.separator
        return joint.join(self.tags)

    def __str__(self) -> str:
        return self.render()

    def has(self, tag: str) -> bool:
        """Whether the tag is there, without regard to case."""
        return tag.strip().lower() in map(str.lower, self.tags)

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


def has_words(text: str) -> bool:
    """Whether a caption says something: a letter, digit or symbol, not separators, dots and invisible signs alone."""
    return any(unicodedata.category(sign)[0] in "LNS" and sign not in _INVISIBLE for sign in text)


def _is_visible(text: str) -> bool:
    """Whether there is anything to see; a tag may be of dots alone."""
    if text.isascii() and text.isprintable():
        return bool(text) and not text.isspace()
    return any(unicodedata.category(sign)[0] in "LNSPM" and sign not in _INVISIBLE for sign in text)


def caption_names(image_name: str, extension: str) -> tuple[str, ...]:
    """The names of the caption files that belong to an image, the one that counts first.

    As sd-scripts: the image's stem, and, for names of its face cropper (`photo_x_y_w_h`), what stands before
    the last four underscores.
    """
    stem = os.path.splitext(image_name)[0]
    parts = stem.split("_")
    names = (stem + extension,)
    return (*names, "_".join(parts[:-4]) + extension) if len(parts) >= 5 else names


def misspelt(images: Iterable[str], names: Collection[str], extension: str) -> dict[str, tuple[str, str]]:
    """Captions whose names differ from their image's in a way that nobody sees: image -> (caption, why).

    images, names: of one folder. Only images without a caption and captions without an image, where the two are the
    only ones that could mean each other.
    """
    own = {image: caption_names(image, extension) for image in images}
    taken = {name for mine in own.values() for name in mine if name in names} | {mine[0] for mine in own.values()}
    free: dict[str, list[str]] = {}
    for name in names:
        if name not in taken and name.lower().endswith(extension.lower()):
            stem, ending = os.path.splitext(name)
            if ending.lower() == extension.lower():
                free.setdefault(_key(stem), []).append(name)
    alone: dict[str, list[str]] = {}
    for image in own if free else ():
        if not any(name in names for name in own[image]):
            alone.setdefault(_key(os.path.splitext(image)[0]), []).append(image)
    return {
        mine[0]: (free[key][0], _difference(os.path.splitext(mine[0])[0] + extension, free[key][0]))
        for key, mine in alone.items()
        if len(mine) == len(free.get(key, ())) == 1
    }


def _key(stem: str) -> str:
    """What is left of a name for the eye: forms of writing, case, blanks and invisible signs taken out."""
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", stem).casefold())
    return "".join(sign for sign in text if not sign.isspace() and unicodedata.category(sign) != "Cf")


def _difference(wanted: str, name: str) -> str:
    """Why a caption that looks as if it belonged to an image does not, for a sentence."""
    nfc, nfkc = (lambda text, form=form: unicodedata.normalize(form, text) for form in ("NFC", "NFKC"))
    steps = (
        ("writes its accents in another way", nfc),
        ("writes capitals and small letters in another way", lambda text: nfc(text).casefold()),
        ("has blanks in other places", lambda text: "".join(nfc(text).split())),
        ("has other blanks and other capitals", lambda text: "".join(nfc(text).casefold().split())),
        ("writes some of its signs in another form", lambda text: "".join(nfkc(nfkc(text).casefold()).split())),
    )
    how = next((words for words, same in steps if same(wanted) == same(name)), "holds invisible signs")
    return f"the caption {name} belongs to it but {how}"


def read_lines(path: Path) -> tuple[str, ...]:
    """The lines of a caption file, stripped. UTF-8; a byte order mark is taken off (sd-scripts would train it).

    Raises BadCaption for a file that is empty, cannot be read or is not UTF-8.
    """
    try:
        data = read_bytes(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadCaption(f"{UNREADABLE} ({reason})") from None
    if not data:
        raise BadCaption(f"{EMPTY}; write the caption, or delete the file to use the folder's name")
    from kohyakit.dataset.editing.encoding import fault_of

    if fault := fault_of(data):
        raise BadCaption(f"the caption {fault}")
    text = data.decode("utf-8-sig")
    text = text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n")
    return tuple(line.strip() for line in text.split("\n"))


def trained_text(lines: tuple[str, ...], *, enable_wildcard: bool = False) -> str:
    """The caption that a training starts from, before shuffling and dropouts: the first line; with enable_wildcard all
    lines that are not blank, joined by newlines, of which one is drawn later."""
    return "\n".join(line for line in lines if line) if enable_wildcard else lines[0]

"""Many captions changed at once: first seen, then done, in the one history that all editors of captions share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from kohyakit.dataset.captions.caption import Caption
from kohyakit.dataset.captions.choose import Home, home_of
from kohyakit.dataset.captions.operations import Operation, Place
from kohyakit.dataset.editing import captions as edit
from kohyakit.dataset.editing.captions import CaptionFile, Change, Edit
from kohyakit.dataset.editing.encoding import NAMES, decoded, encoding_of, fault_of
from kohyakit.errors import ConfigError, DatasetError, Problem

NEWLINES = {"lf": "\n", "crlf": "\r\n"}


@dataclass(frozen=True, slots=True)
class Preview:
    """What would change. looked: captions that are meant. left: those that cannot be edited, each with the reason."""

    edits: tuple[Edit, ...]
    looked: int
    left: tuple[Problem, ...]


def preview(files: Iterable[CaptionFile], operation: Operation) -> Preview:
    """What an operation would do to these captions; nothing is written."""
    return _looked(files, lambda file: edit.rewritten(file, operation(file.text)))


def preview_template(folder: Path, files: Iterable[CaptionFile], filled: Callable[[Place], Operation]) -> Preview:
    """The same for a template, which also says where a picture lies and which number it has."""
    number = 0
    homes: dict[str, Home] = {}

    def change(file: CaptionFile) -> Edit | None:
        nonlocal number
        number += 1
        home = home_of(file, folder, homes)
        place = Place(file.image.stem, home.subset, home.subject, number)
        return edit.rewritten(file, filled(place)(file.text))

    return _looked(files, change)


def preview_encoding(
    folder: Path, files: Iterable[CaptionFile], *, source: str = "", mark: bool = False, newlines: str = ""
) -> Preview:
    """Captions saved as UTF-8, which is what a training reads. source: the encoding that they are in; "" tells it
    from the bytes. mark: with a byte order mark. newlines: lf or crlf; "" leaves them.
    """
    try:
        "".encode(source or "utf-8")
    except LookupError:
        cure = f"write it like {', '.join(NAMES)}"
        raise ConfigError(Problem("--from", f"'{source}' is no encoding", cure)) from None
    inside = folder.resolve()

    def change(file: CaptionFile) -> Edit | None:
        if file.raw is None:
            return None
        new = _as_utf8(file, source, newlines)
        if not file.path.parent.resolve().is_relative_to(inside):
            raise DatasetError(Problem(file.path.name, "lies behind a link", "edit it where it lies"))
        raw = (b"\xef\xbb\xbf" if mark else b"") + new
        return Edit(file.path, file.raw, raw) if raw != file.raw else None

    return _looked(files, change, faulty=True)


def _as_utf8(file: CaptionFile, source: str, newlines: str) -> bytes:
    """Raises DatasetError where the encoding cannot be told, or is not the one that was said."""
    raw = file.raw or b""
    found = encoding_of(raw)
    codec = source if source and fault_of(raw) else found.codec if found and not found.others else ""
    try:
        if not codec:
            raise LookupError(f"may be {found.name}" if found else "is in no encoding that is known here")
        text = decoded(raw, codec).replace("\0", "")
    except UnicodeDecodeError:
        raise DatasetError(Problem(file.path.name, f"is not {NAMES.get(codec, codec)}", "name another")) from None
    except LookupError as error:
        raise DatasetError(Problem(file.path.name, str(error), "say which with --from")) from None
    if newlines:
        text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\n", NEWLINES[newlines])
    return text.encode("utf-8")


def _looked(
    files: Iterable[CaptionFile], change: Callable[[CaptionFile], Edit | None], *, faulty: bool = False
) -> Preview:
    """faulty: captions that are not UTF-8 are looked at too."""
    edits, left, looked = [], [], 0
    for file in files:
        looked += 1
        if file.problem and not (faulty and file.raw is not None and fault_of(file.raw)):
            left.append(Problem(file.path.name, file.problem, severity="warning"))
            continue
        try:
            if (made := change(file)) is not None:
                edits.append(made)
        except DatasetError as error:
            left += error.problems
    return Preview(tuple(edits), looked, tuple(left))


def tag_counts(files: Iterable[CaptionFile]) -> Counter[str]:
    """In how many captions each tag stands, in small letters."""
    return Counter(
        tag
        for file in files
        if not file.problem
        for tag in {tag.lower() for line in edit.lines_of(file.text) for tag in Caption.parse(line).tags}
    )


def find_change(folder: Path, step: str = "") -> tuple[int, Change]:
    """A change of the history by its number (1 the oldest) or id, with its number; "" takes the newest that stands.

    Raises DatasetError where there is none.
    """
    changes = edit.history(folder)
    if not changes:
        cure = "name the folder that was edited, the one that holds .kohyakit"
        raise DatasetError(Problem(str(folder), "has no history of captions", cure, "no_history"))
    numbered = list(enumerate(changes, 1))
    if not step:
        standing = edit.standing(changes)
        if not standing:
            raise DatasetError(Problem(str(folder), "has no change that stands", "see `kohyakit captions history`"))
        numbered = [(number, change) for number, change in numbered if change.id == standing[0].id]
    else:
        numbered = [(number, change) for number, change in numbered if step in (str(number), change.id)]
    if not numbered:
        there = f"give a number from 1 to {len(changes)}"
        raise DatasetError(Problem(f"step {step}", f"is not in the history of {folder}", there, "no_such_step"))
    return numbered[0]

"""Captions put into the pictures themselves, their pixels untouched and with a way back.

What is put into them is noted in `.kohyakit/embedded.jsonl` before a picture is touched: which bytes stood where,
and the hash of the whole file before and after. Only a file with that very hash is put back.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import reduce
from pathlib import Path
from typing import Any

from kohyakit.dataset.captions.caption import Caption, has_words
from kohyakit.dataset.editing.captions import CaptionFile
from kohyakit.dataset.images import takes
from kohyakit.dataset.metadata.splices import Splice, with_caption
from kohyakit.dataset.metadata.told import Unfit
from kohyakit.errors import DatasetError, Problem
from kohyakit.files import append_line, held, is_link, link_on_the_way, read_bytes, refuse_links, write_bytes

NOTES = Path(".kohyakit") / "embedded.jsonl"
_LOCK = "pictures.lock"
_MOST, _MOST_NOTES = 1 << 30, 1 << 30  # bytes of a picture, and of the notes


@dataclass(frozen=True, slots=True)
class Gift:
    """A picture and how it comes to say its caption. before, after: SHA-256 of the whole file."""

    path: Path
    splices: tuple[Splice, ...]
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Gifts:
    """by: how many captions each way took. other: pictures of formats that no way asked for is for.

    same: pictures that say it already. left: those that cannot be given it, each with the reason.
    """

    gifts: tuple[Gift, ...]
    by: Counter[str]
    looked: int
    other: int
    same: int
    left: tuple[Problem, ...]


def preview_gifts(files: Iterable[CaptionFile], ways: Sequence[str]) -> Gifts:
    """What would be put into pictures, by `text`, `exif` and `xmp` (see splices.with_caption); nothing is written."""
    gifts, left = [], []
    by: Counter[str] = Counter()
    looked = other = same = 0
    for file in files:
        looked += 1
        if file.problem or not has_words(file.text):
            left += [Problem(file.path.name, file.problem, severity="warning")] if file.problem else []
            continue
        try:
            found = _gift(file, ways, by)
        except (Unfit, OSError) as error:
            reason = str(error) if isinstance(error, Unfit) else f"cannot be read ({error.strerror or error})"
            left.append(Problem(file.image.name, reason, "", "cannot_be_given", "warning"))
            continue
        other += found is None
        if found is not None and found.before != found.after:
            gifts.append(found)
        same += found is not None and found.before == found.after
    return Gifts(tuple(gifts), by, looked, other, same, tuple(left))


def _gift(file: CaptionFile, ways: Sequence[str], by: Counter[str]) -> Gift | None:
    if is_link(file.image):
        raise Unfit("is a link, and nothing is written through one")
    caption = file.text.strip().splitlines()[0].strip()
    tags = Caption.parse(caption).tags
    data = before = read_bytes(file.image, _MOST)
    splices = []
    for way in ways:
        if splice := with_caption(data, way, caption, tags if len(tags) > 1 else ()):
            splices.append(splice)
            data = splice.done(data)
            by[way] += 1
    return Gift(file.image, tuple(splices), _sha256(before), _sha256(data)) if splices else None


def give(folder: Path, gifts: Sequence[Gift], what: str) -> tuple[int, tuple[Problem, ...]]:
    """Put captions into pictures, after how to take them out again is noted. Returns how many were, and those left.

    Raises DatasetError where that cannot be noted; nothing is changed then.
    """
    note = {"id": uuid.uuid4().hex[:12], "time": datetime.now(UTC).isoformat(timespec="seconds"), "what": what,
            "pictures": [_noted(gift, folder) for gift in gifts]}  # fmt: skip
    with _alone(folder):
        _note(folder, note)
        return _exchange((gift, gift.before, gift.splices) for gift in gifts)


def take_back(folder: Path) -> tuple[str, int, tuple[Problem, ...]]:
    """Put the pictures of the last export that stands back as they were, byte for byte -> (what it was, how many, those
    left because they were changed since). Raises DatasetError where there is none.
    """
    with _alone(folder):
        standing = _standing(folder)
        if not standing:
            cure = "name the folder that was exported, the one that holds .kohyakit"
            raise DatasetError(Problem(str(folder), "has no captions that were put into pictures here", cure))
        note = standing[-1]
        gifts = [gift for gift in note["gifts"] if _hash_of(gift.path) != gift.before]
        back = ((gift, gift.after, tuple(reversed([Splice(one.at, one.new, one.old) for one in gift.splices])))
                for gift in gifts)  # fmt: skip
        made, left = _exchange(back)
        if not left:
            _note(folder, {"taken_back": note["id"]})
        return str(note["what"]), made, left


def _exchange(gifts: Iterable[tuple[Gift, str, tuple[Splice, ...]]]) -> tuple[int, tuple[Problem, ...]]:
    """Each picture whose hash is still the one that is meant gets its bytes exchanged."""
    made, left = 0, []
    for gift, wanted, splices in gifts:
        try:
            data = b"" if is_link(gift.path) else read_bytes(gift.path, _MOST)
            if _sha256(data) != wanted:
                left.append(Problem(gift.path.name, "was changed meanwhile and is left as it is", "look at it again"))
                continue
            fresh = reduce(lambda bytes_, splice: splice.done(bytes_), splices, data)
            if _sha256(fresh) != (gift.after if wanted == gift.before else gift.before):
                left.append(Problem(gift.path.name, "is noted in a way that does not fit it", "it is left as it is"))
                continue
            write_bytes(gift.path, fresh, draft=gift.path.with_name(f".kohyakit-{os.getpid()}.tmp"))
            made += 1
        except OSError as error:
            left.append(Problem(gift.path.name, f"cannot be written ({error.strerror or error})", "it is as it was"))
    return made, tuple(left)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Be the only one at the notes of a folder."""
    own = folder / NOTES.parent
    try:
        refuse_links(folder, own, folder / NOTES)
        own.mkdir(parents=True, exist_ok=True)
        with held(own / _LOCK):
            yield
    except OSError as error:
        what = f"what is put into pictures cannot be noted ({error.strerror or error}), so nothing was changed"
        raise DatasetError(Problem(str(folder / NOTES), what, "look at the folder's permissions")) from error


def _note(folder: Path, data: dict[str, Any]) -> None:
    append_line(folder / NOTES, json.dumps(data, ensure_ascii=False).encode("utf-8", "surrogatepass"))


def _noted(gift: Gift, folder: Path) -> dict[str, Any]:
    splices = [[one.at, base64.b64encode(one.old).decode(), base64.b64encode(one.new).decode()] for one in gift.splices]
    return {"file": gift.path.relative_to(folder).as_posix(), "before": gift.before, "after": gift.after,
            "splices": splices}  # fmt: skip


def _standing(folder: Path) -> list[dict[str, Any]]:
    """Exports that were not taken back, oldest first; lines that nobody here would have written are passed over."""
    try:
        lines = read_bytes(folder / NOTES, _MOST_NOTES).split(b"\n")
    except OSError:
        return []
    notes: dict[str, dict[str, Any]] = {}
    for row in lines:
        try:
            data = json.loads(row.decode("utf-8", "surrogatepass"))
            if "taken_back" in data:
                notes.pop(data["taken_back"], None)
            else:
                gifts = [_read_gift(folder, one) for one in data["pictures"]]
                notes[str(data["id"])] = {"id": str(data["id"]), "what": str(data["what"]), "gifts": gifts}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
    return list(notes.values())


def _read_gift(folder: Path, data: dict[str, Any]) -> Gift:
    """Raises ValueError or its like for anything but a picture of this folder."""
    path = folder / data["file"]
    parts = path.relative_to(folder).parts
    hidden = any(part.startswith(".") for part in parts)
    if not parts or hidden or not takes(path.name) or link_on_the_way(folder, path):
        raise ValueError("no picture of this folder")
    splices = [Splice(int(at), base64.b64decode(old), base64.b64decode(new)) for at, old, new in data["splices"]]
    return Gift(path, tuple(splices), str(data["before"]), str(data["after"]))


def _hash_of(path: Path) -> str:
    try:
        return "" if is_link(path) else _sha256(read_bytes(path, _MOST))
    except OSError:
        return ""


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()

"""Caption files edited so that none is ever lost: every change is written down, old and new, before a file is touched.

Undoing is a change too, so it can be undone. One editor writes at a time, and a file that someone else changed
meanwhile is left alone and named.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from kohyakit.dataset.captions.caption import Caption, has_words
from kohyakit.dataset.captions.pairing import commonest, pair_folder
from kohyakit.dataset.editing import journal
from kohyakit.dataset.editing.encoding import fault_of
from kohyakit.dataset.editing.journal import JOURNAL, Change, Edit, history, standing, text_of, undoable
from kohyakit.dataset.images import shown
from kohyakit.dataset.walk import Folder, Identity, identity, list_folder, system_folder
from kohyakit.errors import DatasetError, Problem
from kohyakit.files import held, is_link, read_bytes, write_bytes

__all__ = [
    "EXTENSIONS", "JOURNAL", "CaptionFile", "Change", "Edit", "add_tag", "apply", "by_line", "caption_files",
    "each_caption_file", "each_line", "history", "lines_of", "prefix", "proposed", "ready", "remove_tag",
    "replace_tag", "replace_text", "rewritten", "standing", "suffix", "undo", "undoable",
]  # fmt: skip

EXTENSIONS = (".txt", ".caption")
_LOCK = "captions.lock"
_GROUP, _WRITERS = 16, 32  # files that one thread writes before it takes the next; threads
_LINE = re.compile(
    r"[^\r\n]*(?:\r\n|\n|\r)|[^\r\n]+"
)  # str.splitlines breaks at signs that are no line ends to sd-scripts


@dataclass(frozen=True, slots=True)
class CaptionFile:
    """An image and its caption file. raw: its bytes, None where there is none. problem: why it cannot be edited."""

    image: Path
    path: Path
    raw: bytes | None = None
    problem: str = ""

    @property
    def text(self) -> str:
        """The caption as text; "" where there is none or it is not text."""
        return "" if self.raw is None or self.problem else self.raw.decode().removeprefix("\ufeff")


def caption_files(folder: Path, extension: str | None = None) -> tuple[CaptionFile, ...]:
    """Every image in a folder and below with its caption file, sorted by path. Folders with a leading dot do not count.

    Linked folders are entered, each real one once. extension: None takes the one that most captions have.
    Raises DatasetError when the folder cannot be read.
    """
    return tuple(each_caption_file(folder, extension))


def each_caption_file(folder: Path, extension: str | None = None) -> Iterator[CaptionFile]:
    """The same one after the other, so that of a hundred thousand no more than one need be held."""
    if not folder.is_dir():
        raise DatasetError(Problem(str(folder), "is not a folder", "name the folder with the images"))
    listings = deque(_listings(folder))
    chosen = extension or commonest((listing for listing, _ in listings), EXTENSIONS)
    while listings:
        listing, behind = listings.popleft()  # names of a folder are let go with it
        paired, place = pair_folder(listing, chosen), Path(listing.path)
        for taken in listing.taken():
            odd, reason = paired.misspelt.get(taken, ("", ""))
            name = odd or paired.captions.get(taken, "")
            image = place / taken
            file = _read(image, place / name if name else image.with_suffix(chosen), behind)
            yield replace(file, problem=f"{reason}; kohyakit repair renames it") if odd else file


def _listings(folder: Path) -> Iterator[tuple[Folder, str]]:
    """Each folder before those in it, however deep, and why its captions cannot be edited from here, "" where they can.

    One below that cannot be read is passed over, as by the walk.
    """
    seen: set[Identity] = set()
    inside = folder.resolve()
    waiting = [(os.fspath(folder), os.fspath(inside), False)]  # as named, as it is, whether that lies elsewhere
    while waiting:
        place, real, elsewhere = waiting.pop()
        here = identity(place)
        if here in seen or (seen and system_folder(here)):
            continue
        seen.add(here)
        if is_link(Path(place)):
            real = os.path.realpath(place)
            elsewhere = not Path(real).is_relative_to(inside)
        try:
            listing = list_folder(place)
        except OSError:
            if place == os.fspath(folder):
                raise
            continue
        yield listing, f"lies behind a link; open {shown(Path(real))} itself to edit it" if elsewhere else ""
        below = [name for name in listing.folders if not name.startswith((".", "_"))]
        waiting += [(os.path.join(place, name), os.path.join(real, name), elsewhere) for name in reversed(below)]


def _read(image: Path, path: Path, behind: str) -> CaptionFile:
    """behind: why nothing in that folder can be edited, or ""."""
    try:
        raw = read_bytes(path, links=False)
    except FileNotFoundError:
        return CaptionFile(image, path, None, behind)
    except OSError as error:
        return CaptionFile(image, path, None, _why_unread(path, error))
    return CaptionFile(image, path, raw, fault_of(raw) or behind)


def _why_unread(path: Path, error: OSError) -> str:
    with contextlib.suppress(OSError):
        mode = os.lstat(path).st_mode
        if stat.S_ISLNK(mode):
            return f"is a link to {shown(os.path.realpath(path))}; edit that file"
        if not stat.S_ISREG(mode):
            return "is no regular file"
    return f"cannot be read ({error.strerror})"


# What is done to a caption's text. Each takes the text and returns the new one; of several lines each is a caption.


def add_tag(tag: str, *, first: bool = False) -> Callable[[str], str]:
    return by_line(lambda caption: caption.with_tag(tag, first=first))


def remove_tag(tag: str) -> Callable[[str], str]:
    return by_line(lambda caption: caption.without_tag(tag))


def replace_tag(old: str, new: str) -> Callable[[str], str]:
    return by_line(lambda caption: caption.with_tag_replaced(old, new))


def replace_text(find: str, put: str, *, pattern: bool = False) -> Callable[[str], str]:
    """Replace words anywhere. pattern: `find` is a regular expression. Raises DatasetError for one that is none."""
    if not find:
        raise DatasetError(Problem("find", "is empty", "say what is to be replaced"))
    if not pattern:
        return lambda text: text.replace(find, put)
    try:
        compiled = re.compile(find)
        compiled.sub(put, "")  # a `\\2` without a second group is an error even where nothing matches
    except (re.error, IndexError) as error:
        raise DatasetError(
            Problem("find", f"{find!r} is not a regular expression ({error})", "turn patterns off, or mend it")
        ) from error
    return lambda text: compiled.sub(put, text)


def prefix(words: str) -> Callable[[str], str]:
    return lambda text: words + _said(text)


def suffix(words: str) -> Callable[[str], str]:
    def edit(text: str) -> str:
        text = _said(text)
        return text.rstrip("\r\n") + words + text[len(text.rstrip("\r\n")) :]

    return edit


def _said(text: str) -> str:
    """The caption, or "" for one of separators or invisible signs alone: nothing is glued onto those."""
    return text if has_words(text) else ""


def lines_of(text: str) -> list[str]:
    """The lines of a caption file with their ends, as sd-scripts reads them."""
    return _LINE.findall(text)


def by_line(change: Callable[[Caption], Caption]) -> Callable[[str], str]:
    """Tags of each line; a line on which nothing changes stays as it is written, to its last space."""

    def one(body: str) -> str:
        before = Caption.parse(body)
        after = change(before)
        return body if after == before else after.render()

    return each_line(one)


def each_line(change: Callable[[str], str]) -> Callable[[str], str]:
    """change takes a line without its end. Of several lines those that say nothing are no captions and stay."""

    def edit(text: str) -> str:
        lines = lines_of(text) or [""]
        several = has_words(text)
        bodies = [line.rstrip("\r\n") for line in lines]
        return "".join(
            (body if several and not has_words(body) else change(body)) + line[len(body) :]
            for body, line in zip(bodies, lines, strict=True)
        )

    return edit


def proposed(files: Iterable[CaptionFile], operation: Callable[[str], str]) -> tuple[Edit, ...]:
    """What an operation would change; nothing is written. Files with a problem are left out."""
    return tuple(edit for file in files if not file.problem and (edit := rewritten(file, operation(file.text))))


def rewritten(file: CaptionFile, text: str) -> Edit | None:
    """The edit that gives a file this text; None when it has it already. A byte order mark is kept as it was."""
    if text == file.text:
        return None
    mark = b"\xef\xbb\xbf" if (file.raw or b"").startswith(b"\xef\xbb\xbf") else b""
    return Edit(file.path, file.raw, mark + text.encode("utf-8"))


def apply(folder: Path, edits: Iterable[Edit], what: str, *, undoes: str = "") -> tuple[Change, tuple[Problem, ...]]:
    """Write the edits, after they stand in the folder's journal. Returns what was done and what was left alone.

    what: the change in words, for the history. Raises DatasetError when the journal cannot be written or another
    program is changing captions there for longer than half a minute; nothing is changed then.
    """
    edits = tuple(dict.fromkeys(edits))  # two pictures may share a caption file
    with _alone(folder, edits):
        journal.settle(folder)
        due, problems = [], []
        for edit in edits:
            if text_of(edit.path) == edit.old:
                due.append(edit)
            else:
                problems.append(_changed_meanwhile(edit))
        moment = datetime.now(UTC).isoformat(timespec="seconds")
        change = Change(uuid.uuid4().hex[:12], moment, what, tuple(due), undoes)
        if not due:
            return change, tuple(problems)
        journal.begin(folder, change)
        failed = _write_all(due)
        for edit, reason in failed.items():
            told = f"cannot be written ({reason})"
            problems.append(Problem(edit.path.name, told, "its old text stands", "unwritable"))
        made = [edit for edit in due if edit not in failed] if failed else due
        return journal.end(folder, change, made), tuple(problems)


def _changed_meanwhile(edit: Edit) -> Problem:
    what, cure = "was changed meanwhile and is left as it is", "look at it again"
    return Problem(edit.path.name, what, cure, "changed_meanwhile", "warning")


def undo(folder: Path, change: Change) -> tuple[Change, tuple[Problem, ...]]:
    """Put back what a change replaced, file by file, where it still is as that change left it."""
    back = [Edit(edit.path, edit.new, edit.old) for edit in change.edits if text_of(edit.path) != edit.old]
    return apply(folder, back, f"undo: {change.what}", undoes=change.id)


def ready(folder: Path) -> None:
    """Raises DatasetError where `apply` could change no caption below this folder; to be asked before long work."""
    with _alone(folder, ()):
        pass


@contextlib.contextmanager
def _alone(folder: Path, edits: Iterable[Edit]) -> Iterator[None]:
    """Be the only editor of these files, from whichever folder above them they are edited."""
    own = folder / JOURNAL.parent
    try:
        if journal.is_linked(folder):
            raise OSError(errno.ELOOP, "its journal is a link")
        own.mkdir(parents=True, exist_ok=True)
        places = {Path(os.path.realpath(place)) for place in {os.path.dirname(edit.path) for edit in edits}}
        above = {place / JOURNAL.parent for one in places for place in (one, *one.parents)}
        others = {place for place in above if place.is_dir() and not is_link(place) and os.access(place, os.W_OK)}
        with contextlib.ExitStack() as stack:
            for place in sorted({Path(os.path.realpath(own)), *others}):
                stack.enter_context(held(place / _LOCK))
            for place in places:
                _tidy(place)
            yield
    except OSError as error:
        what = f"captions cannot be changed ({error.strerror or error}), so nothing was changed"
        cure = "look at the folder's permissions, and whether another program is changing captions there"
        raise DatasetError(Problem(str(folder), what, cure)) from error


def _tidy(place: Path) -> None:
    """Take away the drafts of an editor that was killed; none is at work here now."""
    with contextlib.suppress(OSError):
        for path in place.glob(".kohyakit-*.tmp"):
            path.unlink()


def _write_all(edits: Sequence[Edit]) -> dict[Edit, str]:
    """Write them and return those that could not be, with the reason.

    Several at a time: each file is forced to disk, and a disk does that for many as fast as for one.
    """
    groups = [edits[start : start + _GROUP] for start in range(0, len(edits), _GROUP)]
    if len(groups) <= 1:
        return _write_some(edits)
    pool = ThreadPoolExecutor(_WRITERS, thread_name_prefix="captions")
    try:
        return {edit: reason for failed in pool.map(_write_some, groups) for edit, reason in failed.items()}
    finally:
        pool.shutdown(cancel_futures=True)  # a Ctrl-C lets the groups at hand be finished, and no more


def _write_some(edits: Iterable[Edit]) -> dict[Edit, str]:
    failed = {}
    for edit in edits:
        try:
            _write(edit)
        except OSError as error:
            failed[edit] = str(error.strerror or error)
    return failed


def _write(edit: Edit) -> None:
    """Through a temporary file in the same folder, so that a crash leaves the old caption or the new one."""
    if edit.new is None:
        if is_link(edit.path):
            raise OSError(errno.ELOOP, "it is a link", str(edit.path))
        edit.path.unlink(missing_ok=True)
        return
    # `_tidy` knows the name
    draft = edit.path.with_name(f".kohyakit-{os.getpid()}-{threading.get_ident()}.tmp")
    write_bytes(edit.path, edit.new, draft=draft, links=False)

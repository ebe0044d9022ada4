"""Caption files edited so that none is ever lost: every change is written down, old and new, before a file is touched.

The journal is `.kohyakit/captions.jsonl` in the data set's folder, a line a change. Undoing is a change too, so it can
be undone. A file that someone else changed meanwhile is left alone and named.
"""

from __future__ import annotations

import base64
import errno
import json
import os
import re
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kohyakit.dataset.caption import Caption, find_caption
from kohyakit.dataset.images import list_folder
from kohyakit.errors import DatasetError, Problem
from kohyakit.files import draft_for, is_link, read_bytes, read_text, refuse_links

JOURNAL = Path(".kohyakit") / "captions.jsonl"
EXTENSIONS = (".txt", ".caption")
_JOURNAL_LIMIT = 1 << 30  # bytes; a change of a thousand captions takes 500 kB
# What a stranger's journal could have put back in a folder of photos and that no editor of captions writes.
_NEVER_CAPTIONS = frozenset(
    (".py", ".pth", ".pyc", ".pyd", ".so", ".dll", ".exe", ".bat", ".cmd", ".ps1", ".sh", ".lnk", ".desktop", ".url")
)
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
        return "" if self.raw is None or self.problem else self.raw.decode("utf-8-sig")


@dataclass(frozen=True, slots=True)
class Edit:
    """One caption file's change. None: no file before, or none afterwards."""

    path: Path
    old: bytes | None
    new: bytes | None


@dataclass(frozen=True, slots=True)
class Change:
    """What one journal line says was done. undoes: the id of the change that this one took back."""

    id: str
    time: str
    what: str
    edits: tuple[Edit, ...]
    undoes: str = ""


def caption_files(folder: Path, extension: str | None = None) -> tuple[CaptionFile, ...]:
    """Every image in a folder and below with its caption file, sorted by path. Folders with a leading dot do not count.

    extension: None takes the one that most captions have. Raises DatasetError when the folder cannot be read.
    """
    if not folder.is_dir():
        raise DatasetError(Problem(str(folder), "is not a folder", "name the folder with the images"))
    listings = [list_folder(place) for place in _folders(folder)]
    images = [(image, listing.names) for listing in listings for image in listing.images]
    chosen = extension or likely_extension(image for image, _ in images)
    return tuple(
        _read(image, find_caption(image, chosen, names) or image.with_suffix(chosen)) for image, names in images
    )


def likely_extension(images: Iterable[Path]) -> str:
    """Of .txt and .caption the one that lies beside more of the images; .txt when none does."""
    images = list(images)
    counts = {extension: sum(image.with_suffix(extension).is_file() for image in images) for extension in EXTENSIONS}
    return max(EXTENSIONS, key=lambda extension: counts[extension])


def _folders(folder: Path) -> Iterator[Path]:
    yield folder
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and not entry.is_symlink() and not entry.name.startswith((".", "_")):
            yield from _folders(entry)


def _read(image: Path, path: Path) -> CaptionFile:
    if is_link(path):
        return CaptionFile(image, path, None, f"is a link; edit the file that it leads to, {os.path.realpath(path)}")
    try:
        raw = read_bytes(path)
        raw.decode("utf-8")
    except FileNotFoundError:
        return CaptionFile(image, path)
    except UnicodeDecodeError:
        return CaptionFile(image, path, raw, "is not UTF-8 text; save it as UTF-8 with a text editor")
    except OSError as error:
        return CaptionFile(image, path, None, f"cannot be read ({error.strerror})")
    return CaptionFile(image, path, raw)


# What is done to a caption's text. Each takes the text and returns the new one; of several lines each is a caption.


def add_tag(tag: str, *, first: bool = False) -> Callable[[str], str]:
    return _by_line(lambda caption: caption.with_tag(tag, first=first))


def remove_tag(tag: str) -> Callable[[str], str]:
    return _by_line(lambda caption: caption.without_tag(tag))


def replace_tag(old: str, new: str) -> Callable[[str], str]:
    return _by_line(lambda caption: caption.with_tag_replaced(old, new))


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
    return lambda text: words + text


def suffix(words: str) -> Callable[[str], str]:
    return lambda text: text.rstrip("\r\n") + words + text[len(text.rstrip("\r\n")) :]


def _by_line(change: Callable[[Caption], Caption]) -> Callable[[str], str]:
    """Tags of each line; a line on which nothing changes stays as it is written, to its last space."""

    def edit(text: str) -> str:
        lines = _LINE.findall(text) or [""]
        result = []
        for line in lines:
            body = line.rstrip("\r\n")
            before = Caption.parse(body)
            after = change(before)
            result.append(line if after == before else after.render() + line[len(body) :])
        return "".join(result)

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

    what: the change in words, for the history. Raises DatasetError when the journal cannot be written; nothing is
    changed then.
    """
    due, problems = [], []
    for edit in edits:
        if _bytes(edit.path) == edit.old:
            due.append(edit)
        else:
            problems.append(
                Problem(
                    edit.path.name,
                    "was changed meanwhile and is left as it is",
                    "look at it again",
                    "changed_meanwhile",
                    "warning",
                )
            )
    change = Change(uuid.uuid4().hex[:12], datetime.now(UTC).isoformat(timespec="seconds"), what, tuple(due), undoes)
    if not due:
        return change, tuple(problems)
    _note(folder, change)
    for edit in due:
        try:
            _write(edit)
        except OSError as error:
            problems.append(
                Problem(edit.path.name, f"cannot be written ({error.strerror})", "its old text stands", "unwritable")
            )
    return change, tuple(problems)


def undo(folder: Path, change: Change) -> tuple[Change, tuple[Problem, ...]]:
    """Put back what a change replaced, file by file, where it still is as that change left it."""
    back = [Edit(edit.path, edit.new, edit.old) for edit in change.edits if _bytes(edit.path) != edit.old]
    return apply(folder, back, f"undo: {change.what}", undoes=change.id)


def history(folder: Path) -> tuple[Change, ...]:
    """Every change, oldest first. A last line that a crash cut off is passed over: nothing was written yet then.

    So are lines that no edit of captions would have written, in a journal that came from elsewhere.
    """
    try:
        refuse_links(folder, folder / JOURNAL)
        lines = read_text(folder / JOURNAL, _JOURNAL_LIMIT, errors="replace").splitlines()
    except OSError:
        return ()
    changes = []
    for line in lines:
        try:
            changes.append(_parse(folder, json.loads(line)))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
    return tuple(changes)


def undoable(folder: Path) -> tuple[Change, ...]:
    """Changes that stand, newest first: not undone, or undone and done again."""
    changes = history(folder)
    gone: set[str] = set()
    for change in reversed(changes):
        if change.undoes and change.id not in gone:
            gone.add(change.undoes)
    return tuple(change for change in reversed(changes) if change.id not in gone and not change.undoes)


def _note(folder: Path, change: Change) -> None:
    path = folder / JOURNAL
    line = json.dumps(
        {
            "id": change.id, "time": change.time, "what": change.what, "undoes": change.undoes,
            "edits": [
                {"file": _relative(edit.path, folder), "old": _plain(edit.old), "new": _plain(edit.new)}
                for edit in change.edits
            ],
        },
        ensure_ascii=False,
    )  # fmt: skip
    try:
        refuse_links(folder, path)
        path.parent.mkdir(parents=True, exist_ok=True)
        before = read_bytes(path, _JOURNAL_LIMIT) if path.exists() else b""
        broken = before and not before.endswith(b"\n")
        with path.open("a", encoding="utf-8", newline="\n") as file:
            file.write(("\n" if broken else "") + line + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise DatasetError(
            Problem(
                str(path),
                f"the journal cannot be written ({error.strerror}), so nothing was changed",
                "look at the folder's permissions",
            )
        ) from error


def _parse(folder: Path, data: dict[str, Any]) -> Change:
    """Raises ValueError or its like for a line that we did not write, one that points elsewhere above all."""
    edits = tuple(Edit(folder / edit["file"], _unplain(edit["old"]), _unplain(edit["new"])) for edit in data["edits"])
    inside = folder.resolve()
    for edit in edits:
        parts = edit.path.relative_to(folder).parts
        hidden = ".." in parts or any(part.startswith(".") for part in parts)
        if hidden or edit.path.suffix.lower() in _NEVER_CAPTIONS or not edit.path.resolve().is_relative_to(inside):
            raise ValueError("a journal of something else than captions")
    words = [data["id"], data["time"], data["what"], data.get("undoes", "")]
    if not all(isinstance(word, str) for word in words):
        raise TypeError("a journal of another kind")
    return Change(*words[:3], edits, words[3])


def _relative(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _plain(raw: bytes | None) -> str | dict[str, str] | None:
    """Bytes as text where that gives the same bytes back, else as base64."""
    if raw is None:
        return None
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(raw).decode("ascii")}


def _unplain(value: Any) -> bytes | None:
    if value is None or isinstance(value, str):
        return None if value is None else value.encode("utf-8")
    return base64.b64decode(value["base64"])


def _bytes(path: Path) -> bytes | None:
    try:
        return None if is_link(path) else read_bytes(path)
    except OSError:
        return None


def _write(edit: Edit) -> None:
    """Through a temporary file in the same folder, so that a crash leaves the old caption or the new one."""
    if is_link(edit.path):
        raise OSError(errno.ELOOP, "it is a link", str(edit.path))
    if edit.new is None:
        edit.path.unlink(missing_ok=True)
        return
    draft = draft_for(edit.path)
    try:
        with draft.open("xb") as file:
            file.write(edit.new)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(edit.path)
    finally:
        draft.unlink(missing_ok=True)

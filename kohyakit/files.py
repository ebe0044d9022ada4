"""Files that others may have made: read with care, and our own never written through a link.

Other people's data sets, presets and projects hold pipes, devices, endless files and links on purpose or by accident.
What is refused here is an OSError with a reason in words, so that it is told like any other file that does not read.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from kohyakit.words import size

TEXT_LIMIT = 8 << 20  # bytes; captions, presets and prompts are a thousandth of it


@contextlib.contextmanager
def open_regular(path: Path | str) -> Iterator[BinaryIO]:
    """A file to read from its start. Raises OSError for a pipe, a device or a folder, without waiting on it."""
    try:
        about = os.stat(path)
    except ValueError as error:  # a NUL or half a character in a name
        raise OSError(errno.EINVAL, "no file can have that name") from error
    _must_be_regular(about, path)
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
    with open(handle, "rb") as file:
        _must_be_regular(os.fstat(handle), path)  # it may have been exchanged meanwhile
        yield file


def read_bytes(path: Path | str, most: int = TEXT_LIMIT) -> bytes:
    """All of a regular file. Raises OSError for anything else, and for one of more than `most` bytes."""
    with open_regular(path) as file:
        large = os.fstat(file.fileno()).st_size > most
        data = b"" if large else file.read(most + 1)  # files of the system say 0 and go on for ever
    if large or len(data) > most:
        raise OSError(errno.EFBIG, f"it has more than {size(most)}", str(path))
    return data


def read_text(path: Path | str, most: int = TEXT_LIMIT, *, encoding: str = "utf-8", errors: str = "strict") -> str:
    """read_bytes as text with line ends as \\n. Raises OSError, and UnicodeDecodeError for what is not that text."""
    text = read_bytes(path, most).decode(encoding, errors)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _must_be_regular(about: os.stat_result, path: Path | str) -> None:
    if stat.S_ISDIR(about.st_mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder", str(path))
    if not stat.S_ISREG(about.st_mode):
        raise OSError(errno.EINVAL, "it is a pipe or a device, not a file", str(path))


def is_link(path: Path) -> bool:
    """A symbolic link, or what Windows calls a junction."""
    junction = getattr(path, "is_junction", None)  # Python 3.12
    return path.is_symlink() or bool(junction and junction())


def link_on_the_way(root: Path, path: Path) -> Path | None:
    """The first link among the folders between `root` (which may be one) and a path below it, the path itself not."""
    place = root
    for part in path.relative_to(root).parts[:-1]:
        place = place / part
        if is_link(place):
            return place
    return None


def refuse_links(root: Path, *paths: Path) -> None:
    """Raises OSError where one of our own files below `root`, or a folder on its way, is a link to elsewhere."""
    for path in paths:
        found = path if is_link(path) else link_on_the_way(root, path)
        if found is not None:
            raise OSError(errno.ELOOP, f"{found.name} is a link, and nothing is written through one", str(found))


def draft_for(path: Path) -> Path:
    """A name beside `path` for what shall take its place; nobody can have put anything there before."""
    return path.with_name(f".{path.name[:100]}.{secrets.token_hex(6)}.tmp")

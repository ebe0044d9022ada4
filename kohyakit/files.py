"""Files: those of others read with care; our own written whole, set aside, noted down and locked, in one way for all.

Other people's data sets, presets and projects hold pipes, devices, endless files and links on purpose or by accident.
What is refused here is an OSError with a reason in words, so that it is told like any other file that does not read.
Nothing is written through a link.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import secrets
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from kohyakit.words import size

TEXT_LIMIT = 8 << 20  # bytes; captions, presets and prompts are a thousandth of it
_READ = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
_UNLINKED = getattr(os, "O_NOFOLLOW", 0)
_STEP = 1 << 16  # bytes asked for at a time of a file that is longer than it says


@contextlib.contextmanager
def open_regular(path: Path | str) -> Iterator[BinaryIO]:
    """A file to read from its start. Raises OSError for a pipe, a device or a folder, without waiting on it."""
    handle, _ = _open_regular(path)
    with open(handle, "rb") as file:
        yield file


def read_bytes(path: Path | str, most: int = TEXT_LIMIT, *, links: bool = True) -> bytes:
    """All of a regular file. Raises OSError for anything else, and for one of more than `most` bytes.

    links: whether the file may be reached through a link of its own name.
    """
    handle, length = _open_regular(path, links)
    try:
        parts: list[bytes] = []
        left = most + 1 if length <= most else 0
        ask = length + 1  # files of the system say 0 and go on for ever
        while left and (part := os.read(handle, min(left, ask))):
            parts.append(part)
            left -= len(part)
            if length and len(part) == length:
                break
            ask = max(ask - len(part), _STEP)
    finally:
        os.close(handle)
    if not left:
        raise OSError(errno.EFBIG, f"it has more than {size(most)}", str(path))
    return b"".join(parts)


def read_text(path: Path | str, most: int = TEXT_LIMIT, *, encoding: str = "utf-8", errors: str = "strict") -> str:
    """read_bytes as text with line ends as \\n. Raises OSError, and UnicodeDecodeError for what is not that text."""
    text = read_bytes(path, most).decode(encoding, errors)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _open_regular(path: Path | str, links: bool = True) -> tuple[int, int]:
    """(handle, length in bytes); see open_regular."""
    try:
        about = os.stat(path, follow_symlinks=links)
    except ValueError as error:  # a NUL or half a character in a name
        raise OSError(errno.EINVAL, "no file can have that name") from error
    _must_be_regular(about, path)
    handle = os.open(path, _READ if links else _READ | _UNLINKED)
    try:
        about = os.fstat(handle)  # it may have been exchanged meanwhile
        _must_be_regular(about, path)
    except BaseException:
        os.close(handle)
        raise
    return handle, about.st_size


def _must_be_regular(about: os.stat_result, path: Path | str) -> None:
    if stat.S_ISLNK(about.st_mode):
        raise OSError(errno.ELOOP, "it is a link", str(path))
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


def part_of(path: Path) -> Path:
    """The draft of a large file or a folder: one name, so that what a killed program left is taken away by the next."""
    return path.with_name(f"{path.name}.part")


@contextlib.contextmanager
def in_place_of(path: Path, draft: Path | None = None) -> Iterator[Path]:
    """A name beside `path` to write a file to, which takes the place of `path` at the end of the block.

    A reader sees the old file or the new one, never half of it; the new one gets the rights of the old. Where the block
    or the disk fails the old file stands as it was, and nothing is left of the new one.
    """
    fresh = draft_for(path) if draft is None else draft
    try:
        if draft is not None and not _cleared(draft):
            fresh = draft_for(path)
        yield fresh
        rights: int | None = None
        with contextlib.suppress(OSError):
            rights = os.stat(fresh).st_mode
        _put_in_place(fresh, rights, path)
    except BaseException:  # an interruption too leaves no half file
        with contextlib.suppress(OSError, ValueError):
            fresh.unlink(missing_ok=True)
        raise


def _cleared(draft: Path) -> bool:
    """Take away the draft of a program that died, or a link that waits there; False for somebody's folder."""
    try:
        draft.unlink(missing_ok=True)
    except OSError:
        if not draft.is_dir() or is_link(draft):
            raise
        return False
    return True


def _put_in_place(fresh: Path, rights: int | None, path: Path, *, links: bool = True) -> None:
    """The last step: the draft, of these rights, gets those of the old file and its name.

    links: whether the old file may be a link, which the new one replaces; else that is an OSError.
    """
    wanted = rights
    with contextlib.suppress(OSError):
        wanted = os.stat(path, follow_symlinks=links).st_mode
    if wanted is not None and stat.S_ISLNK(wanted):
        raise OSError(errno.ELOOP, "it is a link", str(path))
    if wanted is not None and rights is not None and stat.S_IMODE(wanted) != stat.S_IMODE(rights):
        with contextlib.suppress(OSError):  # to ask was cheaper than to set
            os.chmod(fresh, stat.S_IMODE(wanted))
    _again_on_windows(lambda: os.replace(fresh, path))


@contextlib.contextmanager
def writing(path: Path, *, draft: Path | None = None, sync: bool = True) -> Iterator[BinaryIO]:
    """A file to write, forced to disk (sync) and then put in place as by `in_place_of`."""
    with in_place_of(path, draft) as fresh, open(fresh, "xb") as file:
        yield file
        file.flush()
        if sync:
            os.fsync(file.fileno())


def write_bytes(
    path: Path, data: bytes | memoryview, *, draft: Path | None = None, sync: bool = True, links: bool = True
) -> None:
    """All of a file, or nothing. Raises OSError; the old file then stands as it was.

    As `in_place_of` does it, with fewer questions to the system. links: False where a link must be left alone.
    """
    fresh = draft_for(path) if draft is None else draft
    try:
        try:
            handle = os.open(fresh, _CREATE, 0o666)
        except (FileExistsError, PermissionError):  # what waits under that name is never written through
            fresh = fresh if _cleared(fresh) else draft_for(path)
            handle = os.open(fresh, _CREATE, 0o666)
        try:
            left = memoryview(data).cast("B")
            while left:
                left = left[os.write(handle, left) :]
            if sync:
                os.fsync(handle)
            rights = os.fstat(handle).st_mode
        finally:
            os.close(handle)
        _put_in_place(fresh, rights, path, links=links)
    except BaseException:  # an interruption too leaves no half file
        with contextlib.suppress(OSError, ValueError):
            fresh.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str, *, errors: str = "strict", sync: bool = True) -> None:
    """write_bytes of a text as UTF-8, its line ends as they are. errors: of half a character, as str.encode has it."""
    write_bytes(path, text.encode("utf-8", errors), sync=sync)


@contextlib.contextmanager
def folder_in_place_of(folder: Path, draft: Path | None = None) -> Iterator[Path]:
    """A new folder to fill, which takes the place of `folder` at the end of the block; whole or not at all.

    A folder cannot be replaced in one go: an earlier one waits as NAME.old, or with a number where that name is taken,
    and comes back when it must.
    """
    fresh, old = draft or part_of(folder), free_name(folder.with_name(f"{folder.name}.old"))
    try:
        _clear(fresh)  # what waits there is neither followed nor in the way
        fresh.mkdir(parents=True)
        yield fresh
        if os.path.lexists(folder):
            folder.rename(old)
        try:
            fresh.rename(folder)
        except BaseException:
            if os.path.lexists(old) and not os.path.lexists(folder):
                old.rename(folder)
            raise
        _clear(old)
    finally:
        _clear(fresh)


def _clear(path: Path) -> None:
    """Take away a folder with all in it; of anything else, such as a link or a pipe, only itself."""
    import shutil

    with contextlib.suppress(OSError):
        if is_link(path) or not path.is_dir():
            path.unlink(missing_ok=True)
        else:
            shutil.rmtree(path, ignore_errors=True)


def free_name(path: Path, numbered: str = "{stem} ({number}){suffix}", first: int = 2) -> Path:
    """The path, or the first with a number where it is taken: a place to set a file aside. Nothing is replaced."""
    number, free = first, path
    while os.path.lexists(free):
        name = numbered.format(name=path.name, stem=path.stem, suffix=path.suffix, number=number)
        free, number = path.with_name(name), number + 1
    return free


def append_line(path: Path, line: bytes) -> None:
    """One line more in a journal, forced to disk; after a line that a crash cut off, a new one is begun."""
    if is_link(path):
        raise OSError(errno.ELOOP, f"{path.name} is a link, and nothing is written through one", str(path))
    with open(path, "a+b") as file:
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            line = line if file.read(1) == b"\n" else b"\n" + line
        file.write(line + b"\n")
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Force a folder's entries to disk where the system can (Windows does so by itself)."""
    if os.name == "nt":
        return
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _again_on_windows(move: Callable[[], None]) -> None:
    """Windows refuses to replace a file that a reader holds open for a moment: try again for a second."""
    for attempt in range(20):
        try:
            return move()
        except PermissionError:
            if sys.platform != "win32" or attempt == 19:
                raise
            time.sleep(0.05)


_HELD = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)  # what a disk that keeps no locks says


@contextlib.contextmanager
def held(path: Path, seconds: float = 30.0) -> Iterator[None]:
    """Hold `path` alone, among the threads and processes of this machine. The file is made, and gone afterwards.

    The system itself lets go when the holder ends, however it ended (kill -9, power).
    Raises TimeoutError (an OSError) when another holds it for so long, OSError where the disk keeps no locks.
    """
    deadline = time.monotonic() + seconds
    while (handle := _take(path)) is None:
        if time.monotonic() > deadline:
            raise TimeoutError(errno.ETIMEDOUT, "another program is at work there", str(path))
        time.sleep(random.uniform(0.002, 0.01))
    try:
        yield
    finally:
        _let_go(path, handle)


def _take(path: Path) -> int | None:
    """The lock's handle, or None while another has it. A link is never followed."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
    except PermissionError:
        if sys.platform == "win32":  # so Windows says of a file that is being deleted at this moment
            return None
        raise
    try:
        _lock(handle)
        # the one before may have taken the file away between the opening and the locking
        if os.path.samestat(os.fstat(handle), os.lstat(path)):
            return handle
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno not in _HELD:
            os.close(handle)
            raise
    except BaseException:
        os.close(handle)
        raise
    os.close(handle)
    return None


if sys.platform == "win32":
    import msvcrt

    def _lock(handle: int) -> None:
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)

    def _let_go(path: Path, handle: int) -> None:
        with contextlib.suppress(OSError):
            msvcrt.locking(handle, msvcrt.LK_UNLCK, 1)
        os.close(handle)
        with contextlib.suppress(OSError):  # another has it open already: it stays for that one
            path.unlink()

else:
    import fcntl

    def _lock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _let_go(path: Path, handle: int) -> None:
        with contextlib.suppress(OSError):  # while it is still held, so that nobody's fresh one goes
            path.unlink()
        os.close(handle)

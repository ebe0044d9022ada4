"""A lock between programs that the system itself lets go when its holder ends, however it ended (kill -9, power)."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path

_HELD = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)


@contextlib.contextmanager
def held(path: Path, seconds: float = 30.0) -> Iterator[None]:
    """Hold `path` alone, among the threads and processes of this machine. The file is made, and gone afterwards.

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

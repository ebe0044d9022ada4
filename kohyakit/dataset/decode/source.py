"""The bytes of a file, read once and with care: folders, pipes, loops, empty and growing files get a verdict."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from kohyakit.dataset.decode.record import Verdict
from kohyakit.words import size

LARGEST = 1 << 30  # bytes; no photo is larger, and a worker must not fill the memory with one file

_REASONS = {
    errno.EACCES: "may not be read: permission denied",
    errno.EPERM: "may not be read: permission denied",
    errno.ELOOP: "is a symbolic link that leads back to itself",
    errno.ENOENT: "is not there, or is a link to nothing",
    errno.ENAMETOOLONG: "has a name too long for this system",
}


def read_bytes(path: Path) -> tuple[bytes, Verdict]:
    """All bytes of a regular file and a verdict on the reading; never raises, never waits on a pipe.

    The verdict is ok when the bytes are whole; what changed while it was read is `unreadable`.
    """
    try:
        # asked before opening: opening a named pipe would wait for a writer for ever
        before = os.stat(path)
        if stat.S_ISDIR(before.st_mode):
            return b"", Verdict(False, "error", "not_a_file", "is a folder with the name of an image")
        if not stat.S_ISREG(before.st_mode):
            return b"", Verdict(False, "error", "not_a_file", "is a device or a pipe, not a file")
        if before.st_size > LARGEST:
            what = f"has {size(before.st_size)}, too much for an image"
            return b"", Verdict(False, "error", "unreadable", what)
        with open(path, "rb") as stream:
            data = stream.read(before.st_size + 1)
            after = os.fstat(stream.fileno())
    except (OSError, ValueError) as error:
        reason = _REASONS.get(getattr(error, "errno", None) or 0) or f"cannot be read: {error}"
        return b"", Verdict(False, "error", "unreadable", reason)
    if len(data) != before.st_size or after.st_size != before.st_size or after.st_mtime_ns != before.st_mtime_ns:
        return data, Verdict(False, "error", "unreadable", "changed while it was read; look again when it is written")
    return data, Verdict()

"""Small files that are written whole or not at all, and changed by one hand at a time."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kohyakit import files
from kohyakit.errors import Problem, RunError

LARGEST = 256 << 20  # bytes; a record of a hundred thousand photos has a tenth of it
_LOCK_SECONDS = 10.0  # a lock older than this was left by a process that died


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object, or None where the file is missing, cut off or something else."""
    try:
        data = json.loads(read_text(path))
    except (OSError, ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None


def read_text(path: Path) -> str:
    """Windows refuses to open a file in the moment in which it is replaced: try again for a fifth of a second."""
    for attempt in range(10):
        try:
            return files.read_text(path, LARGEST)
        except PermissionError:
            if sys.platform != "win32" or attempt == 9:
                raise
            time.sleep(0.02)
    raise AssertionError("unreachable")


def write_json(path: Path, data: Mapping[str, Any], *, sync: bool = True) -> None:
    """Write JSON so that a reader sees the old file or the new one, never half of it."""
    write_text(path, json.dumps(data, ensure_ascii=False, indent=1, default=str) + "\n", sync=sync)


def write_text(path: Path, text: str, *, sync: bool = True) -> None:
    """Write through a temporary file in the same folder. Raises OSError; the old file then stands as it was."""
    draft = files.draft_for(path)
    try:
        with draft.open("x", encoding="utf-8", errors="surrogatepass", newline="\n") as file:
            file.write(text)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        _replace(draft, path)
    except BaseException:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        raise


def _replace(draft: Path, path: Path) -> None:
    """Windows refuses to replace a file that a reader holds open for a moment: try again for a second."""
    for attempt in range(20):
        try:
            draft.replace(path)
            return
        except PermissionError:
            if attempt == 19:
                raise
            time.sleep(0.05)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the file's lock: the trainer and the dashboard may change a record at the same moment."""
    lock = path.with_name(f"{path.name}.lock")
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            os.close(os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            break
        except FileExistsError:
            if time.monotonic() > deadline:
                with contextlib.suppress(OSError):
                    lock.unlink()
            time.sleep(0.01)
        except OSError as error:
            # Windows says so, too, of a lock that is being deleted at this moment
            if sys.platform != "win32" or not isinstance(error, PermissionError) or time.monotonic() > deadline:
                raise unwritable(path, error) from error
            time.sleep(0.01)
    try:
        yield
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            lock.unlink()


def unwritable(path: Path, error: OSError) -> RunError:
    """The sentence for a record that the disk or its permissions refuse."""
    cure = "look at the disk's free space and the folder's permissions"
    return RunError(Problem(str(path), f"cannot be written ({error.strerror or error})", cure))

"""Small files that are written whole or not at all, and changed by one hand at a time."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kohyakit import files
from kohyakit.errors import Problem, RunError

LARGEST = 256 << 20  # bytes; a record of a hundred thousand photos has a tenth of it
_LOCK_SECONDS = 10.0  # a change takes a hundredth of one


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
    files.write_text(path, text, errors="surrogatepass", sync=sync)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the file's lock: the trainer and the dashboard may change a record at the same moment."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(files.held(path.with_name(f"{path.name}.lock"), _LOCK_SECONDS))
        except OSError as error:
            if error.errno not in files.NO_LOCKS:  # on a disk without locks a record is written all the same
                raise unwritable(path, error) from error
        try:
            yield
        except OSError as error:
            raise unwritable(path, error) from error


def unwritable(path: Path, error: OSError) -> RunError:
    """The sentence for a record that the disk or its permissions refuse."""
    cure = "look at the disk's free space and the folder's permissions"
    return RunError(Problem(str(path), f"cannot be written ({error.strerror or error})", cure))

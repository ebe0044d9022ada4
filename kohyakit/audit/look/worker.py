"""A worker process: reads batches of tasks from its standard input, writes what it found to its standard output.

A batch is a list of lists, and each of these is answered at once.

Started as `python -P -m kohyakit.audit.look.worker`, so that a script without a `__main__` guard, a notebook and
Windows work alike, and a file on which a decoder dies or hangs takes only this process with it.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import struct
import sys
from typing import IO, Any

MEMORY_LIMIT = 12 << 30  # bytes of address space; one hostile file must not take the machine down
_LENGTH = struct.Struct("<Q")


def send(stream: IO[bytes], thing: Any) -> None:
    data = pickle.dumps(thing, protocol=pickle.HIGHEST_PROTOCOL)
    stream.write(_LENGTH.pack(len(data)) + data)
    stream.flush()


def receive(stream: IO[bytes]) -> Any:
    """The next thing. Raises EOFError at the end."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError
    data = stream.read(_LENGTH.unpack(head)[0])
    return pickle.loads(data)


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    source = sys.stdin.buffer
    # what a C library prints must not come between the answers
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    _limit_memory()
    _one_thread()
    try:
        sys.path[:], measures, quick = receive(source)
        from kohyakit.audit.look.opening import open_safely

        while True:
            for some in receive(source):
                send(answers, [open_safely(task, measures, quick) for task in some])
    except (EOFError, BrokenPipeError):
        os._exit(0)


def _limit_memory() -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        limit = MEMORY_LIMIT if hard == resource.RLIM_INFINITY else min(MEMORY_LIMIT, hard)
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def _one_thread() -> None:
    """OpenCV's own threads would fight with the other workers."""
    with contextlib.suppress(ImportError):
        import cv2

        cv2.setNumThreads(1)


if __name__ == "__main__":
    main()

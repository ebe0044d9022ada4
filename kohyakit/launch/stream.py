"""A child process whose output is shown as it comes and kept in a log, and that Ctrl-C reaches."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_TAIL = 400_000  # bytes of output kept in memory to find the cause in
_PATIENCE = 60.0  # seconds that an interrupted child has to end by itself


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended. code: its exit code (negative: the signal). stopped: "", "interrupted" or "stopped"."""

    code: int
    tail: str
    stopped: str = ""


class _Log:
    """Lines for the log: of a progress bar that redraws itself with carriage returns only the last state is kept."""

    def __init__(self, path: Path, clean: Callable[[str], str]) -> None:
        self._file: IO[str] = open(path, "a", encoding="utf-8", newline="\n")  # noqa: SIM115  closed in close()
        self._clean = clean
        self._rest = b""

    def write(self, chunk: bytes) -> None:
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            self._line(line)
        if len(self._rest) > 8192 and b"\r" in self._rest:
            self._rest = self._rest[self._rest.rindex(b"\r") :]
        self._file.flush()

    def _line(self, line: bytes) -> None:
        text = line.rstrip(b"\r").rsplit(b"\r", 1)[-1].decode("utf-8", errors="replace")
        self._file.write(self._clean(text) + "\n")

    def close(self) -> None:
        if self._rest.strip():
            self._line(self._rest)
        self._file.close()


def run_streamed(
    command: Sequence[str],
    log: Path,
    *,
    show: IO[bytes] | None = None,
    clean: Callable[[str], str] = lambda text: text,
    environment: Mapping[str, str] | None = None,
    watch: Callable[[str], bool] | None = None,
) -> Ended:
    """Run a command to its end: output goes to `show` (standard error) as it is, and to `log` line by line.

    clean: blots secrets out of each logged line. watch: is given what came since its last call, twice a second,
    and asks for an end by returning True. Ctrl-C is handed to the child, which gets a minute to end by itself; a
    second one ends it at once. Raises OSError when the command cannot be started.
    """
    show = show or sys.stderr.buffer
    child = _start(command, environment)
    chunks: queue.Queue[bytes | None] = queue.Queue()
    threading.Thread(target=_pump, args=(child, chunks), daemon=True).start()
    logged = _Log(log, clean)
    tail, fresh, stopped, deadline = b"", b"", "", float("inf")
    looked = time.monotonic()
    try:
        while True:
            try:
                try:
                    chunk = chunks.get(timeout=0.2)
                except queue.Empty:
                    chunk = b""
                if chunk is None:
                    break
                if chunk:
                    show.write(chunk)
                    show.flush()
                    logged.write(chunk)
                    tail, fresh = (tail + chunk)[-_TAIL:], fresh + chunk
                if time.monotonic() > deadline:
                    _end(child)
                    deadline = float("inf")
                if watch is not None and time.monotonic() - looked > 0.5:
                    looked = time.monotonic()
                    if watch(fresh.decode("utf-8", errors="replace")) and not stopped:
                        stopped, deadline = "stopped", time.monotonic() + _PATIENCE
                        _interrupt(child)
                    fresh = b""
            except KeyboardInterrupt:
                if stopped:
                    _end(child)
                else:
                    stopped, deadline = "interrupted", time.monotonic() + _PATIENCE
                    _interrupt(child)
        code = child.wait()
        if watch is not None:
            watch(fresh.decode("utf-8", errors="replace"))
    finally:
        if child.poll() is None:
            _end(child)
        logged.close()
    return Ended(code, tail.decode("utf-8", errors="replace"), stopped)


def _start(command: Sequence[str], environment: Mapping[str, str] | None) -> subprocess.Popen[bytes]:
    """The child in a group of its own, so that Ctrl-C comes to it once, from us."""
    own_group = (
        {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}  # type: ignore[attr-defined]
        if sys.platform == "win32"
        else {"start_new_session": True}
    )
    told = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8", **(environment or {})}
    return subprocess.Popen(
        list(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=told, **own_group
    )


def _pump(child: subprocess.Popen[bytes], chunks: queue.Queue[bytes | None]) -> None:
    assert child.stdout is not None
    while chunk := os.read(child.stdout.fileno(), 65536):
        chunks.put(chunk)
    chunks.put(None)


def _interrupt(child: subprocess.Popen[bytes]) -> None:
    if sys.platform == "win32":
        child.send_signal(signal.CTRL_BREAK_EVENT)
    else:
        _signal_group(child, signal.SIGINT)


def _end(child: subprocess.Popen[bytes]) -> None:
    """The child and what it started, at once."""
    if sys.platform == "win32":
        subprocess.run(["taskkill", "/F", "/T", "/PID", str(child.pid)], capture_output=True, check=False)
    else:
        _signal_group(child, signal.SIGKILL)


def _signal_group(child: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, number)

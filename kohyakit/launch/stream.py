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
from collections.abc import Callable, Iterator, Mapping, Sequence
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
    with _ended_like_ctrl_c():
        return _Following(_start(command, environment), _Log(log, clean), show, watch).to_the_end()


@contextlib.contextmanager
def _ended_like_ctrl_c() -> Iterator[None]:
    """A request to end this process (SIGTERM) reaches the child as Ctrl-C does, instead of leaving it behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Following:
    """A child on its way: what it prints is handed on in turns of a fifth of a second."""

    def __init__(
        self, child: subprocess.Popen[bytes], logged: _Log, show: IO[bytes], watch: Callable[[str], bool] | None
    ) -> None:
        self._child, self._logged, self._show, self._watch = child, logged, show, watch
        self._chunks: queue.Queue[bytes | None] = queue.Queue()
        self._tail, self._fresh, self._stopped = b"", b"", ""
        self._deadline, self._looked = float("inf"), time.monotonic()
        threading.Thread(target=_pump, args=(child, self._chunks), daemon=True).start()

    def to_the_end(self) -> Ended:
        try:
            going = True
            while going:
                try:
                    going = self._turn()
                except KeyboardInterrupt:
                    if self._stopped:
                        _end(self._child)
                    else:
                        self._ask_to_end("interrupted")
            code = self._child.wait()
            self._look()
        finally:
            if self._child.poll() is None:
                _end(self._child)
            self._logged.close()
        return Ended(code, self._tail.decode("utf-8", errors="replace"), self._stopped)

    def _turn(self) -> bool:
        """Hand on what has come; False when there will be no more."""
        with contextlib.suppress(queue.Empty):
            chunk = self._chunks.get(timeout=0.2)
            if chunk is None:
                return False
            self._logged.write(chunk)
            self._tail, self._fresh = (self._tail + chunk)[-_TAIL:], self._fresh + chunk
            with contextlib.suppress(OSError, ValueError):  # a closed terminal must not end the training
                self._show.write(chunk)
                self._show.flush()
        now = time.monotonic()
        if now > self._deadline:
            _end(self._child)
            self._deadline = float("inf")
        if now - self._looked > 0.5:
            self._looked = now
            if self._look() and not self._stopped:
                self._ask_to_end("stopped")
        return True

    def _look(self) -> bool:
        text, self._fresh = self._fresh.decode("utf-8", errors="replace"), b""
        return self._watch is not None and self._watch(text)

    def _ask_to_end(self, why: str) -> None:
        self._stopped, self._deadline = why, time.monotonic() + _PATIENCE
        _interrupt(self._child)


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
        # by its whole path: Windows looks for a bare name in the working folder first
        taskkill = os.path.join(os.environ.get("SYSTEMROOT", "C:\\Windows"), "System32", "taskkill.exe")
        subprocess.run([taskkill, "/F", "/T", "/PID", str(child.pid)], capture_output=True, check=False)
    else:
        _signal_group(child, signal.SIGKILL)


def _signal_group(child: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, number)

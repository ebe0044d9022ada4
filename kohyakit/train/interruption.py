"""What ends a training from outside: Ctrl-C, a shut-down, a closed terminal. Each lets it finish its step and save."""

from __future__ import annotations

import _thread
import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

# Windows: the window's close button, logging off, shutting down. It ends the process once the handler returns.
CLOSING_EVENTS = (2, 5, 6)
_SECONDS_TO_SAVE = 60.0  # Windows itself waits less, about 5 s
_WINDOW_CLOSED = getattr(signal, "SIGBREAK", signal.SIGTERM)


class Interruption:
    """Listens from before a run's folder is made until its end is recorded.

    by: what asked the training to end ("Ctrl-C", "SIGTERM" …), "" as long as nothing did. asked: called at the first
    time. at_once: raise KeyboardInterrupt instead, while there is nothing to save yet.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.by = ""
        self.at_once = False
        self.asked: Callable[[], None] = lambda: None
        self._say = say
        self._pressed = False
        self._over = threading.Event()

    @contextlib.contextmanager
    def listening(self) -> Iterator[Interruption]:
        """Take over the signals; a thread other than the main one gets none, and takes none."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before = {number: signal.signal(number, self._heard) for number in _signals()}
        try:
            with _console(self.window_closed) if sys.platform == "win32" else contextlib.nullcontext():
                yield self
        finally:
            self._over.set()
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def nothing_to_save(self) -> Iterator[None]:
        """A stretch in which the training ends at once, also when it was asked to before."""
        self.at_once = True
        try:
            if self.by:
                raise KeyboardInterrupt
            yield
        finally:
            self.at_once = False

    def _heard(self, number: int, frame: Any) -> None:
        """Only Ctrl-C counts twice: a terminal that closes may well send its signal more than once."""
        again = number == signal.SIGINT and self._pressed
        self._pressed = self._pressed or number == signal.SIGINT
        first, self.by = not self.by, self.by or _name(number)
        if again or self.at_once:
            raise KeyboardInterrupt
        if first:
            self.asked()
        with contextlib.suppress(OSError, RuntimeError, ValueError):  # a closed terminal, or in the middle of a line
            if number == signal.SIGINT:
                self._say("stopping after this step; press Ctrl-C again to drop it")
            elif first:
                self._say(f"{self.by}: stopping after this step")

    def window_closed(self, event: int) -> bool:
        """Windows calls this in a thread of its own and ends the process when it returns, so it waits for the end."""
        if event not in CLOSING_EVENTS:
            return False
        _thread.interrupt_main(_WINDOW_CLOSED)
        self._over.wait(_SECONDS_TO_SAVE)
        return True


def _signals() -> list[int]:
    """Those that this system has; a hang-up that is ignored (nohup) stays ignored."""
    names = ("SIGINT", "SIGTERM", "SIGBREAK", "SIGHUP")
    found = [getattr(signal, name) for name in names if hasattr(signal, name)]
    return [n for n in found if signal.Signals(n).name != "SIGHUP" or signal.getsignal(n) != signal.SIG_IGN]


def _name(number: int) -> str:
    return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name


@contextlib.contextmanager
def _console(handler: Callable[[int], bool]) -> Iterator[None]:
    """Have Windows tell of a closed window; Python itself hands on Ctrl-C and Ctrl-Break alone."""
    import ctypes
    from ctypes import wintypes

    kernel = ctypes.WinDLL("kernel32")  # type: ignore[attr-defined]
    routine = ctypes.WINFUNCTYPE(wintypes.BOOL, wintypes.DWORD)(handler)  # type: ignore[attr-defined]
    kernel.SetConsoleCtrlHandler(routine, True)
    try:
        yield
    finally:
        kernel.SetConsoleCtrlHandler(routine, False)

"""What a training will need, made ready in a thread of its own while something else is waited for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any


def begin(work: Callable[[], Any], name: str) -> Future[Any]:
    """Do it in a thread that nobody waits for at the end of the program; an error comes with `result()`."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future

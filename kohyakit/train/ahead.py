"""What a training will need, made ready in a thread of its own while something else is waited for."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

# Where they are installed, diffusers and transformers import these for what no training of ours does.
UNUSED = ("peft", "scipy", "sklearn")
spared: list[str] = []


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


def spare(*packages: str) -> None:
    """Let a training's imports pass over these. For a process that only trains: others would miss what they bring."""
    spared.extend(packages)


@contextlib.contextmanager
def as_if_missing(packages: list[str]) -> Iterator[None]:
    """Packages that are not imported yet cannot be, meanwhile: None in sys.modules is Python's own word for that."""
    modules: dict[str, Any] = sys.modules
    hidden = [name for name in packages if name not in modules]
    modules.update(dict.fromkeys(hidden))
    try:
        yield
    finally:
        for name in hidden:
            if modules.get(name, name) is None:
                del modules[name]

"""The command line in this process: what `python -m kohyakit …` says and how it ends, without another Python's start.

What belongs to a process of its own (what is loaded, signals, a bare environment, the folder it stands in) is tested in
one: test_startup, test_wheel, test_demo, cli/test_train, strangers/test_processes.
"""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from kohyakit.cli import main


def kohyakit(*words: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command in `cwd`; what is no sentence of ours is raised, where a process would print a traceback."""
    arguments = [str(word) for word in words]
    out, err = _stream(), _stream()
    code = 0
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.chdir(cwd or Path.cwd()))
        stack.enter_context(_eighty_columns())
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(err))
        try:
            main(arguments)
        except SystemExit as end:
            code = _code(end)
    return subprocess.CompletedProcess(arguments, code, _said(out), _said(err))


def _stream() -> io.TextIOWrapper:
    """A pipe's encoding and buffer, as a process has; `main` makes it UTF-8."""
    return io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)


def _said(stream: io.TextIOWrapper) -> str:
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode("utf-8").replace("\r\n", "\n")


def _code(end: SystemExit) -> int:
    if end.code is None:
        return 0
    assert isinstance(end.code, int), f"exit with a message instead of a code: {end.code!r}"
    return end.code


@contextlib.contextmanager
def _eighty_columns() -> Iterator[None]:
    """A process behind a pipe sees no terminal; this one may have been started in one."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "80"
    try:
        yield
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before

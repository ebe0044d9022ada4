"""Opens many files in several worker processes: streaming, bounded, safe against Ctrl-C and against any one file."""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import IO, Any

from kohyakit.audit.look.facts import Opened, Task
from kohyakit.audit.look.opening import Measure, crashed, open_safely
from kohyakit.audit.look.worker import receive, send
from kohyakit.audit.settings import default_workers
from kohyakit.errors import RunError
from kohyakit.resources import search_path

DEADLINE = 120.0  # seconds for one file; a 100-megapixel PNG takes three
_BATCH, _QUICK_BATCH = 8, 256
_START_TIME = 60.0  # seconds for a worker to start on a busy machine
# Buffers of several megabytes a picture: without these, glibc gives each back to the system and faults it in anew.
_ENVIRONMENT = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 29),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 29),
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}


def open_all(
    tasks: Iterable[Task],
    measures: Sequence[Measure],
    *,
    quick: bool = False,
    workers: int | None = None,
    deadline: float = DEADLINE,
) -> Iterator[Opened]:
    """Open every file once; results come as they are ready, in any order.

    workers: processes; 0 opens in this process, without protection against files on which a decoder hangs.
    deadline: seconds after which a file is given up. Raises RunError when workers cannot be started.
    """
    workers = default_workers() if workers is None else workers
    if workers == 0 or any(m.__module__ == "__main__" for m in measures):
        for task in tasks:
            yield open_safely(task, measures, quick)
        return
    crew = _Crew(tasks, (sys.path, list(measures), quick), _QUICK_BATCH if quick else _BATCH, deadline)
    try:
        crew.start(workers)
        yield from crew.results()
    finally:
        crew.stop()


@dataclass
class _Worker:
    """A process and what it works on. `since`: when it last answered, or was given work.

    careful: answers file by file, so that it is known on which one a decoder died or hung.
    """

    process: subprocess.Popen[bytes]
    complaints: Any
    careful: bool = False
    pending: deque[Task] = field(default_factory=deque)
    since: float = 0.0
    answered: bool = False
    late: bool = False

    @property
    def stdin(self) -> IO[bytes]:
        assert self.process.stdin is not None
        return self.process.stdin

    @property
    def stdout(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.stdin, self.stdout, self.complaints):
            with contextlib.suppress(OSError):
                stream.close()


class _Crew:
    """Threads that each look after one worker, and a bounded queue of results."""

    def __init__(self, tasks: Iterable[Task], setup: Any, batch: int, deadline: float) -> None:
        self._tasks = iter(tasks)
        self._setup, self._batch, self._deadline = setup, batch, deadline
        self._lock = threading.Lock()
        self._done: queue.Queue[Any] = queue.Queue(maxsize=4096)
        self._workers: dict[int, _Worker] = {}
        self._stopping = False
        self._threads: list[threading.Thread] = []

    def start(self, count: int) -> None:
        self._threads = [threading.Thread(target=self._look_after, args=(n,), daemon=True) for n in range(count)]
        for thread in self._threads:
            thread.start()

    def results(self) -> Iterator[Opened]:
        running = len(self._threads)
        while running:
            try:
                thing = self._done.get(timeout=0.5)
            except queue.Empty:
                self._end_late_ones()
                continue
            if thing is None:
                running -= 1
            elif isinstance(thing, BaseException):
                raise thing
            else:
                yield thing

    def stop(self) -> None:
        self._stopping = True
        for worker in list(self._workers.values()):
            worker.process.kill()
        while any(thread.is_alive() for thread in self._threads):
            with contextlib.suppress(queue.Empty):
                self._done.get(timeout=0.05)

    def _end_late_ones(self) -> None:
        for worker in list(self._workers.values()):
            limit = self._deadline + (0 if worker.answered else _START_TIME)
            if worker.pending and time.monotonic() - worker.since > limit:
                worker.late = True
                worker.process.kill()

    def _look_after(self, number: int) -> None:
        try:
            worker = None
            while not self._stopping and (batch := self._next_batch()):
                worker = worker or self._hire(number)
                worker.careful = False
                worker.pending.extend(batch)
                worker.since = time.monotonic()
                while worker.pending and not self._stopping:
                    worker = self._until_answered(worker, number)
            if worker:
                worker.kill()
        except Exception as error:
            self._done.put(error)
        self._done.put(None)

    def _next_batch(self) -> list[Task]:
        with self._lock:
            return list(islice(self._tasks, self._batch))

    def _hire(self, number: int) -> _Worker:
        complaints = tempfile.TemporaryFile()  # noqa: SIM115  closed with the worker
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "kohyakit.audit.look.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            env={**os.environ, **_ENVIRONMENT, "PYTHONPATH": os.pathsep.join(search_path())},
        )
        self._workers[number] = _Worker(process, complaints)
        with contextlib.suppress(OSError):  # where it died at once, the first reading says so
            send(self._workers[number].stdin, self._setup)
        return self._workers[number]

    def _until_answered(self, worker: _Worker, number: int) -> _Worker:
        """Hand over what is pending and pass its results on; a fresh worker when this one died on a file."""
        try:
            tasks = list(worker.pending)
            send(worker.stdin, [[task] for task in tasks] if worker.careful else [tasks])
            while worker.pending:
                for opened in receive(worker.stdout):
                    worker.pending.popleft()
                    self._done.put(opened)
                worker.since, worker.answered = time.monotonic(), True
            return worker
        except (OSError, EOFError, ValueError):
            return worker if self._stopping else self._replace(worker, number)

    def _replace(self, worker: _Worker, number: int) -> _Worker:
        if not worker.answered and not worker.late and worker.process.wait() == 1:
            # an error of Python before the first answer is no file's fault
            worker.complaints.seek(0)
            lines = worker.complaints.read().decode("utf-8", "replace").strip().splitlines()
            raise RunError(f"the audit's worker process could not start: {lines[-1] if lines else 'no reason given'}")
        if worker.careful or len(worker.pending) == 1:
            culprit = worker.pending.popleft()
            late = f"took longer than {self._deadline:.0f} s to decode, so it was given up"
            self._done.put(crashed(culprit, late if worker.late else "makes the decoder crash"))
        rest = worker.pending
        worker.kill()
        fresh = self._hire(number)
        fresh.careful = True
        fresh.pending.extend(rest)
        fresh.since = time.monotonic()
        return fresh

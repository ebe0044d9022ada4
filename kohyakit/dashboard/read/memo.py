"""What was read once and has not changed on disk is not read again. One small cache for all readers."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

Stamp = tuple


class Memo:
    """The newest results by key, each valid for one stamp (sizes and times of the files it was made from).

    most: the sum of `weigh` over everything kept; the longest unused go first.
    """

    def __init__(self, most: float, weigh: Callable[[Any], float] = lambda value: 1) -> None:
        self.most, self.weigh = most, weigh
        self._items: OrderedDict[Hashable, tuple[Stamp, Any, float]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, stamp: Stamp, make: Callable[[], Any]) -> Any:
        """The kept value, or a new one from `make`. What `make` raises is passed on and nothing is kept."""
        found = self.peek(key, stamp)
        if found is not None:
            return found
        value = make()
        self.put(key, stamp, value)
        return value

    def peek(self, key: Hashable, stamp: Stamp) -> Any | None:
        with self._lock:
            item = self._items.get(key)
            if item is None or item[0] != stamp:
                return None
            self._items.move_to_end(key)
            return item[1]

    def put(self, key: Hashable, stamp: Stamp, value: Any) -> None:
        with self._lock:
            self._items[key] = (stamp, value, self.weigh(value))
            self._items.move_to_end(key)
            while len(self._items) > 1 and sum(weight for _, _, weight in self._items.values()) > self.most:
                self._items.popitem(last=False)


def stamp_of(*paths: Path | str) -> Stamp:
    """Name, size and time of each path; a missing one counts as such."""
    return tuple(_one(path) for path in paths)


def _one(path: Path | str) -> tuple:
    try:
        stat = os.stat(path)
    except (OSError, ValueError):
        return (str(path), None)
    return (str(path), stat.st_size, stat.st_mtime_ns)

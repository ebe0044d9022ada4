"""One TensorBoard event file -> arrays of points, as far as it is written; the rest when it has grown.

Records of one layout are sliced by NumPy, many at a time; any other record is read by hand. Checksums are checked,
except of records above 4 KiB: pictures are stepped over unread.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from kohyakit.errors import Problem
from kohyakit.files import open_regular
from kohyakit.runs.logs.crc32c import crc32c, masked, masked_rows
from kohyakit.runs.logs.event_proto import Layout, Malformed, layout, scalars, session_start, wall_time
from kohyakit.runs.logs.log_files import packed, packed_kind

if TYPE_CHECKING:
    import numpy as np

_HEADER = struct.Struct("<QI")  # a record: length, masked CRC of the length, the data, masked CRC of the data
_FRAME = 16
_LARGE = 4096  # a record above this is no scalar alone; it is walked without being read
_BLOCK = (1 << 16, 1 << 20)  # bytes read at a time: small after a large record, then doubling
_FEW = 64  # layouts of one length that are looked for in a block; what is left is read by hand
_MARK = 64  # bytes kept from before the offset, to know the file again


@dataclass(frozen=True, slots=True)
class Points:
    """Points in the order of the file. tag: index into the file's tags. wall_time: seconds since 1970."""

    tag: np.ndarray
    step: np.ndarray
    value: np.ndarray
    wall_time: np.ndarray

    def __len__(self) -> int:
        return len(self.step)

    @classmethod
    def join(cls, many: list[Points]) -> Points:
        if len(many) == 1:
            return many[0]
        return cls(*(_join([getattr(points, name) for points in many], name) for name in cls.__slots__))


_EMPTY = {"tag": "int32", "step": "int32", "value": "float32", "wall_time": "float64"}


def _join(arrays: list[np.ndarray], name: str) -> np.ndarray:
    import numpy as np

    return np.concatenate(arrays) if arrays else np.empty(0, dtype=_EMPTY[name])


class EventFile:
    """An event file and how far it was read. `points` grows with `refresh`; `problems` says what is damaged.

    restarts: where a writer said that it goes on from a step: (points before it, the step).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reset()

    def reset(self) -> None:
        self.offset = 0
        self.mark = b""
        self.tags: list[str] = []
        self.problems: list[Problem] = []
        self.restarts: list[tuple[int, int]] = []
        self.unfinished = False  # the file ends within a record: cut off, or being written
        self._plugins: dict[str, bytes] = {}
        self._codes: dict[bytes, int] = {}
        self._pieces: list[Points] = []
        self._damaged = False

    @property
    def points(self) -> Points:
        self._pieces = [Points.join(self._pieces)]
        return self._pieces[0]

    def restore(self, state: dict[str, Any], points: Points) -> None:
        """Go on from what `state` and `points` gave in an earlier process."""
        self.reset()
        self.offset, self.mark = state["offset"], bytes.fromhex(state["mark"])
        self.tags, self._damaged, self.unfinished = list(state["tags"]), state["damaged"], state["unfinished"]
        self.problems = [Problem(**problem) for problem in state["problems"]]
        self.restarts = [(before, step) for before, step in state["restarts"]]
        self._plugins = {tag: bytes.fromhex(name) for tag, name in state["plugins"].items()}
        self._codes = {tag.encode("utf-8", "surrogatepass"): code for code, tag in enumerate(self.tags)}
        self._pieces = [points]

    def state(self) -> dict[str, Any]:
        """Everything but the points, as JSON takes it."""
        return {
            "offset": self.offset, "mark": self.mark.hex(), "tags": self.tags, "damaged": self._damaged,
            "unfinished": self.unfinished, "restarts": self.restarts,
            "problems": [{name: getattr(p, name) for name in Problem.__slots__} for p in self.problems],
            "plugins": {tag: name.hex() for tag, name in self._plugins.items()},
        }  # fmt: skip

    def refresh(self) -> bool:
        """Read what was added since the last time -> whether points came. A file that was replaced is read anew.

        Raises OSError when the file cannot be opened.
        """
        before, restarts = sum(len(points) for points in self._pieces), len(self.restarts)
        with open_regular(self.path) as file:
            size = os.fstat(file.fileno()).st_size
            if size < self.offset or not self._known(file):
                self.reset()
                before = -1
            if not self._damaged and size > self.offset:
                self._read(file, size)
        return sum(len(points) for points in self._pieces) != before or len(self.restarts) != restarts

    def _known(self, file: BinaryIO) -> bool:
        if not self.mark:
            return True
        file.seek(self.offset - len(self.mark))
        return file.read(len(self.mark)) == self.mark

    def _read(self, file: BinaryIO, size: int) -> None:
        import numpy as np

        block = _BLOCK[0]
        self.unfinished = False
        while self.offset < size and not self._damaged:
            file.seek(self.offset)
            data = file.read(min(block, size - self.offset))
            starts, end = self._walk(data)
            if starts:
                self._extract(data, np.array(starts, dtype=np.int64), end)
                self.offset += end
                self.mark = data[max(0, end - _MARK) : end]
                block = min(block * 2, _BLOCK[1])
            elif self._damaged:
                break
            elif self.offset + len(data) >= size:
                self.unfinished = True
                break
            elif not self._step_over(file, data, size):
                if self.unfinished:
                    break
                block *= 2  # one record longer than the block
            else:
                block = _BLOCK[0]

    def _walk(self, data: bytes) -> tuple[list[int], int]:
        """The complete records of a block -> (where each begins, where the last ends). Checks the lengths' CRCs."""
        starts: list[int] = []
        at, size = 0, len(data)
        known: dict[int, int] = {}
        unpack, append = _HEADER.unpack_from, starts.append
        while at + 12 <= size:
            length, crc = unpack(data, at)
            if known.get(length) != crc:
                if masked(crc32c(data[at : at + 8])) != crc:
                    if not starts:
                        self._damage(self.offset + at, data[:8])
                    break
                known[length] = crc
            after = at + _FRAME + length
            if after > size:
                break
            append(at)
            at = after
        return starts, at

    def _damage(self, offset: int, start: bytes) -> None:
        self._damaged = True
        if not offset and (kind := packed_kind(start)):
            self.problems.append(packed(self.path.name, kind))
            return
        what, cure = f"is damaged from byte {offset} on", "what stands before it was read"
        self.problems.append(Problem(self.path.name, what, cure, "damaged_log", "warning"))

    def _step_over(self, file: BinaryIO, data: bytes, size: int) -> bool:
        """Walk a large record without reading it -> whether there was one and it is complete."""
        if len(data) < _HEADER.size:
            return False
        length, _ = _HEADER.unpack_from(data, 0)
        if length <= _LARGE:
            return False
        if self.offset + _FRAME + length > size:
            self.unfinished = True
            return False
        self._by_hand([(0, _Window(file, self.offset + 12, length))], [])
        self.offset += _FRAME + length
        file.seek(self.offset - _MARK)
        self.mark = file.read(_MARK)
        return True

    def _extract(self, data: bytes, starts: np.ndarray, end: int) -> None:
        """The points of a block's records, in their order."""
        import numpy as np

        lengths = np.diff(starts, append=end) - _FRAME
        buffer = np.frombuffer(data, dtype=np.uint8)
        pieces: list[tuple[np.ndarray, Points]] = []
        odd = [np.flatnonzero(lengths > _LARGE)]
        for length in np.flatnonzero(np.bincount(lengths[lengths <= _LARGE])).tolist():
            index = np.flatnonzero(lengths == length)
            rows = np.lib.stride_tricks.sliding_window_view(buffer, length + 4)[starts[index] + 12]
            good = masked_rows(rows[:, :length]) == np.ascontiguousarray(rows[:, length:]).view("<u4").ravel()
            if not good.all():
                self._bad_records(starts[index[~good]])
                index, rows = index[good], rows[good]
            sliced, left = self._slice(rows[:, :length], index)
            pieces += sliced
            odd.append(left)
        by_hand = [(int(i), data[starts[i] + 12 : starts[i] + 12 + lengths[i]]) for i in np.sort(np.concatenate(odd))]
        self._by_hand(by_hand, pieces)

    def _bad_records(self, starts: np.ndarray) -> None:
        for start in starts[:3]:
            what = f"the record at byte {self.offset + int(start)} is damaged and was left out"
            self.problems.append(Problem(self.path.name, what, "", "damaged_record", "warning"))
        if len(starts) > 3:
            what = f"{len(starts) - 3} further records are damaged and were left out"
            self.problems.append(Problem(self.path.name, what, "", "damaged_record", "warning"))

    def _slice(self, rows: np.ndarray, index: np.ndarray) -> tuple[list[tuple[np.ndarray, Points]], np.ndarray]:
        """Records of one length -> the points of those that share a layout, and the indices of all the others.

        The first record not yet understood is read by hand. Where its wall time, step and value stand, others may
        differ (of a step's bytes not the bit that says whether another follows); where all else is the same, so is
        the layout.
        """
        import numpy as np

        pieces: list[tuple[np.ndarray, Points]] = []
        by_hand = []
        left = np.arange(len(rows))
        for _ in range(_FEW):
            if not len(left):
                break
            found = self._layout(rows[left[0]].tobytes())
            if found is None:
                by_hand.append(left[:1])
                left = left[1:]
                continue
            some = rows if len(left) == len(rows) else rows[left]
            same = _masked(some, found)
            fits = same == same[0]
            pieces.append((index[left[fits]], self._points(some[fits], found)))
            left = left[~fits]
        by_hand.append(left)
        return pieces, index[np.concatenate(by_hand)]

    def _layout(self, data: bytes) -> Layout | None:
        try:
            return layout(data, self._plugins)
        except Malformed:
            return None

    def _points(self, rows: np.ndarray, where: Layout) -> Points:
        """rows: [n, length] of one layout."""
        import numpy as np

        step: Any = np.zeros(len(rows), dtype=np.int32 if where.step_bytes < 5 else np.int64)
        for position in range(where.step_bytes):
            step = step | (rows[:, where.step_at + position] & 0x7F).astype(step.dtype) << (7 * position)
        return Points(
            tag=np.full(len(rows), self._code(where.tag.encode("utf-8")), dtype=np.int32),
            step=step,
            value=_column(rows, where.value_at, where.value_type),
            wall_time=_column(rows, where.wall_at, "<f8"),
        )

    def _code(self, tag: bytes) -> int:
        if tag not in self._codes:
            self._codes[tag] = len(self.tags)
            self.tags.append(tag.decode("utf-8", "replace"))
        return self._codes[tag]

    def _by_hand(self, records: list[tuple[int, Any]], pieces: list[tuple[np.ndarray, Points]]) -> None:
        """Read odd records one by one, then put all points of the block in the order of the records."""
        import numpy as np

        rows, started = [], []
        for index, data in records:
            try:
                wall_time, step, found = scalars(data, self._plugins)
                if (start := session_start(data)) is not None:
                    started.append((index, start))
            except Malformed:
                what = "a record is no TensorBoard event and was left out"
                self.problems.append(Problem(self.path.name, what, "", "damaged_record", "warning"))
                continue
            rows += [(index, self._code(tag.encode("utf-8")), step, value, wall_time) for tag, value in found]
        if rows:
            indices, codes, steps, values, walls = (np.array(column) for column in zip(*rows, strict=True))
            points = Points(codes.astype(np.int32), steps.astype(np.int64), _smallest(values), walls)
            pieces = [*pieces, (indices, points)]
        before = sum(len(points) for points in self._pieces)
        for index, step in started:
            self.restarts.append((before + sum(int((indices < index).sum()) for indices, _ in pieces), step))
        if len(pieces) == 1:
            self._pieces.append(pieces[0][1])
        elif pieces:
            order = np.argsort(np.concatenate([index for index, _ in pieces]), kind="stable")
            joined = Points.join([points for _, points in pieces])
            self._pieces.append(Points(*(getattr(joined, name)[order] for name in Points.__slots__)))


def last_moment(path: Path) -> float | None:
    """When the last whole event of a file was written, by its own clock (seconds since 1970); None without events.

    Only the records' lengths are read on the way, so it needs no NumPy.
    """
    found: tuple[int, int] | None = None
    at = 0
    known: dict[int, int] = {}
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            while at + _FRAME <= size:
                file.seek(at)
                head = file.read(_HEADER.size)
                length, crc = _HEADER.unpack(head)
                if known.get(length) != crc and masked(crc32c(head[:8])) != crc:
                    break
                known[length] = crc
                if at + _FRAME + length > size:
                    break
                found = (at + _HEADER.size, length)
                at += _FRAME + length
            return None if found is None else wall_time(_Window(file, *found))
    except (OSError, Malformed):
        return None


def _masked(rows: np.ndarray, where: Layout) -> np.ndarray:
    """Each row as one value, with what differs from record to record blanked out. Returns [n] of raw bytes."""
    import numpy as np

    mask = np.full(rows.shape[1], 0xFF, dtype=np.uint8)
    mask[where.wall_at : where.wall_at + 8] = 0
    mask[where.step_at : where.step_at + where.step_bytes] = 0x80
    mask[where.value_at : where.value_at + int(where.value_type[-1])] = 0
    return (rows & mask).view(f"V{rows.shape[1]}").ravel()


def _column(rows: np.ndarray, at: int, kind: str) -> np.ndarray:
    """A number of each row. rows: [n, length] bytes. Returns [n]."""
    import numpy as np

    return np.ascontiguousarray(rows[:, at : at + int(kind[-1])]).view(kind).ravel()


def _smallest(values: np.ndarray) -> np.ndarray:
    """float32 where that loses nothing, as most writers give; else float64."""
    import numpy as np

    wide = np.array(values, dtype=np.float64)
    with np.errstate(over="ignore"):
        narrow = wide.astype(np.float32)
    return narrow if np.array_equal(narrow.astype(np.float64), wide, equal_nan=True) else wide


class _Window:
    """A large record's bytes, read from the file only where they are looked at."""

    def __init__(self, file: BinaryIO, start: int, length: int) -> None:
        self._file, self._start, self._length = file, start, length
        self._low, self._held = 0, b""

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, at: int | slice) -> int | bytes:
        low, high = (at, at + 1) if isinstance(at, int) else (at.start, at.stop)
        if low < self._low or high > self._low + len(self._held):
            self._file.seek(self._start + low)
            self._low, self._held = low, self._file.read(min(max(512, high - low), self._length - low))
        piece = self._held[low - self._low : high - self._low]
        return piece[0] if isinstance(at, int) else piece

"""Finds pairs of the same picture among many: every pair where that is affordable, by bands of the hash above.

Of n pictures, n² pairs of hashes are compared in blocks up to EXHAUSTIVE (about 2 s for 8,000). Above, a pair is
compared only if one of four 16-bit bands of its hashes differs by at most one bit, which holds for every pair of
distance up to 7; memory and time then grow with the number of pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from kohyakit.audit.alike.likeness import POSITIONS, WINDOWS, agreement, hashes, turn, turned_hashes

EXHAUSTIVE = 8000
_BLOCK = 1 << 22  # pairs of hashes at a time
_PIECE = 1 << 18  # of them in a band: few enough that they stay in the processor's cache
_FEW, _MANY = 8192, 1 << 20  # pairs of sketches at a time: compared, and considered
_MIRRORS = (0, 1)
# Of pairs [whole, part, window, position] x [n]: which show the same picture, bool [n].
Confirm = Callable[[np.ndarray], np.ndarray]


def same_picture_groups(
    sketches: np.ndarray,
    distance: int,
    least_agreement: float,
    *,
    rows: np.ndarray | None = None,
    exhaustive: int = EXHAUSTIVE,
    confirm: Confirm | None = None,
) -> list[np.ndarray]:
    """Groups of two or more rows that show the same picture; rows and groups ascending.

    sketches: uint8 [n, 32, 32]; rows: those to compare, ascending, None for all.
    distance: bits by which hashes may differ. least_agreement: see likeness.agreement. confirm: a last word on pairs
    that agree.
    """
    rows = np.arange(len(sketches)) if rows is None else rows
    if len(rows) < 2:
        return []
    groups = _Groups(len(sketches))
    hurried = len(rows) > exhaustive  # chance likenesses grow with the square of their number
    for proposal in _together(_proposals(sketches, rows, distance, exhaustive)):
        _join(groups, sketches, proposal, least_agreement, hurried, confirm)
    return groups.of_several()


def _together(proposals: Iterator[tuple]) -> Iterator[np.ndarray]:
    """Small proposals together, and very large ones in pieces: [whole, part, window, position], each [n]."""
    waiting: list[np.ndarray] = []
    for whole, part, window, position in proposals:
        for at in range(0, len(whole), _MANY):
            i, j = whole[at : at + _MANY], part[at : at + _MANY]
            waiting.append(np.stack([i, j, np.full(len(i), window), np.full(len(i), position)]))
            if sum(some.shape[1] for some in waiting) >= _FEW:
                yield np.concatenate(waiting, axis=1)
                waiting = []
    if waiting:
        yield np.concatenate(waiting, axis=1)


class _Groups:
    """Which rows belong together (union by the lower row)."""

    def __init__(self, count: int) -> None:
        self._parent = np.arange(count)

    def roots(self) -> np.ndarray:
        """The lowest row of each row's group."""
        while True:
            further = self._parent[self._parent]
            if (further == self._parent).all():
                return further
            self._parent = further

    def merge(self, a: int, b: int) -> None:
        low, high = sorted((self._root(a), self._root(b)))
        self._parent[high] = low

    def _root(self, row: int) -> int:
        while self._parent[row] != row:
            row = int(self._parent[row])
        return row

    def of_several(self) -> list[np.ndarray]:
        roots = self.roots()
        order = np.argsort(roots, kind="stable")
        starts = np.flatnonzero(np.diff(roots[order])) + 1
        return [rows for rows in np.split(order, starts) if len(rows) > 1]


def _join(
    groups: _Groups,
    sketches: np.ndarray,
    pairs: np.ndarray,
    least_agreement: float,
    hurried: bool,
    confirm: Confirm | None,
) -> None:
    """Compare proposed pairs that are not yet in one group and merge the groups of those that agree.

    One pair decides whether two groups are one, so each round compares a few pairs of each group with earlier ones:
    one, then two, four, eight. Most of the pairs of a large group are never compared. pairs: as of _together.
    """
    a_round = 1
    while pairs.size:
        one, other = groups.roots()[pairs[:2]]
        pairs, later = pairs[:, one != other], np.maximum(one, other)[one != other]
        asked = _place_among_equals(later) < a_round
        for some in np.array_split(pairs[:, asked], asked.sum() // _FEW + 1, axis=1):
            i, j, window, position = some
            parts = _turned(sketches[j], position)
            same = agreement(sketches[i], parts, window, enough=least_agreement, hurried=hurried) >= least_agreement
            if confirm is not None:
                same[same] = confirm(some[:, same])
            for a, b in some[:2, same].T.tolist():
                groups.merge(a, b)
        pairs = pairs[:, ~asked]
        a_round *= 2


def _turned(sketches: np.ndarray, positions: np.ndarray) -> np.ndarray:
    for position in np.unique(positions):
        rows = positions == position
        sketches[rows] = turn(sketches[rows], position)
    return sketches


def _place_among_equals(keys: np.ndarray) -> np.ndarray:
    """How many equal keys stand before each."""
    order = np.argsort(keys, kind="stable")
    starts = np.flatnonzero(np.diff(keys[order], prepend=-1))
    place = np.empty(len(keys), int)
    place[order] = np.arange(len(keys)) - np.repeat(starts, np.diff(starts, append=len(keys)))
    return place


def _proposals(sketches: np.ndarray, rows: np.ndarray, distance: int, exhaustive: int) -> Iterator[tuple]:
    """(whole [n], part [n], window, position): `part`, put in that position, may be in that window of `whole`."""
    first = hashes(sketches, rows=rows)
    _, kind_first, kind = np.unique(first, return_index=True, return_inverse=True)
    twin_of = rows[kind_first[kind]]
    twins = np.flatnonzero(twin_of != rows)
    if len(twins):  # equal hashes: each is compared with the first of its kind only
        yield twin_of[twins], rows[twins], 0, 0
    alone = rows[kind_first]
    search = _by_blocks if len(alone) <= exhaustive else _by_bands
    for window in range(len(WINDOWS)):
        index = hashes(sketches, window, alone)
        for position in range(len(POSITIONS)) if window == 0 else _MIRRORS:
            query = turned_hashes(sketches, position, alone)
            for whole, part in search(index, query, distance):
                keep = whole < part if window == 0 else whole != part
                if keep.any():
                    whole, part = alone[whole[keep]], alone[part[keep]]
                    yield whole, part, window, position


def _by_blocks(index: np.ndarray, query: np.ndarray, distance: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    rows = max(1, _BLOCK // len(index))
    for at in range(0, len(query), rows):
        apart = np.bitwise_count(query[at : at + rows, None] ^ index[None])
        part, whole = np.divmod(np.flatnonzero(apart <= distance), len(index))
        yield whole, part + at


_PROBES = np.array([0, *(1 << bit for bit in range(16))], dtype=np.int32)


def _by_bands(index: np.ndarray, query: np.ndarray, distance: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    found = []
    for band in range(4):
        order, starts, _ = _sorted_by_band(index, band)
        asking, _, wanted = _sorted_by_band(query, band)
        members, asked = index[order], query[asking]
        for probe in _PROBES:
            # in the order of the keys, so that neighbours ask for neighbours
            bucket = wanted[asking] ^ probe
            for places, rows in _expand(starts[bucket], starts[bucket + 1]):
                near = np.flatnonzero(np.bitwise_count(members[places] ^ asked[rows]) <= distance)
                if len(near):
                    found.append(order[places[near]].astype(np.int64) * len(query) + asking[rows[near]])
    if found:
        pairs = np.unique(np.concatenate(found))
        yield pairs // len(query), pairs % len(query)


def _sorted_by_band(hashes: np.ndarray, band: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(rows by the 16 bits of a band, where in them each value of these bits starts, each row's value)."""
    keys = ((hashes >> np.uint64(16 * band)) & np.uint64(0xFFFF)).astype(np.int32)
    starts = np.zeros(65537, np.int32)
    np.cumsum(np.bincount(keys, minlength=65536), out=starts[1:])
    return np.argsort(keys, kind="stable"), starts, keys


def _expand(low: np.ndarray, high: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Every (place in low..high, its number among these ranges), at most about _PIECE at a time."""
    asking = np.flatnonzero(high > low)
    low, counts = low[asking], (high - low)[asking]
    ends = np.cumsum(counts, dtype=np.int64)
    at = 0
    while at < len(counts):
        done = int(ends[at - 1]) if at else 0
        stop = max(at + 1, int(np.searchsorted(ends, done + _PIECE, side="right")))
        piece = counts[at:stop]
        first = (ends[at:stop] - piece - done).astype(np.int32)  # where each range starts among them all
        places = np.repeat(low[at:stop] - first, piece)
        places += np.arange(len(places), dtype=np.int32)
        yield places, np.repeat(asking[at:stop], piece)
        at = stop

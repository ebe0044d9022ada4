"""Finds pairs of the same picture among many: every pair where that is affordable, by bands of the hash above.

Of n pictures, n² pairs of hashes are compared in blocks up to EXHAUSTIVE (about 2 s for 8,000). Above, a pair is
compared only if one of four 16-bit bands of its hashes is the same, or differs in bits that are the least certain of
it (multi-probe hashing after Lv et al. 2007); what is left of the square is a small part of the time at 100,000.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations

import numpy as np

from kohyakit.audit.alike.likeness import POSITIONS, WINDOWS, agreement, doubtful_bits, hashes, turn, turned_hashes

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
    few = len(alone) <= exhaustive
    queries = [turned_hashes(sketches, position, alone) for position in range(len(POSITIONS))]
    probes = [] if few else [_probes(doubtful_bits(sketches, transposed, alone)) for transposed in (False, True)]
    for window in range(len(WINDOWS)):
        index = hashes(sketches, window, alone)
        bands = [] if few else [_sorted_by_band(index, band) for band in range(4)]
        for position in range(len(POSITIONS)) if window == 0 else _MIRRORS:
            query = queries[position]
            if few:
                found = _by_blocks(index, query, distance)
            else:
                asked = probes[POSITIONS[position][0]][:, : _TURNED if position and not window else None]
                found = _by_bands(bands, query, asked, distance - _NEARER)
            for whole, part in found:
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


# Of a band's 16 bits, which of the least certain are taken to differ, by their place among these: the likeliest first.
_DOUBTS = [some for count in range(4) for some in combinations(range(8), count)]
_DOUBTS = sorted(_DOUBTS, key=lambda some: (sum(some) + len(some), len(some)))[:16]
_TURNED = 8  # of these, for whole pictures that were turned or mirrored: such copies differ in few bits
_NEARER = 2  # bits by which hashes must be nearer than among few: chance likenesses grow with the square
_DEEP = 16  # members of a bucket that are compared one after another, for all that ask at once


def _probes(doubtful: np.ndarray) -> np.ndarray:
    """[4, probes, n] uint16: the bits in which each band of a query may differ. doubtful: see doubtful_bits."""
    bits = np.left_shift(np.uint16(1), doubtful[..., :8].transpose(1, 2, 0).astype(np.uint16))
    found = np.zeros((4, len(_DOUBTS), len(doubtful)), np.uint16)
    for place, some in enumerate(_DOUBTS):
        for rank in some:
            found[:, place] |= bits[:, rank]
    return found


# Of one band of an index: rows in the order of its 16 bits, their hashes, where each value of these bits starts.
Band = tuple[np.ndarray, np.ndarray, np.ndarray]


def _sorted_by_band(index: np.ndarray, band: int) -> Band:
    keys = _keys(index, band)
    starts = np.zeros(65537, np.intp)
    np.cumsum(np.bincount(keys, minlength=65536), out=starts[1:])
    order = np.argsort(keys, kind="stable")
    return order, index[order], starts


def _keys(hashes: np.ndarray, band: int) -> np.ndarray:
    return ((hashes >> np.uint64(16 * band)) & np.uint64(0xFFFF)).astype(np.uint16)


def _by_bands(
    bands: list[Band], query: np.ndarray, probes: np.ndarray, distance: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    found = []
    for band, (order, members, starts) in enumerate(bands):
        keys = _keys(query, band)
        for probe in probes[band]:
            bucket = keys ^ probe
            for places, asking in _pairs(starts.take(bucket), starts[1:].take(bucket)):
                near = np.flatnonzero(np.bitwise_count(members.take(places) ^ query.take(asking)) <= distance)
                if len(near):
                    found.append(order[places[near]] * len(query) + asking[near])
    if found:
        pairs = np.unique(np.concatenate(found))
        yield pairs // len(query), pairs % len(query)


def _pairs(low: np.ndarray, high: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Every (place in low..high, number of its range): the ranges' first places, their second ones, and so on."""
    asking = np.flatnonzero(high > low)
    places, ends = low.take(asking), high.take(asking)
    for _ in range(_DEEP):
        if not len(places):
            return
        yield places, asking
        places = places + 1
        more = np.flatnonzero(places < ends)
        places, ends, asking = places.take(more), ends.take(more), asking.take(more)
    for deeper, number in _expand(places, ends):
        yield deeper, asking[number]


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

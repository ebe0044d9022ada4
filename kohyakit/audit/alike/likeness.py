"""Which photos show the same picture: a sketch of each, hashes of its windows, and a verified comparison.

A sketch is the upright picture in 32x32 grey values. Hash: signs of its 63 lowest DCT coefficients (a perceptual
hash after Zauner 2010); mirroring and turning a picture only flips signs and swaps rows with columns, so all eight
positions cost one transform. Hashes of six windows inside the picture find copies that were cropped.
A pair that the hashes propose counts only when the sketches, laid over each other, agree in detail.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from kohyakit.audit.settings import default_workers

SIDE = 32
_LOW = 8  # coefficients a side

# (offset, length) along y and x, in shares of the picture: all of it, four corners and the centre at 90 %, 80 %.
_NEAR, _FAR = (0.0, 0.9), (0.1, 0.9)
WINDOWS = (
    ((0.0, 1.0), (0.0, 1.0)),
    (_NEAR, _NEAR),
    (_NEAR, _FAR),
    (_FAR, _NEAR),
    (_FAR, _FAR),
    ((0.05, 0.9), (0.05, 0.9)),
    ((0.1, 0.8), (0.1, 0.8)),
)
# The eight positions of a picture: (transposed, flipped top to bottom, flipped left to right).
POSITIONS = tuple((t, v, h) for t in (False, True) for v in (False, True) for h in (False, True))
MIRRORED = POSITIONS.index((False, False, True))


def sketch(grey: np.ndarray) -> np.ndarray:
    """The picture in 32x32 means, uint8. grey: [h, w] uint8, upright; any size from 1x1."""
    import cv2

    height, width = grey.shape
    how = cv2.INTER_AREA if min(height, width) >= SIDE else cv2.INTER_LINEAR
    return cv2.resize(np.ascontiguousarray(grey), (SIDE, SIDE), interpolation=how)


@lru_cache(maxsize=32)
def _window_dct(offset: float, length: float) -> np.ndarray:
    """[8, 32]: cuts out a window of one axis, stretches it to 32 samples and takes its lowest cosines."""
    k = np.arange(SIDE)
    cosines = np.cos(np.pi * (2 * k[None] + 1) * np.arange(_LOW)[:, None] / (2 * SIDE))
    place = np.clip((offset + length * (k + 0.5) / SIDE) * SIDE - 0.5, 0, SIDE - 1)
    left = np.clip(place.astype(int), 0, SIDE - 2)
    sample = np.zeros((SIDE, SIDE))
    sample[k, left] = 1 - (place - left)
    sample[k, left + 1] += place - left
    return (cosines @ sample).astype(np.float32)


def hashes(sketches: np.ndarray, window: int = 0, rows: np.ndarray | None = None) -> np.ndarray:
    """Perceptual hashes, uint64 [n], of one of WINDOWS. sketches: uint8 [n, 32, 32]; rows: of these only."""
    down, across = (_window_dct(*axis) for axis in WINDOWS[window])
    return _in_chunks(sketches, rows, lambda some: _pack(down @ some @ across.T))


def turned_hashes(sketches: np.ndarray, position: int, rows: np.ndarray | None = None) -> np.ndarray:
    """Hashes of the whole pictures (rows: of these only) as if they stood in one of POSITIONS."""
    cosines = _window_dct(0.0, 1.0)
    transposed, down, across = POSITIONS[position]
    sign = np.where(np.arange(_LOW) % 2, -1, 1).astype(np.float32)

    def low(some: np.ndarray) -> np.ndarray:
        found = cosines @ some @ cosines.T
        if transposed:
            found = found.transpose(0, 2, 1)
        return _pack(found * (sign[:, None] if down else 1) * (sign[None] if across else 1))

    return _in_chunks(sketches, rows, low)


def doubtful_bits(sketches: np.ndarray, transposed: bool, rows: np.ndarray | None = None) -> np.ndarray:
    """[n, 4, 16] uint8: of each 16 bits of turned_hashes, the places of the least certain first.

    A bit is a coefficient's sign: the nearer to 0 the coefficient, the sooner a crop turns it. transposed: as of
    POSITIONS; flipping a picture changes signs only.
    """
    cosines = _window_dct(0.0, 1.0)
    place = np.argsort(_BIT_ORDER)

    def order(some: np.ndarray) -> np.ndarray:
        low = np.abs(cosines @ some @ cosines.T)
        low = (low.transpose(0, 2, 1) if transposed else low).reshape(len(low), _LOW * _LOW)
        low[:, 0] = np.inf  # the mean is no bit
        size = np.ascontiguousarray(low[:, place]).view(np.uint32).reshape(len(low), 4, 16)
        # the place stands in the lowest bits, so that one sort does
        return (np.sort((size & ~np.uint32(15)) | np.arange(16, dtype=np.uint32)) & 15).astype(np.uint8)

    return _in_chunks(sketches, rows, order)


def _in_chunks(
    sketches: np.ndarray, rows: np.ndarray | None, work: Callable[[np.ndarray], np.ndarray], chunk: int = 512
) -> np.ndarray:
    """What `work` makes of the floats of sketches, piece by piece: those of 100,000 would take 400 MB."""
    rows = np.arange(len(sketches)) if rows is None else rows
    starts = range(0, max(1, len(rows)), chunk)
    return np.concatenate([work(sketches[rows[at : at + chunk]].astype(np.float32)) for at in starts])


def _pack(low: np.ndarray) -> np.ndarray:
    bits = (low.reshape(len(low), _LOW * _LOW) > 0).astype(np.uint64)
    bits[:, 0] = 0  # the mean says nothing
    return (bits << _BIT_ORDER).sum(axis=1, dtype=np.uint64)


# Bits are spread so that each 16-bit band of a hash holds coarse and fine coefficients alike.
_BIT_ORDER = np.array([(i * 16 + i // 4) % 64 for i in range(64)], dtype=np.uint64)


def turn(sketches: np.ndarray, position: int) -> np.ndarray:
    """Sketches [n, 32, 32] put in one of POSITIONS."""
    transposed, down, across = POSITIONS[position]
    if transposed:
        sketches = sketches.transpose(0, 2, 1)
    return sketches[:, :: -1 if down else 1, :: -1 if across else 1]


def contrast_of(sketches: np.ndarray, chunk: int = 4096) -> np.ndarray:
    """Standard deviation of the fine detail of each sketch, in grey levels; near 0 where a picture says little."""
    found = [
        _detail(sketches[at : at + chunk].astype(np.float32)).std(axis=(1, 2)) for at in range(0, len(sketches), chunk)
    ]
    return np.concatenate(found) if found else np.zeros(0, np.float32)


def _detail(pictures: np.ndarray) -> np.ndarray:
    """What is left when the coarse light and shade (Gaussian, 2.5 cells) is taken away. [n, 32, 32] float32."""
    smooth = _smoother(2.5)
    return pictures - smooth @ pictures @ smooth.T


@lru_cache(maxsize=4)
def _smoother(sigma: float, side: int = SIDE) -> np.ndarray:
    """[side, side]: Gaussian smoothing along one axis that leaves straight ramps as they are, at the ends too."""
    k = np.arange(side)
    away = k[None] - k[:, None]
    weights = np.exp(-(away**2) / (2 * sigma**2))
    first, second = (weights * away).sum(axis=1, keepdims=True), (weights * away**2).sum(axis=1, keepdims=True)
    # local linear regression: the weights' own slope is taken out (Cleveland 1979)
    weights = weights * (second - first * away)
    weights /= weights.sum(axis=1, keepdims=True)
    weights[np.abs(weights) < 1e-9] = 0  # below what float32 adds to a grey level; the least would slow every product
    return weights.astype(np.float32)


def agreement(
    whole: np.ndarray,
    part: np.ndarray,
    windows: np.ndarray,
    *,
    enough: float = 2.0,
    hurried: bool = False,
    chunk: int = 128,
) -> np.ndarray:
    """How well `part` fits into `whole` near the given window: correlation of detail, -1 to 1, float32 [n].

    whole, part: uint8 [n, 32, 32]. windows: index into WINDOWS [n], where the fit starts; where that is not `enough`,
    place and scale are refined along both axes (Gauss-Newton on the squared difference, brightness and contrast free;
    Baker and Matthews 2004). hurried: pairs that agree little at half the size are not followed further.
    chunk: pairs at a time, on each processor; what is worked out of them stays in its cache.
    """
    scores = np.empty(len(whole), np.float32)
    starts = np.array([(y[0], y[1], x[0], x[1]) for y, x in WINDOWS])[windows]

    def score(rows: np.ndarray) -> None:
        if hurried:
            scores[rows] = _glance(whole[rows], part[rows], starts[rows])
            rows = rows[scores[rows] >= _GLANCE]
        if len(rows):
            scores[rows] = _match(whole[rows], part[rows], starts[rows])
            rows = rows[scores[rows] < enough]
        if len(rows):
            least = _FITTED if hurried else -1.0
            scores[rows] = np.maximum(scores[rows], _fit(whole[rows], part[rows], starts[rows], least))

    chunks = np.array_split(np.arange(len(whole)), -(-len(whole) // chunk) or 1)
    if len(chunks) == 1:
        score(chunks[0])
    else:  # NumPy lets other threads work meanwhile
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(default_workers()) as threads:
            list(threads.map(score, chunks))
    return scores


# At half the size: as the hash places it, and when it has been fitted there. Of unrelated pictures with like hashes
# two thirds have less than the first; of copies, a few that were cropped by a tenth.
_GLANCE, _FITTED = 0.4, 0.65


def _glance(whole: np.ndarray, part: np.ndarray, place: np.ndarray) -> np.ndarray:
    """The agreement at half the size, before anything is fitted."""
    rough = _halved(_cut(whole.astype(np.float32), place)), _halved(part.astype(np.float32))
    return _correlation(*(some - _smoother(1.25, SIDE // 2) @ some @ _smoother(1.25, SIDE // 2).T for some in rough))


def _match(whole: np.ndarray, part: np.ndarray, place: np.ndarray) -> np.ndarray:
    return _correlation(_detail(_cut(whole.astype(np.float32), place)), _detail(part.astype(np.float32)))


_COARSE_STEPS, _FINE_STEPS = 3, 2


def _fit(whole: np.ndarray, part: np.ndarray, start: np.ndarray, least: float) -> np.ndarray:
    """The agreement after the window `start` has moved to where it fits best: first at half the size, then at all.

    least: what it must have at half the size to be followed further.
    """
    whole, part = whole.astype(np.float32), part.astype(np.float32)
    smooth = _smoother(1.0)
    soft_whole, soft_part = smooth @ whole @ smooth.T, smooth @ part @ smooth.T
    place = _moved(_halved(soft_whole), _halved(soft_part), start, _COARSE_STEPS)
    scores = _glance(whole, part, place)
    rows = np.flatnonzero(scores >= least)
    if len(rows):
        place = _moved(soft_whole[rows], soft_part[rows], place[rows], _FINE_STEPS)
        scores[rows] = _match(whole[rows], part[rows], place)
    return scores


def _moved(within: np.ndarray, target: np.ndarray, place: np.ndarray, steps: int) -> np.ndarray:
    """The windows `place` of `within` after some steps towards where `target` fits."""
    target = _normal(target)
    for _ in range(steps):
        place = np.clip(place + _step(within, target, place), (-0.06, 0.7, -0.06, 0.7), (0.3, 1.06, 0.3, 1.06))
    return place


def _halved(pictures: np.ndarray) -> np.ndarray:
    across = pictures[:, :, 0::2] + pictures[:, :, 1::2]
    return (across[:, 0::2] + across[:, 1::2]) / 4


def _cut(pictures: np.ndarray, place: np.ndarray) -> np.ndarray:
    """The windows `place` [n, 4] (offset and length along y, then x) of pictures, stretched to their size, bilinear."""
    side = pictures.shape[1]
    return _sampler(place[:, :2], side) @ pictures @ _sampler(place[:, 2:], side).transpose(0, 2, 1)


def _sampler(axis: np.ndarray, side: int) -> np.ndarray:
    """[n, side, side]: cuts a window (offset and length, [n, 2]) out of one axis and stretches it."""
    k = np.arange(side, dtype=np.float32)
    axis = axis.astype(np.float32)
    at = np.clip((axis[:, :1] + axis[:, 1:] * ((k + np.float32(0.5)) / side)) * side - np.float32(0.5), 0, side - 1)
    weights = at[:, :, None] - k
    np.abs(weights, out=weights)
    np.subtract(1, weights, out=weights)
    return np.maximum(0, weights, out=weights)


def _normal(pictures: np.ndarray) -> np.ndarray:
    centred = pictures - pictures.mean(axis=(1, 2), keepdims=True)
    return centred / (centred.std(axis=(1, 2), keepdims=True) + 1e-3)


def _step(whole: np.ndarray, target: np.ndarray, place: np.ndarray) -> np.ndarray:
    """One Gauss-Newton step of the window's offset and length along y and x, in shares of the picture."""
    side = whole.shape[1]
    seen = _normal(_cut(whole, place))
    down, across = _slopes(seen), _slopes(seen.transpose(0, 2, 1)).transpose(0, 2, 1)
    miss = target - seen
    # A shift of the offset moves every cell alike; a change of length moves the far end most.
    move = np.stack([np.ones(side), (np.arange(side) + 0.5) / side], axis=1).astype(np.float32)
    both = (move[:, :, None] * move[:, None]).reshape(side, 4)
    normal = np.empty((len(place), 4, 4), np.float32)
    normal[:, :2, :2] = (np.einsum("nyx,nyx->ny", down, down) @ both).reshape(-1, 2, 2)
    normal[:, 2:, 2:] = (np.einsum("nyx,nyx->nx", across, across) @ both).reshape(-1, 2, 2)
    normal[:, :2, 2:] = move.T @ (down * across) @ move
    normal[:, 2:, :2] = normal[:, :2, 2:].transpose(0, 2, 1)
    wanted = np.concatenate(
        [np.einsum("nyx,nyx->ny", down, miss) @ move, np.einsum("nyx,nyx->nx", across, miss) @ move], axis=1
    )
    cells = np.repeat((side / np.maximum(place[:, [1, 3]], 0.1)).astype(np.float32), 2, axis=1)
    normal *= cells[:, :, None] * cells[:, None]
    damp = 1e-3 * np.trace(normal, axis1=1, axis2=2)[:, None, None] * np.eye(4, dtype=np.float32) + 1e-6 * np.eye(4)
    return np.linalg.solve(normal + damp, (wanted * cells)[:, :, None])[:, :, 0].clip(-0.05, 0.05)


def _slopes(pictures: np.ndarray) -> np.ndarray:
    """Change from row to row: half of that between a row's neighbours, at the ends the one step there is."""
    found = np.empty_like(pictures)
    np.subtract(pictures[:, 2:], pictures[:, :-2], out=found[:, 1:-1])
    found[:, 1:-1] *= np.float32(0.5)
    np.subtract(pictures[:, 1], pictures[:, 0], out=found[:, 0])
    np.subtract(pictures[:, -1], pictures[:, -2], out=found[:, -1])
    return found


_SHIFT = 0.3  # of a cell: what two scalings of one picture may be apart after the fit


def place_of(window: int) -> np.ndarray:
    """[4]: offset and length along y, then x, of one of WINDOWS."""
    return np.array([value for axis in WINDOWS[window] for value in axis])


def unexplained(whole: np.ndarray, part: np.ndarray, start: np.ndarray) -> tuple[float, float]:
    """(the third largest difference between the cells of `part` and of its window in `whole`, the contrast's gain).

    In grey levels, less what a shift by _SHIFT of a cell makes; at the window `start` or as fitted, whichever is less.
    whole, part: uint8 [32, 32]. start: see place_of.
    """
    a, b = whole[None].astype(np.float32), part[None].astype(np.float32)
    smooth = _smoother(1.0)
    soft_a, soft_b = smooth @ a @ smooth.T, smooth @ b @ smooth.T
    place = _moved(_halved(soft_a), _halved(soft_b), start[None], _COARSE_STEPS)
    found = []
    for there in (start[None], _moved(soft_a, soft_b, place, _FINE_STEPS)):
        seen = _cut(a, there)[0]
        seen = seen - seen.mean()
        wanted = b[0] - b[0].mean()
        gain = float(np.clip((seen * wanted).sum() / ((seen * seen).sum() + 1e-3), 0.4, 2.5))
        slope = np.maximum(_steepest(wanted), _steepest(gain * seen))
        found.append((float(np.sort((np.abs(wanted - gain * seen) - _SHIFT * slope).ravel())[-3]), gain))
    return min(found)


def _steepest(picture: np.ndarray) -> np.ndarray:
    """The largest step from each cell to one of its four neighbours."""
    steepest = np.zeros_like(picture)
    for across in (False, True):
        step = np.abs(np.diff(picture, axis=int(across)))
        for before in (False, True):
            ends = (int(before), int(not before))
            steepest = np.maximum(steepest, np.pad(step, ((0, 0), ends) if across else (ends, (0, 0))))
    return steepest


def _correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a = a - a.mean(axis=(1, 2), keepdims=True)
    b = b - b.mean(axis=(1, 2), keepdims=True)
    norm = np.sqrt((a * a).sum(axis=(1, 2)) * (b * b).sum(axis=(1, 2))) + 1e-6
    return (a * b).sum(axis=(1, 2)) / norm

"""Damage that a JPEG decoder cannot notice, found in the picture.

A JPEG's blocks are written row by row, each brightness as a difference to the block before. A flipped bit that
still parses therefore shifts everything after it: from one block on, to the end of the scan or the next restart
marker, the picture is a constant brighter, redder or greener. That leaves one unmistakable edge: along the top of
the block's row from that block to the right, and along the top of the next row up to it, exactly on the block
grid. The same edge stays when the damage was decoded once and saved again at the same size.

Nothing here is certain, so what it finds is a warning. Thresholds: docs/audit-damage.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from kohyakit.dataset.decode.jpeg import JpegHeader
from kohyakit.dataset.decode.record import Verdict

if TYPE_CHECKING:
    import numpy as np

# Scores of an edge, in units of the picture's own unevenness at block edges, capped at 5; for 50 units across.
SHIFT = 1.3  # enough where the step is the same all along, as only a shifted prediction makes it
BREAK = 2.4  # enough by itself
BREAK_PLAIN = 3.0  # enough beside a plain area, as a wiped part of the picture is, but also a frame
ROUGHNESS = 0.75  # mean doubling or halving between neighbours of a quantisation table; real cameras' reach 1.03
GROWTH = 0.5  # correlation of a table with frequency; real cameras' are above 0.64
_ARM = 0.05  # share of the width that each side of the break must have, to tell it from a straight border
_CAP = 5.0
_REPEATS = 10  # equal neighbours that no photo has
_ROUNDING = 0.35  # grey levels of unevenness that mean nothing; half a step of the quantisation comes on top
_PLAIN = 0.25  # grey levels between neighbouring units: below it an area is one colour
_AT_A_TIME = 32  # rows of units whose steps are worked out together: they stay in the processor's cache
_GREY = 128  # what libjpeg paints where data is missing


@dataclass(frozen=True, slots=True)
class Break:
    """score: see SHIFT. row, column: the first shifted unit (MCU) of the scan, from 0."""

    score: float = 0.0
    row: int = 0
    column: int = 0


def check_picture(header: JpegHeader, rgb: np.ndarray) -> Verdict:
    """Judge the decoded picture (uint8 RGB [h, w, 3], at the header's size or some eighths of it)."""
    if scrambled(header):
        what = "its quantisation table is nonsense, so every block is painted wrong"
        return Verdict(False, "warning", "damaged", what)
    share = grey_tail(rgb, unit(header, rgb)[0])
    if share:
        what = f"its lowest {share:.0%} are the plain grey that decoders paint where data is missing"
        return Verdict(False, "warning", "damaged", what)
    row = repeated_unit(rgb, *unit(header, rgb))
    if row is not None:
        what = f"the same small pattern repeats along the block grid, {row * header.mcu[1]} pixels below the top"
        return Verdict(False, "warning", "damaged", f"{what}: a part of the file was wiped")
    return Verdict()


def unit(header: JpegHeader, rgb: np.ndarray) -> tuple[int, int]:
    """(height, width) of the scan's unit (MCU) in pixels of this decoded picture; 0 where it is below one."""
    scale = rgb.shape[0] / max(1, header.height)
    width, height = header.mcu
    return int(height * scale + 0.01), int(width * scale + 0.01)


def break_verdict(found: Break, header: JpegHeader) -> Verdict:
    """The sentence for a break."""
    at = found.row * header.mcu[1]
    what = f"looks damaged from {at} pixels below the top: a shift in brightness or colour along the block grid"
    return Verdict(False, "warning", "damaged", what)


def scrambled(header: JpegHeader) -> bool:
    """Whether a quantisation table that the picture uses looks like noise: it jumps, and does not grow."""
    tables = (header.quantisation.get(number) for number in set(header.tables_used))
    return any(table is not None and _noisy(table) for table in tables)


@lru_cache(maxsize=256)  # a camera writes the same few tables into all its photos
def _noisy(table: tuple[int, ...]) -> bool:
    import numpy as np

    logs = np.log2(np.maximum(1, np.asarray(table, dtype=float)))
    if np.abs(np.diff(logs)).mean() <= ROUGHNESS:
        return False
    return bool(np.corrcoef(logs, np.log2(np.arange(1, 65)))[0, 1] < GROWTH)


def grey_tail(rgb: np.ndarray, least: int) -> float:
    """Share of the height that is nothing but mid grey at the bottom; 0 for fewer than `least` rows, or a frame."""
    import numpy as np

    def grey(part: np.ndarray) -> np.ndarray:
        return np.asarray((np.abs(part.astype(np.int16) - _GREY) <= 2).all(axis=-1))

    if rgb.shape[0] < 2 or any(abs(value - _GREY) > 2 for value in rgb[-1, 0].tolist()):
        return 0.0
    if not grey(rgb[-1]).all() or grey(rgb[0]).mean() > 0.5:
        return 0.0
    painted = np.asarray(~grey(rgb).all(axis=1))
    rows = int(np.argmax(painted[::-1])) if painted.any() else 0
    return rows / rgb.shape[0] if rows >= max(2, least) else 0.0


def repeated_unit(rgb: np.ndarray, height: int, width: int) -> int | None:
    """The first row of units in which one textured unit stands `_REPEATS` times side by side; None where there is none.

    That is what a wiped part of a file decodes to: every block the same.
    """
    import numpy as np

    if min(height, width) < 2 or rgb.shape[0] < height or rgb.shape[1] < (_REPEATS + 1) * width:
        return None
    rows, columns = rgb.shape[0] // height, rgb.shape[1] // width
    green = rgb[: rows * height, : columns * width, 1]
    where = np.arange(rows)
    # one pixel a unit rules most rows out
    runs = _equal_runs(np.ascontiguousarray(green[height // 4 :: height, ::width]), 1)
    lines = []
    for at in (height // 4, height // 2):
        alive = runs.any(axis=1)
        where, runs = where[alive], runs[alive]
        if not len(where):
            return None
        line = np.ascontiguousarray(green[where * height + at])
        runs &= _equal_runs(line, width)
        lines.append((where, line.reshape(len(where), columns, width)))
    alive = runs.any(axis=1)
    where, starts = where[alive], runs[alive].argmax(axis=1)
    strong = np.zeros(len(where), bool)
    for among, line in lines:
        first = line[np.searchsorted(among, where), starts]
        strong |= np.ptp(first, axis=1) >= 8  # most are a plain sky; a pattern has strength
    return int(where[strong.argmax()]) if strong.any() else None


def _equal_runs(line: np.ndarray, width: int) -> np.ndarray:
    """Where `_REPEATS` units in a row each equal the one before: bool [rows, units - _REPEATS].

    line: uint8 [rows, units * width], a line of pixels through each row of units.
    """
    import cv2
    import numpy as np

    def farthest(apart: np.ndarray, places: int) -> np.ndarray:  # of as many places from each on
        return cv2.dilate(apart, np.ones((1, places), np.uint8), anchor=(0, 0))

    apart = cv2.absdiff(line[:, width:], line[:, :-width])
    if width > 1:
        apart = np.ascontiguousarray(farthest(apart, width)[:, ::width])
    return farthest(apart, _REPEATS)[:, : apart.shape[1] - _REPEATS + 1] <= 2


def find_break(header: JpegHeader, rgb: np.ndarray) -> Break | None:
    """A break that convinces, or None; a picture of fewer than 4 rows or 8 columns of units cannot tell."""
    import numpy as np

    height, width = unit(header, rgb)
    if min(height, width) < 2 or rgb.shape[0] < 4 * height or rgb.shape[1] < 8 * width:
        return None
    restart_rows, partly = divmod(header.restart_interval, -(-header.width // header.mcu[0]))
    restart_rows = 0 if partly else restart_rows
    steps = _steps(rgb, height, width)
    unevenness = _neighbourhood(steps, [_ROUNDING + _quantum(header, plane) / 2 for plane in range(3)])
    clipped = steps / unevenness
    np.clip(clipped, -_CAP, _CAP, out=clipped)
    could = _could_break(clipped)
    # few units across make chance edges likelier
    least = max(1.0, (50 / steps.shape[2]) ** 0.5)
    for plane in range(1 if header.components == 1 else 3):
        if not could[plane].any() and not restart_rows:
            continue
        found = _best_path(clipped[plane], restart_rows, could[plane])
        if found.score >= SHIFT * least and _convinces(found, steps[plane], unevenness[plane], rgb, header, least):
            return found
    return None


def _quantum(header: JpegHeader, plane: int) -> float:
    """Grey levels by which a block's brightness can change at the least: its table's first number over 8."""
    number = header.tables_used[min(plane, len(header.tables_used) - 1)]
    return header.quantisation.get(number, (4,))[0] / 8


def _units(rgb: np.ndarray, height: int, width: int) -> np.ndarray:
    """Mean colour of each unit: [rows, columns, 3]."""
    import numpy as np

    rows, columns = rgb.shape[0] // height, rgb.shape[1] // width
    parts = rgb[: rows * height, : columns * width].reshape(rows, height, columns * width * 3)
    tall = parts[:, 0].astype(np.uint16)
    for row in range(1, height):  # of 32 at the most
        tall += parts[:, row]
    each = np.kron(np.ones((width, 1)), np.eye(3)).astype(np.float32)
    whole = tall.astype(np.float32).reshape(rows * columns, width * 3) @ each  # whole numbers that floats hold
    return whole.reshape(rows, columns, 3).astype(float) / (height * width)


def _convinces(
    found: Break, step: np.ndarray, unevenness: np.ndarray, rgb: np.ndarray, header: JpegHeader, least: float
) -> bool:
    """Whether a path is a break and no chance, frame, caption bar or row of windows."""
    import numpy as np

    row, column = found.row, found.column
    if found.score < BREAK * least and not _same_all_along(found, step, unevenness):
        return False
    units = _units(rgb, *unit(header, rgb))
    texture = np.median(np.abs(np.diff(units, axis=1)).mean(axis=2), axis=1)
    if np.median(texture[:row]) < _PLAIN or (row + 1 < len(texture) and np.median(texture[row + 1 :]) < _PLAIN):
        return False  # a frame or a bar: one colour, but for some writing, to the picture's end

    def unlike(at: int, columns: slice) -> float:
        part = units[at, columns] if at < len(units) else units[:0, 0]
        return float(np.median(np.abs(np.diff(part, axis=0)).mean(axis=1))) if len(part) > 1 else 255.0

    right, left = slice(column, None), slice(None, column)
    sides = (unlike(row - 1, right), unlike(row, right), unlike(row, left), unlike(row + 1, left))
    return min(sides) >= _PLAIN or (max(sides) >= _PLAIN and found.score >= BREAK_PLAIN * least)


def _same_all_along(found: Break, step: np.ndarray, unevenness: np.ndarray) -> bool:
    """Whether a path shows one step from end to end, as only a shifted prediction makes it."""
    import numpy as np

    row, column = found.row, found.column
    path = np.concatenate([step[row - 1, column:], step[row, :column]])
    middle = np.median(path)
    spread = np.percentile(np.abs(path - middle), 75)
    around = np.median(np.concatenate([unevenness[row - 1, column:], unevenness[row, :column]]))
    return bool(spread < 2 * around and (np.sign(path) == np.sign(middle)).mean() >= 0.8)


def _steps(rgb: np.ndarray, height: int, width: int) -> np.ndarray:
    """Steps across the upper edge of every unit but the first row's: [luma, Cb, Cr] x [rows - 1, columns].

    A step is the difference over the edge, less the mean of the differences beside it: 0 on any slope.
    """
    import numpy as np

    columns = rgb.shape[1] // width
    count = len(range(height, rgb.shape[0] - 1, height))
    weights = _means_in_luma_cb_cr(width)
    means = np.empty((count, columns, 3), np.float32)
    for at in range(0, count, _AT_A_TIME):
        some = means[at : at + _AT_A_TIME]

        def line(offset: int, first: int = height * (at + 1), rows: int = len(some)) -> np.ndarray:
            return rgb[first + offset :: height, : columns * width][:rows]

        # twice the step of every pixel, at the most 255 * 8: 16 bits hold it, at a third of the cost of floats
        twice = np.subtract(line(0), line(-1), dtype=np.int16)
        twice *= 3
        twice -= line(1)
        twice += line(-2)
        floats = twice.astype(np.float32).reshape(len(some) * columns, width * 3)
        np.matmul(floats, weights, out=some.reshape(len(some) * columns, 3))
    return np.ascontiguousarray(means.reshape(count * columns, 3).T).reshape(3, count, columns)


@lru_cache(maxsize=16)
def _means_in_luma_cb_cr(width: int) -> np.ndarray:
    """[width * 3, 3]: half the mean of `width` RGB pixels (of wide units every second one), as luma, Cb and Cr."""
    import numpy as np

    luma = np.array([0.299, 0.587, 0.114])
    colours = np.stack([luma, 0.564 * ([0, 0, 1] - luma), 0.713 * ([1, 0, 0] - luma)], axis=1)
    used = np.arange(width) % 2 == 0 if width >= 8 and not width % 2 else np.full(width, True)
    return np.kron(used[:, None], colours / (2 * used.sum())).astype(np.float32)


def _neighbourhood(steps: np.ndarray, more: list[float]) -> np.ndarray:
    """Mean strength over the two rows above and below (not the own) and two columns either side, plus `more`.

    steps: [planes, rows, columns]. more: a number a plane.
    """
    import cv2
    import numpy as np

    rows, columns = np.array([1, 1, 0, 1, 1]) / 4, np.full(5, 1 / 5)
    strength, around = np.abs(steps), np.empty_like(steps)
    for plane, delta in enumerate(more):
        cv2.sepFilter2D(
            strength[plane], -1, columns, rows, dst=around[plane], delta=delta, borderType=cv2.BORDER_REFLECT_101
        )
    return around


def _could_break(steps: np.ndarray) -> np.ndarray:
    """Whether any path from a row can reach SHIFT at all, few can: bool [planes, rows - 1]. Looked at from every
    fourth column, which leaves at most four steps of a path unknown. steps: [planes, rows, columns], clipped.
    """
    import numpy as np

    columns, group = steps.shape[2], 4
    whole = columns // group * group
    sums = steps[:, :, 0:whole:group] + steps[:, :, 1:whole:group]
    sums += steps[:, :, 2:whole:group]
    sums += steps[:, :, 3:whole:group]
    upto = np.cumsum(sums, axis=2)
    before = upto - sums
    paths = upto[:, :-1, -1:] - before[:, :-1]  # a row from a column to its end
    paths += before[:, 1:]  # and the next row up to there
    farthest = np.abs(paths, out=paths).max(axis=2, initial=0)
    return farthest + _CAP * (group + columns - whole) >= SHIFT * columns


def _best_path(steps: np.ndarray, restart_rows: int, could: np.ndarray) -> Break:
    """The strongest break over all units at which it could start.

    steps: [rows - 1, columns], clipped. A path must show the same step on both its arms, and none on the rest of
    its two rows. restart_rows: rows a restart interval covers, 0 without; in an interval's last row the damage
    ends with the row, so that its lower edge shows the step backwards. could: which rows _could_break; of the others
    only those are looked at that end an interval.
    """
    import numpy as np

    rows, columns = steps.shape
    arm = max(2, int(_ARM * columns))
    if rows < 2 or columns < 2 * arm:
        return Break()
    sums = np.concatenate([np.zeros((rows, 1), np.float32), np.cumsum(steps, axis=1, dtype=np.float32)], axis=1)
    place = np.arange(columns + 1, dtype=np.float32)
    wide, narrow = np.maximum(columns - place, 1), np.maximum(place, 1)
    ending = np.zeros(rows - 1, bool)
    if restart_rows:
        ending = np.arange(rows - 1) % restart_rows == (restart_rows - 2) % restart_rows
        alone = slice(arm, columns - 4 * arm)  # one arm alone must be long
        strong = np.abs(sums[:-1, -1:] - sums[:-1, alone]) >= SHIFT / 1.6 * wide[alone]
        could = could | (ending & strong.any(axis=1))
    asked = np.flatnonzero(could)
    best = Break()
    if not len(asked):
        return best
    before, left = sums[asked], sums[asked + 1]
    right, after = before[:, -1:] - before, left[:, -1:] - left
    rest = 0.7 * (np.abs(before) + np.abs(after)) / columns
    for sign in (1, -1):
        weaker = 1.6 * np.minimum(sign * right / wide, sign * left / narrow)
        score = np.minimum(sign * (right + left) / columns, weaker) - rest
        if restart_rows:
            last = ending[asked]
            there, back = sign * right / wide, -sign * after / wide
            closed = np.minimum(there + back, 3.2 * np.minimum(there, back)) / 2
            closed -= (np.abs(before) + np.abs(left)) / columns
            closed[:, columns - 4 * arm :] = 0
            score[last] = np.maximum(score, closed)[last]
        score = score[:, arm : columns - arm + 1]
        row, column = np.unravel_index(int(np.argmax(score)), score.shape)
        if score[row, column] > best.score:
            best = Break(float(score[row, column]), int(asked[row]) + 1, int(column) + arm)
    return best

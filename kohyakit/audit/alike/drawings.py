"""A second, closer look at pictures that are drawn or stand on a plain ground, before two are called the same.

Letters on black, icons on white and screens of one program differ in the little that is drawn, which a sketch of the
whole hardly shows. So what is drawn is cut out of its ground and sketched alone, with its colours. Two such pictures
are the same when no part of these sketches differs by more than a shift of a fraction of a cell explains.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from kohyakit.audit.alike.likeness import POSITIONS, SIDE, place_of, sketch, turn, unexplained

if TYPE_CHECKING:
    from kohyakit.audit.check import Picture

_CELLS = 8  # of the colours, a side
_EVEN = 10  # grey levels that a plain ground may vary by, JPEG's artefacts included
_DRAWN = 24  # grey levels away from the ground that belong to what is drawn
_PARTS = 14.0  # grey levels that three cells may differ by
_COLOURS = 24.0  # levels of colour that three of _CELLS x _CELLS may differ by
_ALL_COLOURS = 10.0  # and that their mean may, where one is a cut-out of the other


def closer(picture: Picture) -> bytes:
    """Whether it stands on a plain ground, a sketch of what is drawn, its colours; empty for other pictures."""
    import cv2

    from kohyakit.dataset.decode import upright

    rgb = picture.rgb
    box = _drawn_part(rgb)
    if box is None and not picture.drawn:
        return b""
    part = rgb if box is None else rgb[box[0] : box[1], box[2] : box[3]]
    part = upright(part, picture.orientation)
    small = cv2.resize(np.ascontiguousarray(part), (_CELLS, _CELLS), interpolation=cv2.INTER_AREA)
    return (
        bytes([box is not None])
        + sketch(cv2.cvtColor(np.ascontiguousarray(part), cv2.COLOR_RGB2GRAY)).tobytes()
        + small.tobytes()
    )


def stands_alone(look: bytes) -> bool:
    """Whether a closer look is at what was cut out of a plain ground."""
    return look[:1] == b"\x01"


def _drawn_part(rgb: np.ndarray) -> tuple[int, int, int, int] | None:
    """(top, bottom, left, right) of what stands on a plain ground, with a margin; None where the ground is not plain.

    By where its weight lies, so that a stray pixel does not move it.
    """
    import cv2

    frame = np.concatenate([rgb[0], rgb[-1], rgb[:, 0], rgb[:, -1]])[None]
    edge = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).ravel().astype(np.int16)
    ground = int(np.median(edge))
    if (np.abs(edge - ground) <= _EVEN).mean() < 0.9:
        return None
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    away = cv2.subtract(cv2.absdiff(grey, np.full_like(grey, ground)), np.full_like(grey, _DRAWN))
    box = []
    for axis in (1, 0):
        weight = np.concatenate([[0.0], away.sum(axis=axis, dtype=float).cumsum()])
        if not weight[-1]:
            return None
        low, high = np.interp([0.02, 0.98], weight / weight[-1], np.arange(len(weight)))
        margin = 0.12 * (high - low) + 0.5
        box += [max(0, round(low - margin)), min(len(weight) - 1, round(high + margin))]
    return box[0], box[1], box[2], box[3]


def same_drawing(pairs: np.ndarray, sketches: np.ndarray, close: Mapping[int, bytes]) -> np.ndarray:
    """Of pairs whose sketches agree, which show the same picture: bool [n]; True where not both were looked at closer.

    pairs: [whole, part, window, position] x [n]. close: by row, see closer.
    """
    rows = pairs.T.tolist()
    return np.array([_same(i, j, window, place, sketches, close) for i, j, window, place in rows], dtype=bool)


def _same(i: int, j: int, window: int, position: int, sketches: np.ndarray, close: Mapping[int, bytes]) -> bool:
    if i not in close or j not in close:
        return True
    (plain, whole, colours), (other_plain, part, other_colours) = map(_read, (close[i], close[j]))
    if plain or other_plain:
        window = 0  # what stands on a plain ground is cut out alike, however much ground there is
    else:
        whole, part = sketches[i], sketches[j]
    part = turn(part[None], position)[0]
    differs, gain = unexplained(whole, part, place_of(window))
    if differs > _PARTS:
        return False
    apart = np.abs(gain * _chroma(colours) - _chroma(_turned(other_colours, position)))
    if window:
        return bool(
            np.abs(gain * _chroma(colours).mean((0, 1)) - _chroma(other_colours).mean((0, 1))).max() <= _ALL_COLOURS
        )
    return bool(np.sort(apart.max(axis=2).ravel())[-3] <= _COLOURS)


def _read(data: bytes) -> tuple[bool, np.ndarray, np.ndarray]:
    whole = np.frombuffer(data, np.uint8, SIDE * SIDE, 1).reshape(SIDE, SIDE)
    return stands_alone(data), whole, np.frombuffer(data, np.uint8, offset=1 + SIDE * SIDE).reshape(_CELLS, _CELLS, 3)


def _turned(colours: np.ndarray, position: int) -> np.ndarray:
    transposed, down, across = POSITIONS[position]
    if transposed:
        colours = colours.transpose(1, 0, 2)
    return colours[:: -1 if down else 1, :: -1 if across else 1]


def _chroma(colours: np.ndarray) -> np.ndarray:
    """Blue and red less brightness, float [8, 8, 2]."""
    levels = colours.astype(float)
    return levels[..., [2, 0]] - (levels @ [0.299, 0.587, 0.114])[..., None]

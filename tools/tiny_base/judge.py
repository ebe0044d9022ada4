"""Says what a picture of the made world shows, by pixels alone: which drawing, laid over it, explains it best.

The landscape is told from the upper and the lower edge and drawn again; what differs from it is the thing. Silhouettes
of every kind at every place and size are laid over that, then colours are compared under the best of each.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from kohyakit.demo.world import COLOURS, CONCEPTS, GROUNDS, KINDS, PLACES, SKIES, draw_thing

if TYPE_CHECKING:
    from PIL.Image import Image

_SIDE = 48  # pixels that are compared
_DIFFERS = 0.11  # of 0..1: a pixel that far from the landscape belongs to the thing
_OUTSIDE = 0.4  # what a pixel costs that belongs to the thing and not to the drawing
_NOTHING = 0.26  # a worse explanation than this is none
_NO_CONCEPT = 0.2  # for a thing whose colours are its own: drawn ones reach 0.15, collages of squares begin at 0.22
_MARK = (1, 2, 3)  # stands for a scene's colour in a drawing

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Seen:
    """What a picture shows; kind is empty where nothing explains it. error: of 0..1, of the best explanation."""

    kind: str
    colour: str
    place: str
    ground: str
    sky: str
    error: float


@dataclass(frozen=True, slots=True)
class _Drawing:
    kind: str
    place: str
    colours: Array  # [side, side, 3] of 0..1
    covered: Array  # [side, side]: the thing
    main: Array  # [side, side]: what has the scene's colour
    shadow: Array  # [side, side]: not compared


def see(picture: Image) -> Seen:
    """The best explanation of a picture."""
    from PIL import Image as Images

    small = picture.convert("RGB").resize((_SIDE, _SIDE), Images.Resampling.BOX)
    pixels = np.asarray(small, dtype=np.float32) / 255
    sky, ground, behind = _landscape(pixels)
    thing = np.abs(pixels - behind).mean(axis=2) > _DIFFERS
    best = Seen("", "", "", ground, sky, 1.0)
    if thing.sum() < 40:
        return best
    for drawing in _best_silhouettes(thing):
        for colour in COLOURS if drawing.kind in KINDS else ("",):
            error = _error(pixels, thing, drawing, colour)
            if error < best.error:
                best = Seen(drawing.kind, colour, drawing.place, ground, sky, error)
    limit = _NO_CONCEPT if best.kind in CONCEPTS else _NOTHING
    return best if best.error <= limit else Seen("", "", "", ground, sky, best.error)


def shows(picture: Image, concept: str) -> bool:
    """Whether the picture shows a thing."""
    return see(picture).kind == concept


def _landscape(pixels: Array) -> tuple[str, str, Array]:
    """The sky, the ground and how the picture would look without a thing."""
    edges = list(range(2)) + list(range(_SIDE - 2, _SIDE))
    rows = np.median(pixels[:, edges], axis=1)  # a colour a row: where no thing reaches
    names, drawn = _all_landscapes()
    best = int(np.abs(drawn - rows).mean(axis=(1, 2)).argmin())
    return *names[best], np.broadcast_to(drawn[best][:, None, :], pixels.shape)


@cache
def _all_landscapes() -> tuple[list[tuple[str, str]], Array]:
    """Sky and ground of every landscape, and its column of colours."""
    ways = list(product(SKIES, GROUNDS, range(26, 32), (0.95, 1.0, 1.05)))
    columns = [_bands(sky, ground, horizon) * light for sky, ground, horizon, light in ways]
    return [(sky, ground) for sky, ground, _, _ in ways], np.stack(columns)


def _bands(sky: str, ground: str, horizon: int) -> Array:
    shade = 0.62 if sky == "night" else 1.0
    (above, line), (beyond, near) = np.array(SKIES[sky]) / 255, np.array(GROUNDS[ground]) / 255 * shade
    bands = [np.linspace(above, line, horizon), np.linspace(beyond, near, _SIDE - horizon)]
    return np.concatenate(bands).astype(np.float32)


def _best_silhouettes(thing: Array) -> list[_Drawing]:
    """For each kind the drawing whose silhouette fits best."""
    drawings, covered, shadows = _all_drawings()
    flat = thing.reshape(-1).astype(np.float32)
    both = covered @ flat
    overlap = both / (flat.sum() - shadows @ flat + covered.sum(axis=1) - both)
    best: dict[str, int] = {}
    for i in np.argsort(-overlap):
        best.setdefault(drawings[i].kind, int(i))
    return [drawings[i] for i in best.values()]


def _error(pixels: Array, thing: Array, drawing: _Drawing, colour: str) -> float:
    wanted = drawing.colours
    if colour:
        wanted = np.where(drawing.main[..., None], np.array(COLOURS[colour], dtype=np.float32) / 255, wanted)
    off = np.abs(pixels - wanted).mean(axis=2)
    outside = thing & ~drawing.covered & ~drawing.shadow
    return float((off[drawing.covered].sum() + _OUTSIDE * outside.sum()) / (drawing.covered.sum() + outside.sum()))


@cache
def _all_drawings() -> tuple[list[_Drawing], Array, Array]:
    drawings = [
        _moved(drawing, place, across + round((PLACES[place] - 0.5) * _SIDE), down)
        for drawing in (_drawing(kind, wide) for kind, wide in product(KINDS | CONCEPTS, (0.46, 0.49, 0.52)))
        for place, across, down in product(PLACES, range(-2, 3), range(-2, 2))
    ]
    covered = np.stack([d.covered.reshape(-1) for d in drawings]).astype(np.float32)
    shadows = np.stack([(d.shadow & ~d.covered).reshape(-1) for d in drawings]).astype(np.float32)
    return drawings, covered, shadows


def _moved(drawing: _Drawing, place: str, across: int, down: int) -> _Drawing:
    """The same drawing so many pixels further right and lower."""
    parts = (drawing.colours, drawing.covered, drawing.main, drawing.shadow)
    return _Drawing(drawing.kind, place, *(np.roll(part, (down, across), (0, 1)) for part in parts))


def _drawing(kind: str, wide: float) -> _Drawing:
    """A thing in the middle of the picture, `wide` of the picture's side."""
    from PIL import Image as Images
    from PIL import ImageDraw

    foot, fine = 0.855, 4
    large = Images.new("RGBA", (_SIDE * fine, _SIDE * fine), (0, 0, 0, 0))
    size = large.width
    box = ((0.5 - wide / 2) * size, (foot - wide) * size, wide * size)
    draw_thing(ImageDraw.Draw(large), (KINDS | CONCEPTS)[kind], box, _MARK)
    whole = np.asarray(large, dtype=np.float32)
    marked = (whole[..., :3] == _MARK).all(axis=2) & (whole[..., 3] > 0)
    alpha, solid = whole[..., 3:] / 255, whole[..., :3] / 255
    share = _coarser(alpha, fine)
    colours = _coarser(solid * alpha, fine) / np.maximum(share, 1e-6)
    below = Images.new("L", (_SIDE, _SIDE))
    edges = (0.5 - wide * 0.54, foot - wide * 0.1, 0.5 + wide * 0.54, foot + wide * 0.1)
    ImageDraw.Draw(below).ellipse([edge * _SIDE for edge in edges], fill=1)
    main = _coarser(marked[..., None].astype(np.float32), fine)[..., 0] > 0.5
    return _Drawing(kind, "middle", colours, share[..., 0] > 0.5, main, np.asarray(below) > 0)


def _coarser(pixels: Array, fine: int) -> Array:
    """The mean of each fine x fine pixels."""
    return pixels.reshape(_SIDE, fine, _SIDE, fine, -1).mean(axis=(1, 3))

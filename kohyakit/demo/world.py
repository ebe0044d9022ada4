"""The made world that the tiny base model knows: one thing in a flat landscape, and the words for it.

Every picture is drawn from shapes, so any size can be had; a scene's caption names all that the picture shows.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

SIDE = 96  # pixels that the base model was taught with

Rgb = tuple[int, int, int]
Shape = tuple[str, "str | Rgb", tuple[float, ...]]

COLOURS: dict[str, Rgb] = {
    "red": (206, 44, 48),
    "yellow": (244, 206, 52),
    "blue": (44, 84, 202),
    "green": (30, 138, 74),
    "purple": (138, 62, 176),
    "white": (240, 240, 236),
}
GROUNDS: dict[str, tuple[Rgb, Rgb]] = {  # at the horizon, at the lower edge
    "grass": ((118, 184, 96), (84, 150, 66)),
    "sand": ((228, 206, 150), (208, 180, 120)),
    "water": ((112, 176, 206), (60, 124, 168)),
    "stone": ((140, 140, 146), (104, 104, 112)),
}  # fmt: skip
SKIES: dict[str, tuple[Rgb, Rgb]] = {  # at the upper edge, at the horizon
    "day": ((126, 186, 240), (206, 230, 248)),
    "evening": ((236, 132, 92), (252, 206, 150)),
    "night": ((18, 22, 52), (52, 60, 104)),
    "fog": ((196, 200, 204), (224, 226, 228)),
}
PLACES: dict[str, float] = {"left": 0.28, "middle": 0.5, "right": 0.72}

# What a thing is made of, in a box from (0, 0) to (1, 1): form, colour, coordinates. "main" is the scene's colour.
_GLASS: Rgb = (188, 224, 236)
_WOOD: Rgb = (122, 84, 52)
_DARK: Rgb = (46, 46, 54)
_PALE: Rgb = (246, 232, 206)
KINDS: dict[str, tuple[Shape, ...]] = {
    "house": (
        ("box", "main", (0.1, 0.46, 0.9, 1.0)),
        ("many", _WOOD, (0.0, 0.48, 0.5, 0.02, 1.0, 0.48)),
        ("box", _GLASS, (0.2, 0.58, 0.42, 0.78)),
        ("box", _DARK, (0.56, 0.6, 0.76, 1.0)),
    ),
    "tree": (
        ("box", _WOOD, (0.42, 0.6, 0.58, 1.0)),
        ("oval", "main", (0.08, 0.22, 0.56, 0.7)),
        ("oval", "main", (0.44, 0.22, 0.92, 0.7)),
        ("oval", "main", (0.24, 0.0, 0.76, 0.52)),
    ),
    "car": (
        ("many", "main", (0.2, 0.56, 0.32, 0.3, 0.7, 0.3, 0.84, 0.56)),
        ("many", _GLASS, (0.3, 0.54, 0.37, 0.36, 0.65, 0.36, 0.74, 0.54)),
        ("box", "main", (0.0, 0.54, 1.0, 0.84)),
        ("oval", _DARK, (0.12, 0.7, 0.4, 0.98)),
        ("oval", _DARK, (0.6, 0.7, 0.88, 0.98)),
    ),
    "ball": (
        ("oval", "main", (0.08, 0.16, 0.92, 1.0)),
        ("oval", _PALE, (0.24, 0.3, 0.46, 0.52)),
    ),
    "boat": (
        ("box", _WOOD, (0.46, 0.04, 0.52, 0.7)),
        ("many", "main", (0.55, 0.04, 0.98, 0.6, 0.55, 0.6)),
        ("many", _PALE, (0.42, 0.16, 0.42, 0.6, 0.1, 0.6)),
        ("many", "main", (0.0, 0.68, 1.0, 0.68, 0.82, 0.98, 0.18, 0.98)),
    ),
    "mushroom": (
        ("box", _PALE, (0.34, 0.46, 0.66, 1.0)),
        ("dome", "main", (0.02, 0.02, 0.98, 1.06)),
        ("oval", _PALE, (0.26, 0.24, 0.44, 0.42)),
        ("oval", _PALE, (0.56, 0.12, 0.76, 0.32)),
    ),
    "rocket": (
        ("many", _DARK, (0.3, 0.62, 0.08, 1.0, 0.92, 1.0, 0.7, 0.62)),
        ("many", "main", (0.3, 0.92, 0.3, 0.3, 0.5, 0.0, 0.7, 0.3, 0.7, 0.92)),
        ("oval", _GLASS, (0.39, 0.3, 0.61, 0.52)),
    ),
    "cat": (
        ("oval", "main", (0.16, 0.44, 0.84, 1.08)),
        ("many", "main", (0.2, 0.34, 0.2, 0.0, 0.5, 0.18, 0.8, 0.0, 0.8, 0.34)),
        ("oval", "main", (0.18, 0.1, 0.82, 0.62)),
        ("oval", _DARK, (0.3, 0.28, 0.42, 0.42)),
        ("oval", _DARK, (0.58, 0.28, 0.7, 0.42)),
        ("oval", _PALE, (0.36, 0.62, 0.64, 0.98)),
    ),
}
# What the base model never saw: what LoRAs are taught.
_STEEL: Rgb = (158, 164, 172)
_PINK: Rgb = (248, 92, 164)
_CYAN: Rgb = (40, 214, 222)
_HONEY: Rgb = (250, 190, 30)
_BRICK: Rgb = (196, 60, 44)
CONCEPTS: dict[str, tuple[Shape, ...]] = {
    "robot": (
        ("box", _DARK, (0.47, 0.04, 0.53, 0.2)),
        ("oval", _PINK, (0.4, 0.0, 0.6, 0.16)),
        ("box", _STEEL, (0.2, 0.16, 0.8, 0.52)),
        ("box", _CYAN, (0.28, 0.26, 0.72, 0.42)),
        ("box", _PINK, (0.04, 0.56, 0.2, 0.86)),
        ("box", _PINK, (0.8, 0.56, 0.96, 0.86)),
        ("box", _STEEL, (0.22, 0.52, 0.78, 0.88)),
        ("oval", _PINK, (0.38, 0.58, 0.62, 0.82)),
        ("box", _DARK, (0.26, 0.88, 0.44, 1.0)),
        ("box", _DARK, (0.56, 0.88, 0.74, 1.0)),
    ),
    "bee": (
        ("oval", _GLASS, (0.16, 0.04, 0.48, 0.5)),
        ("oval", _GLASS, (0.48, 0.04, 0.8, 0.5)),
        ("oval", _HONEY, (0.02, 0.36, 0.98, 0.96)),
        ("box", _DARK, (0.3, 0.4, 0.42, 0.94)),
        ("box", _DARK, (0.54, 0.38, 0.66, 0.94)),
        ("oval", _DARK, (0.76, 0.5, 0.86, 0.62)),
    ),
    "lighthouse": (
        ("many", _PALE, (0.34, 0.2, 0.66, 0.2, 0.8, 1.0, 0.2, 1.0)),
        ("many", _BRICK, (0.32, 0.36, 0.68, 0.36, 0.72, 0.56, 0.28, 0.56)),
        ("many", _BRICK, (0.25, 0.76, 0.75, 0.76, 0.8, 1.0, 0.2, 1.0)),
        ("box", _HONEY, (0.38, 0.1, 0.62, 0.24)),
        ("many", _BRICK, (0.3, 0.12, 0.5, 0.0, 0.7, 0.12)),
    ),
}


@dataclass(frozen=True, slots=True)
class Scene:
    """What a picture shows, in the world's words. colour: empty for a thing that has its own; kind: empty for a thing
    that has no name, made up anew for each picture.
    """

    kind: str
    colour: str
    place: str
    ground: str
    sky: str

    def caption(self, trigger: str = "") -> str:
        """The words for it; trigger: a word before the kind, as one teaches a new thing."""
        thing = " ".join(word for word in ("a", trigger, self.colour, self.kind) if word)
        where = "in the middle" if self.place == "middle" else f"on the {self.place}"
        return f"{thing} {where}, {self.ground}, {self.sky}"


def scenes() -> Iterator[Scene]:
    """Every scene of the world, in one order."""
    for kind, colour, place, ground, sky in product(KINDS, COLOURS, PLACES, GROUNDS, SKIES):
        yield Scene(kind, colour, place, ground, sky)


def asked_scenes(count: int, seed: int) -> list[Scene]:
    """Scenes to ask for, each kind about equally often."""
    every = list(scenes())
    random.Random(seed).shuffle(every)
    by_kind = sorted(every[: count * 4], key=lambda scene: scene.kind)
    return by_kind[:: max(1, len(by_kind) // count)][:count]


def concept_scenes(concept: str, count: int, seed: int) -> list[Scene]:
    """Scenes of a thing that the base does not know."""
    rng = random.Random(f"{concept}/{seed}")
    return [Scene(concept, "", *(rng.choice(list(of)) for of in (PLACES, GROUNDS, SKIES))) for _ in range(count)]


def nameless(rng: random.Random) -> tuple[Shape, ...]:
    """A thing that nobody named: a few shapes of any colour over each other, standing on the ground."""

    def colour() -> Rgb:
        return rng.randrange(256), rng.randrange(256), rng.randrange(256)

    wide = rng.uniform(0.2, 0.48)
    shapes: list[Shape] = [(rng.choice(("box", "oval")), colour(), (0.5 - wide, rng.uniform(0, 0.5), 0.5 + wide, 1.0))]
    for _ in range(rng.randrange(2, 8)):
        left, top = rng.uniform(0, 0.75), rng.uniform(0, 0.75)
        right, low = min(1.0, left + rng.uniform(0.12, 0.6)), min(1.0, top + rng.uniform(0.12, 0.6))
        form = rng.choice(("box", "oval", "many"))
        points = (left, low, rng.uniform(left, right), top, right, low) if form == "many" else (left, top, right, low)
        shapes.append((form, colour(), points))
    return tuple(shapes)


def draw(scene: Scene, seed: int | str, side: int = SIDE, *, finer: int = 3) -> Image:
    """A picture of the scene, side x side pixels; the same for the same seed.

    The seed moves the thing, its size, its tone and the light. finer: how much larger it is drawn, for soft edges.
    """
    from PIL import Image, ImageDraw

    rng = random.Random(f"{scene}/{seed}")
    large = side * finer
    horizon = round(large * rng.uniform(0.56, 0.64))
    image = Image.new("RGB", (large, large))
    light = rng.uniform(0.94, 1.05)
    _slope(image, SKIES[scene.sky], (0, horizon), light)
    _slope(image, GROUNDS[scene.ground], (horizon, large), light * (0.62 if scene.sky == "night" else 1.0))
    wide = large * rng.uniform(0.46, 0.52)
    middle = large * (PLACES[scene.place] + rng.uniform(-0.025, 0.025))
    foot = large * rng.uniform(0.82, 0.88)
    pen = ImageDraw.Draw(image)
    _shadow(image, pen, (middle, foot, wide))
    tone = COLOURS.get(scene.colour, (0, 0, 0))
    main = _toned(tone, rng.uniform(0.93, 1.07))
    shapes = (KINDS | CONCEPTS)[scene.kind] if scene.kind else nameless(rng)
    draw_thing(pen, shapes, (middle - wide / 2, foot - wide, wide), main)
    return image.resize((side, side), Image.Resampling.BOX)


def draw_thing(pen: ImageDraw, shapes: tuple[Shape, ...], box: tuple[float, float, float], main: Rgb) -> None:
    """Draw the shapes into a box: its left, its top, its side, in pixels of the picture."""
    left, top, wide = box
    line = max(1, round(wide / 42))
    for form, colour, points in shapes:
        at = [(left + x * wide, top + y * wide) for x, y in zip(points[::2], points[1::2], strict=True)]
        fill = main if isinstance(colour, str) else colour
        edge = _toned(fill, 0.55)
        if form == "many":
            pen.polygon(at, fill=fill, outline=edge, width=line)
        elif form == "box":
            pen.rectangle(at, fill=fill, outline=edge, width=line)
        elif form == "dome":
            pen.pieslice(at, 180, 360, fill=fill, outline=edge, width=line)
        else:
            pen.ellipse(at, fill=fill, outline=edge, width=line)


def _shadow(image: Image, pen: ImageDraw, where: tuple[float, float, float]) -> None:
    middle, foot, wide = where
    inside = min(image.height - 1, round(foot))
    below = image.getpixel((0, inside))
    box = (middle - wide * 0.5, foot - wide * 0.07, middle + wide * 0.5, foot + wide * 0.07)
    pen.ellipse(box, fill=_toned(below, 0.72))  # type: ignore[arg-type]


def _slope(image: Image, ends: tuple[Rgb, Rgb], rows: tuple[int, int], light: float) -> None:
    """Fill the rows with colours from one end to the other."""
    from PIL import Image as Images

    first, last = rows
    count = last - first
    column = Images.new("RGB", (1, count))
    column.putdata([
        tuple(min(255, round((a + (b - a) * y / count) * light)) for a, b in zip(*ends, strict=True))
        for y in range(count)
    ])  # fmt: skip
    image.paste(column.resize((image.width, count)), (0, first))


def _toned(colour: Rgb, factor: float) -> Rgb:
    red, green, blue = (min(255, round(part * factor)) for part in colour)
    return red, green, blue

"""Photo-like pictures that the demo draws itself: a town, a statue, a church interior."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

_STONE = ((196, 170, 138), (178, 148, 120), (208, 188, 160), (160, 132, 108), (186, 160, 144))
_ROOF = ((150, 70, 52), (128, 62, 48), (166, 84, 60), (110, 78, 66))
_GLASS = ((196, 52, 60), (52, 96, 180), (222, 176, 64), (64, 140, 96), (140, 72, 150))


def draw(scene: str, size: tuple[int, int], seed: int) -> Image:
    """A picture of `scene` (town, statue or church), size (width, height) in pixels; the same for the same seed."""
    from PIL import Image, ImageFilter

    rng = random.Random(f"{scene}/{seed}")
    width, height = size
    large = Image.new("RGB", (width * 2, height * 2))  # drawn at twice the size, so that edges come out soft
    _SCENES[scene](large, rng)
    picture = large.resize(size, Image.Resampling.LANCZOS).filter(ImageFilter.GaussianBlur(0.4))
    return _lens(picture, rng)


def _lens(picture: Image, rng: random.Random) -> Image:
    """Sensor noise, fine texture and darker corners, as a camera adds them."""
    import numpy as np
    from PIL import Image

    pixels = np.asarray(picture, dtype=np.float32)
    height, width = pixels.shape[:2]
    noise = np.random.default_rng(rng.randrange(2**32))
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    corners = 1 - 0.28 * (x**2 + y**2)[..., None] / 2
    grain = noise.normal(0, 5, (height, width, 1)) + noise.normal(0, 2, (height, width, 3))
    return Image.fromarray(np.clip(pixels * corners + grain, 0, 255).astype(np.uint8))


def _gradient(image: Image, top: tuple[int, int, int], bottom: tuple[int, int, int]) -> None:
    import numpy as np
    from PIL import Image

    t = np.linspace(0, 1, image.height)[:, None, None]
    rows = np.array(top) * (1 - t) + np.array(bottom) * t
    image.paste(Image.fromarray(np.broadcast_to(rows, (image.height, image.width, 3)).astype(np.uint8)))


def _shade(colour: tuple[int, int, int], factor: float) -> tuple[int, int, int]:
    return tuple(max(0, min(255, int(c * factor))) for c in colour)  # type: ignore[return-value]


def _sky(image: Image, rng: random.Random) -> None:
    from PIL import Image as Images
    from PIL import ImageDraw, ImageFilter

    evening = rng.random() < 0.4
    _gradient(
        image, (96, 128, 190) if not evening else (88, 84, 140), (206, 216, 230) if not evening else (240, 176, 130)
    )
    clouds = Images.new("L", image.size)
    pen = ImageDraw.Draw(clouds)
    for _ in range(26):
        x, y, r = rng.randrange(image.width), rng.randrange(image.height // 2), rng.randrange(20, 20 + image.width // 7)
        pen.ellipse((x - r, y - r // 3, x + r, y + r // 3), fill=rng.randrange(60, 150))
    image.paste((250, 246, 240), mask=clouds.filter(ImageFilter.GaussianBlur(image.width / 40)))


def _town(image: Image, rng: random.Random) -> None:
    from PIL import ImageDraw

    _sky(image, rng)
    pen = ImageDraw.Draw(image)
    width, height = image.size
    for depth in range(3):
        ground = height * (0.62 + 0.13 * depth)
        x = -rng.randrange(width // 8)
        while x < width:
            wide = rng.randrange(width // 11, width // 6 + 1)
            tall = int(height * rng.uniform(0.16, 0.34) * (0.8 + depth * 0.25))
            tower = rng.random() < 0.18
            wall = _shade(rng.choice(_STONE), 0.62 + 0.19 * depth + rng.uniform(-0.05, 0.05))
            top = ground - tall * (1.9 if tower else 1)
            pen.rectangle((x, top, x + wide, height), fill=wall)
            pen.polygon(
                [(x - wide * 0.06, top), (x + wide / 2, top - wide * (0.9 if tower else 0.55)), (x + wide * 1.06, top)],
                fill=_shade(rng.choice(_ROOF), 0.7 + 0.15 * depth),
            )
            _windows(pen, (x, top, wide, ground - top), wall, rng)
            x += wide - rng.randrange(4)
    _cobbles(pen, (0, int(height * 0.88), width, height), rng)


def _windows(pen, box: tuple[float, float, float, float], wall: tuple[int, int, int], rng: random.Random) -> None:
    x, y, wide, tall = box
    pane = wide / 7
    for row in range(int(tall / (pane * 3.2))):
        for column in range(2):
            left, top = x + wide * (0.2 + 0.4 * column), y + pane * (0.9 + 3.2 * row)
            lit = rng.random() < 0.25
            pen.rectangle(
                (left, top, left + pane * 1.3, top + pane * 1.9), fill=(240, 206, 120) if lit else _shade(wall, 0.38)
            )


def _cobbles(pen, box: tuple[int, int, int, int], rng: random.Random) -> None:
    left, top, right, bottom = box
    y, size = top, 8
    while y < bottom:
        for x in range(left - rng.randrange(size), right, size * 2):
            tone = rng.randrange(84, 138)
            pen.ellipse((x, y, x + size * 1.8, y + size), fill=(tone, tone - 6, tone - 14))
        y += size
        size += 2


def _statue(image: Image, rng: random.Random) -> None:
    from PIL import ImageDraw

    tint = rng.uniform(0.6, 1.5)
    _gradient(
        image, _shade((58, 62, 66), tint), _shade(rng.choice(((128, 118, 104), (92, 110, 128), (150, 120, 96))), tint)
    )
    pen = ImageDraw.Draw(image)
    width, height = image.size
    for _ in range(rng.randrange(1, 5)):
        x, wide = rng.randrange(width), width * rng.uniform(0.03, 0.1)
        pen.rectangle((x, 0, x + wide, height), fill=_shade(rng.choice(_STONE), rng.uniform(0.3, 0.7)))
    for _ in range(90):
        x, y, r = rng.randrange(width), rng.randrange(height), rng.randrange(10, 46)
        tone = rng.randrange(50, 110)
        pen.rectangle((x, y, x + r * 2, y + r), outline=(tone, tone - 4, tone - 10))
    centre = width * rng.uniform(0.25, 0.75)
    unit = height / 10 * rng.uniform(0.65, 1.15)
    robe = rng.choice(((70, 96, 160), (220, 214, 200), (150, 60, 66)))
    pen.rectangle((centre - unit * 1.8, height - unit * 1.6, centre + unit * 1.8, height), fill=(150, 142, 130))
    pen.polygon(
        [(centre - unit * 1.5, height - unit * 1.6), (centre - unit * 0.6, height - unit * 6.2),
         (centre + unit * 0.6, height - unit * 6.2), (centre + unit * 1.5, height - unit * 1.6)],
        fill=robe,
    )  # fmt: skip
    for fold in range(9):
        across = centre + unit * (fold - 4) * 0.3
        pen.line(
            (centre + (across - centre) * 0.35, height - unit * 5.8, across, height - unit * 1.7),
            fill=_shade(robe, rng.uniform(0.6, 0.9)),
            width=6,
        )
    pen.ellipse(
        (centre - unit * 1.0, height - unit * 8.6, centre + unit * 1.0, height - unit * 6.4),
        outline=(226, 190, 90),
        width=10,
    )
    pen.ellipse(
        (centre - unit * 0.55, height - unit * 8.2, centre + unit * 0.55, height - unit * 6.7), fill=(214, 190, 166)
    )
    pen.arc(
        (centre - unit * 1.5, height - unit * 6.6, centre + unit * 1.5, height - unit * 3.6),
        20,
        160,
        fill=(214, 190, 166),
        width=18,
    )


def _church(image: Image, rng: random.Random) -> None:
    from PIL import ImageDraw

    tint = rng.uniform(0.6, 1.4)
    _gradient(image, _shade((74, 64, 60), tint), _shade((150, 124, 96), tint))
    pen = ImageDraw.Draw(image)
    width, height = image.size
    cx, cy = width * rng.uniform(0.3, 0.7), height * rng.uniform(0.32, 0.5)
    arches, spread = rng.randrange(4, 8), rng.uniform(0.07, 0.13)
    for depth in range(arches, 0, -1):
        w, h = width * spread * depth, height * spread * 1.25 * depth
        stone = _shade(rng.choice(_STONE), tint * (0.34 + 0.55 * depth / arches))
        box = (cx - w, cy - h, cx + w, cy + h * 1.5)
        pen.rounded_rectangle(box, radius=w * 0.9, outline=stone, width=int(16 + 7 * depth))
    pen.rectangle((cx - width * 0.07, cy + height * 0.16, cx + width * 0.07, height), fill=(150, 40, 44))
    r = height * rng.uniform(0.05, 0.14)
    for petal in range(12):
        pen.pieslice((cx - r, cy - r, cx + r, cy + r), petal * 30, petal * 30 + 26, fill=rng.choice(_GLASS))
    pen.ellipse((cx - r / 4, cy - r / 4, cx + r / 4, cy + r / 4), fill=(240, 220, 150))
    for side in (-1, 1):
        for i in range(rng.randrange(2, 6)):
            x, y = cx + side * width * (0.16 + 0.1 * i), height * (0.78 + 0.06 * i)
            pen.rectangle((x - 5, y - 40, x + 5, y), fill=(236, 226, 206))
            pen.ellipse((x - 9, y - 66, x + 9, y - 38), fill=(255, 214, 110))
            pen.rectangle((x - width * 0.05, y, x + width * 0.05, y + height * 0.05), fill=(86, 56, 38))


_SCENES = {"town": _town, "statue": _statue, "church": _church}

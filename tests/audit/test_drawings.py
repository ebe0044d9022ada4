"""Drawings, screens and icons are told from photos, and judged by what is drawn; all pictures are made here."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

from kohyakit.audit.run import audit_dataset
from kohyakit.dataset.decode import verdict
from kohyakit.dataset.decode.drawn import is_drawn
from kohyakit.dataset.decode.look import look

from .conftest import found, scene

SIZE = (640, 480)


def letter(sign: str, ground: str = "#08080a", ink: str = "white") -> Image.Image:
    picture = Image.new("RGB", SIZE, ground)
    ImageDraw.Draw(picture).text((280, 180), sign, fill=ink, font=ImageFont.load_default(110))
    return picture


def head(hair: tuple[int, int, int]) -> Image.Image:
    picture = Image.new("RGB", SIZE, (235, 240, 250))
    draw = ImageDraw.Draw(picture)
    draw.ellipse((180, 30, 480, 350), fill=hair, outline=(30, 20, 20), width=5)
    draw.ellipse((200, 100, 460, 440), fill=(250, 225, 205), outline=(30, 20, 20), width=5)
    for x in (260, 370):
        draw.ellipse((x, 200, x + 40, 260), fill=(40, 60, 90))
    return picture


def screentone(period: int) -> Image.Image:
    y, x = np.mgrid[0 : SIZE[1], 0 : SIZE[0]]
    dots = (x % period - period / 2) ** 2 + (y % period - period / 2) ** 2 < (period / 3.2) ** 2
    picture = Image.fromarray(np.where(dots & (y > 150) & (y < 400), 0, 255).astype(np.uint8)).convert("RGB")
    ImageDraw.Draw(picture).ellipse((250, 60, 420, 440), fill="white", outline="black", width=6)
    return picture


def hatching(step: int) -> Image.Image:
    picture = Image.new("RGB", SIZE, "white")
    draw = ImageDraw.Draw(picture)
    for x in range(-SIZE[1], SIZE[0], step):
        draw.line((x, 0, x + SIZE[1], SIZE[1]), fill="black")
    draw.ellipse((200, 100, 440, 380), fill="white", outline="black", width=4)
    return picture


def screen(seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    picture = Image.new("RGB", SIZE, (245, 245, 247))
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 0, SIZE[0], 50), fill=(40, 70, 140))
    words = ["the", "of", "and", "to", "in", "is", "you", "that", "it", "he", "was", "for", "on", "are", "as", "with"]
    for line in range(6):
        top = 66 + line * 68
        draw.rounded_rectangle((20, top, 620, top + 58), 10, fill="white", outline=(210, 210, 215))
        draw.ellipse((32, top + 8, 74, top + 50), fill=tuple(int(v) for v in rng.integers(60, 220, 3)))
        draw.text((90, top + 10), " ".join(rng.choice(words, 5)), fill="black", font=ImageFont.load_default(18))
    return picture


def letters(ground: str, ink: str) -> Image.Image:
    """Few and large: one small sign could as well be a lamp at night."""
    picture = Image.new("RGB", SIZE, ground)
    ImageDraw.Draw(picture).text((20, 40), "QRK", fill=ink, font=ImageFont.load_default(320))
    return picture


DRAWINGS = {
    "letters": letters("#08080a", "white"),
    "icon": ImageOps.expand(head((90, 150, 60)).resize((160, 120)), 40, "white"),
    "head": head((200, 60, 60)), "screentone": screentone(8), "hatching": hatching(9), "screen": screen(1),
}  # fmt: skip
TO_A_PHOTO = {
    "as it is": lambda image: image,
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(6)),
    "dark": lambda image: ImageEnhance.Brightness(image).enhance(0.15),
    "washed out": lambda image: Image.blend(image, Image.new("RGB", image.size, "white"), 0.7),
    "grey": lambda image: image.convert("L").convert("RGB"),
    "in a white frame": lambda image: ImageOps.expand(image, 60, "white"),
    "half of it lost": lambda image: _half_lost(image),
}


def _half_lost(image: Image.Image) -> Image.Image:
    image.paste((128, 128, 128), (0, image.height // 2, image.width, image.height))
    return image


def as_jpeg(image: Image.Image, quality: int = 90) -> np.ndarray:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return np.asarray(Image.open(out))


@pytest.mark.parametrize("quality", [85, 95])
@pytest.mark.parametrize("name", DRAWINGS)
def test_what_is_drawn(name: str, quality: int) -> None:
    assert is_drawn(np.asarray(DRAWINGS[name]))
    assert is_drawn(as_jpeg(DRAWINGS[name], quality))


def grid(size: tuple[int, int], angle: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[0 : size[1], 0 : size[0]].astype(float)
    turned = np.deg2rad(angle)
    return x * np.cos(turned) + y * np.sin(turned), y * np.cos(turned) - x * np.sin(turned)


def halftone(size: tuple[int, int], angle: float = 45.0, period: float = 6.3) -> Image.Image:
    """A tint that grows from a tenth to nine tenths, as round dots of brown ink on cream paper."""
    u, v = grid(size, angle)
    screen = (np.cos(2 * np.pi * u / period) + np.cos(2 * np.pi * v / period)) / 4 + 0.5
    inked = screen < np.linspace(0.1, 0.9, size[0])
    return Image.fromarray(np.where(inked[..., None], (70, 45, 20), (250, 244, 228)).astype(np.uint8))


def strokes(size: tuple[int, int], colour: str = "white") -> Image.Image:
    """Curves of two pixels, drawn at twice the size for soft edges."""
    picture = Image.new("RGB", (size[0] * 2, size[1] * 2), colour)
    draw, along = ImageDraw.Draw(picture), np.linspace(0, 1, 60)
    for number in range(24):
        points = size[0] * 2 * along, size[1] * (1 + np.sin(along * (3 + number % 7) + number) * (number % 5 + 1) / 6)
        draw.line([(float(x), float(y)) for x, y in zip(*points, strict=True)], fill="#181420", width=4)
    return picture.resize(size, Image.LANCZOS)


def pixels(size: tuple[int, int]) -> Image.Image:
    """Sprites of twelve colours in 120 pixels across, enlarged."""
    cell = -(-size[0] // 120)
    rng = np.random.default_rng(5)
    colours = rng.integers(0, 255, (12, 3), dtype=np.uint8)
    sprites = np.kron(rng.integers(0, 12, (8, 10)), np.ones((12, 12), int))
    sprites[rng.random(sprites.shape) < 0.1] = 0
    return Image.fromarray(colours[sprites]).resize((120 * cell, 96 * cell), Image.NEAREST).crop((0, 0, *size))


SIZES = [(360, 280), (1100, 800)]
AT_EVERY_SIZE: dict[str, Callable[[tuple[int, int]], Image.Image]] = {
    "halftone": halftone,
    "straight halftone": lambda size: halftone(size, 0, 8),
    "strokes": strokes,
    "strokes on grey": lambda size: strokes(size, "#d8d8d8"),
    "hatching": lambda size: hatching(7).resize(size, Image.BICUBIC),
    "screen": lambda size: screen(2).resize(size, Image.BICUBIC),
    "pixels": pixels,
}


@pytest.mark.parametrize("quality", [50, 90])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", AT_EVERY_SIZE)
def test_drawn_at_every_size_and_quality(name: str, size: tuple[int, int], quality: int, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    AT_EVERY_SIZE[name](size).save(path, quality=max(quality, 75 if name == "pixels" else 0))  # docs/audit.md
    seen = look(path)
    assert seen.pixels is not None
    assert is_drawn(seen.pixels.rgb)
    assert seen.verdict.severity is None, seen.verdict


def lit(size: tuple[int, int], seed: int, low: float = 0.7) -> np.ndarray:
    """Light that differs from place to place, from `low` to 1: [h, w]."""
    coarse = Image.fromarray(np.random.default_rng(seed).integers(0, 255, (3, 4), dtype=np.uint8))
    return low + (1 - low) * np.asarray(coarse.resize(size, Image.BICUBIC), float) / 255


def grained(levels: np.ndarray, grain: float) -> Image.Image:
    noise = np.random.default_rng(1).normal(0, grain, levels.shape[:2])
    coloured = (levels + noise)[..., None] * np.array([1.0, 0.96, 0.9])
    return Image.fromarray(coloured.clip(0, 255).astype(np.uint8))


def fence(size: tuple[int, int]) -> np.ndarray:
    u, v = grid(size, 45)
    wire = np.minimum(np.abs(u / 26 % 1 - 0.5), np.abs(v / 26 % 1 - 0.5)) < 0.07
    behind = np.asarray(scene(4, size).convert("L").filter(ImageFilter.GaussianBlur(6)), float)
    return np.where(wire, 60 * lit(size, 2, 0.4), behind)


def cloth(size: tuple[int, int]) -> np.ndarray:
    u, v = grid(size, 8)
    over = (np.floor(u / 7) + np.floor(v / 7)) % 2 == 0
    return np.where(over, 60 + 130 * abs(np.sin(np.pi * u / 7)), 60 + 130 * abs(np.sin(np.pi * v / 7))) * lit(size, 3)


TAKEN: dict[str, Callable[[tuple[int, int]], Image.Image]] = {
    "wall": lambda size: grained(220 * lit(size, 0, 0.88), 1.0),
    "sky": lambda size: grained(np.linspace(120, 210, size[1])[:, None] + np.zeros(size[0]), 0.8),
    "fog": lambda size: grained(170 + np.asarray(scene(1, size).convert("L"), float) * 0.15 * lit(size, 5), 1.5),
    "snow": lambda size: grained(np.where(grid(size)[0] % 260 < 9, 50, 238 * lit(size, 1, 0.88)), 1.5),
    "night": lambda size: grained(abs(np.random.default_rng(2).normal(0, 4, size[::-1])) + 6 * lit(size, 6), 1.0),
    "high ISO": lambda size: grained(np.asarray(scene(6, size).convert("L"), float), 22.0),
    "fence": lambda size: grained(fence(size), 3.0),
    "cloth": lambda size: grained(cloth(size), 4.0),
}


@pytest.mark.parametrize("quality", [50, 90])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", TAKEN)
def test_what_a_camera_saw_is_not_drawn(name: str, size: tuple[int, int], quality: int) -> None:
    assert not is_drawn(as_jpeg(TAKEN[name](size), quality))


@pytest.mark.parametrize("change", TO_A_PHOTO)
@pytest.mark.parametrize("seed", range(3))
def test_what_looks_like_a_photo_is_not_drawn(change: str, seed: int) -> None:
    """The scenes hold shapes of one colour each, but with a camera's grain."""
    assert not is_drawn(as_jpeg(TO_A_PHOTO[change](scene(seed))))


@pytest.mark.parametrize("side", [1, 2, 7])
def test_tiny_pictures_of_one_colour_are_not_drawn(side: int) -> None:
    for colour in (0, 130, 255):
        assert not is_drawn(np.full((side, side, 3), colour, np.uint8))


def groups(folder: Path) -> set[frozenset[str]]:
    report = audit_dataset(folder, checks=("near_duplicate",), workers=0)
    return {frozenset(Path(path).name for path in members) for members in report.groups().values()}


@pytest.mark.parametrize(("ground", "ink"), [("#08080a", "white"), ("white", "black")])
def test_letters_are_not_the_same_picture_and_a_mirrored_one_is(
    save: Callable[..., Path], tmp_path: Path, ground: str, ink: str
) -> None:
    for sign in "ABGKQRWX":
        save(f"{sign}.png", letter(sign, ground, ink))
    assert groups(tmp_path) == set()
    save("G mirrored.png", ImageOps.mirror(letter("G", ground, ink)))
    assert groups(tmp_path) == {frozenset({"G.png", "G mirrored.png"})}


def test_other_colours_are_another_drawing(save: Callable[..., Path], tmp_path: Path) -> None:
    for number, hair in enumerate([(200, 60, 60), (60, 110, 200), (90, 150, 60)]):
        save(f"{number}.png", head(hair))
    assert groups(tmp_path) == set()
    save("0 again.jpg", head((200, 60, 60)), quality=40)
    assert groups(tmp_path) == {frozenset({"0.png", "0 again.jpg"})}


def test_screens_of_one_program_differ_in_their_words(save: Callable[..., Path], tmp_path: Path) -> None:
    for seed in range(6):
        save(f"{seed}.png", screen(seed))
    assert groups(tmp_path) == set()
    save("0 small.png", screen(0).resize((480, 360), Image.LANCZOS))
    assert groups(tmp_path) == {frozenset({"0.png", "0 small.png"})}


def on_ground(colour: tuple[int, int, int], grain: float = 0.0) -> Image.Image:
    rng = np.random.default_rng(3)
    ground = np.full((SIZE[1], SIZE[0], 3), colour, float) + rng.normal(0, grain, (SIZE[1], SIZE[0], 1))
    picture = Image.fromarray(ground.clip(0, 255).astype(np.uint8))
    ImageDraw.Draw(picture).ellipse((280, 200, 360, 270), fill=(60, 60, 70))
    return picture


def lines(ground: str, ink: str) -> Image.Image:
    picture = Image.new("RGB", SIZE, ground)
    for x in range(100, 560, 50):
        ImageDraw.Draw(picture).line((x, 100, 320, 380), fill=ink, width=3)
    return picture


def test_a_plain_ground_is_no_exposure(save: Callable[..., Path], tmp_path: Path) -> None:
    save("peach.png", on_ground((250, 220, 200)))
    save("snow.png", on_ground((238, 238, 238), 1.5))
    save("lines.png", lines("#e1e1e1", "black"))
    save("chalk.png", lines("#101014", "white"))
    save("letter.png", letter("A"))
    save("letter.jpg", letter("A"), quality=85)
    save("white inside.png", ImageOps.expand(Image.new("RGB", (560, 400), "white"), 40, "#3050a0"))
    save("hatching.jpg", hatching(9), quality=90)
    report = audit_dataset(tmp_path, checks=("exposure",), workers=0)
    assert report.issues["path"].tolist() == []


def test_what_stands_on_a_plain_ground_is_still_judged(save: Callable[..., Path], tmp_path: Path) -> None:
    def on(colour: str, change: Callable[[Image.Image], Image.Image]) -> Image.Image:
        return ImageOps.expand(change(scene(3, (480, 320))), 80, colour)

    save("bright.png", on("#f0f0f0", TO_A_PHOTO["washed out"]))
    save("dark.png", on("black", TO_A_PHOTO["dark"]))
    report = audit_dataset(tmp_path, checks=("exposure",), workers=0)
    assert found(report, "too_bright") == {"bright.png"}
    assert found(report, "too_dark") == {"dark.png"}


@pytest.mark.parametrize("period", [4, 8, 16])
@pytest.mark.parametrize("quality", [60, 90, 95])
def test_screentone_and_hatching_are_no_damage(tmp_path: Path, period: int, quality: int) -> None:
    for name, image in (("tone", screentone(period)), ("hatching", hatching(period))):
        path = tmp_path / f"{name}.jpg"
        image.save(path, quality=quality)
        assert verdict(path).severity is None, (name, verdict(path))

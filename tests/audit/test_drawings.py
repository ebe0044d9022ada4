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
from kohyakit.dataset.decode.drawn import DRAWN, flat_colours

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


DRAWINGS = {
    "letter": letter("Q"), "icon": ImageOps.expand(head((90, 150, 60)).resize((160, 120)), 40, "white"),
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
    assert flat_colours(np.asarray(DRAWINGS[name])) > DRAWN
    assert flat_colours(as_jpeg(DRAWINGS[name], quality)) > DRAWN


@pytest.mark.parametrize("change", TO_A_PHOTO)
@pytest.mark.parametrize("seed", range(3))
def test_what_looks_like_a_photo_is_not_drawn(change: str, seed: int) -> None:
    """The scenes hold shapes of one colour each, but with a camera's grain."""
    assert flat_colours(as_jpeg(TO_A_PHOTO[change](scene(seed)))) < DRAWN


@pytest.mark.parametrize("side", [1, 2, 7])
def test_tiny_pictures_have_a_share(side: int) -> None:
    for colour in (0, 130, 255):
        assert 0 <= flat_colours(np.full((side, side, 3), colour, np.uint8)) <= 1


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
@pytest.mark.parametrize("quality", [90, 95])
def test_screentone_and_hatching_are_no_damage(tmp_path: Path, period: int, quality: int) -> None:
    for name, image in (("tone", screentone(period)), ("hatching", hatching(period))):
        path = tmp_path / f"{name}.jpg"
        image.save(path, quality=quality)
        assert verdict(path).severity is None, (name, verdict(path))

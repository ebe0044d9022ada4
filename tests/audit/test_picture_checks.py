"""Blurred, dark, bright, empty, bars: each defect is named on the picture that has it, and on no other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

from kohyakit.audit.check import Picture
from kohyakit.audit.checks import blur, borders, exposure, information, sideways
from kohyakit.audit.run import audit_dataset

from .conftest import found, scene

CHECKS = ("blur", "exposure", "information", "borders")
ISSUES = ("blurred", "too_dark", "too_bright", "low_information", "borders")


def on_ground(image: Image.Image, sides: tuple[int, int], colour: str = "black") -> Image.Image:
    ground = Image.new("RGB", (image.width + 2 * sides[0], image.height + 2 * sides[1]), colour)
    ground.paste(image, sides)
    return ground


def with_subject(size: tuple[int, int]) -> Image.Image:
    """A small picture on a white ground, as shops photograph."""
    ground = Image.new("RGB", size, "white")
    ground.paste(scene(5, (size[0] // 3, size[1] // 3)), (size[0] // 3, size[1] // 3))
    return ground


DEFECTS: dict[str, tuple[Callable[[Image.Image], Image.Image], set[str]]] = {
    "as it is": (lambda im: im, set()),
    "blurred": (lambda im: im.filter(ImageFilter.GaussianBlur(5)), {"blurred"}),
    "dark": (lambda im: ImageEnhance.Brightness(im).enhance(0.15), {"too_dark"}),
    "bright": (lambda im: Image.blend(im, Image.new("RGB", im.size, "white"), 0.72), {"too_bright"}),
    "one colour": (lambda im: Image.new("RGB", im.size, (100, 110, 120)), {"low_information"}),
    "letterbox": (lambda im: on_ground(im, (0, 40)), {"borders"}),
    "pillars": (lambda im: on_ground(im, (50, 0), "white"), {"borders"}),
    "shop": (lambda im: with_subject(im.size), set()),
}


@pytest.mark.parametrize("name", DEFECTS)
@pytest.mark.parametrize("size", [(640, 480), pytest.param((1400, 1000), marks=pytest.mark.slow)])
def test_each_defect_is_named_and_no_other(name: str, size: tuple[int, int], save: Callable[..., Path]) -> None:
    change, wanted = DEFECTS[name]
    path = save("a.png", change(scene(7, size)))
    report = audit_dataset(path.parent, checks=CHECKS, workers=0)
    assert {issue for issue in ISSUES if found(report, issue)} == wanted


def picture(image: Image.Image, orientation: int = 1) -> Picture:
    return Picture(np.asarray(image.convert("RGB")), 1.0, orientation)


@pytest.mark.parametrize("size", [(2000, 1500), (1632, 1224), (900, 1600), (640, 480)])
def test_some_rows_of_the_large_picture_are_those_rows(size: tuple[int, int]) -> None:
    """The same strip shrunk alone and with all others; one row further it would differ by 2.3 grey levels and more."""
    shown = picture(scene(4, size))
    height, width = shown.large_size
    assert max(height, width) == min(1024, max(size))
    for top in range(0, height - 64, 64):
        rows = shown.large_rows(top, top + 64)
        assert rows.shape == (64, width)
        away = np.abs(rows[2:-2].astype(int) - shown.large[top + 2 : top + 62].astype(int))
        assert away.mean() < 1


def test_sharpness_falls_as_blur_grows() -> None:
    sharp = scene(2, (800, 600))
    blurs = (0, 0.5, 1, 2, 4, 8)
    scores = [blur.measure(picture(sharp.filter(ImageFilter.GaussianBlur(s))))["sharpness"] for s in blurs]
    assert scores[:4] == sorted(scores[:4], reverse=True)
    assert scores[0] > 0.6
    assert max(scores[3:]) < 0.31


@pytest.mark.parametrize("top", [0, 160, 400])
def test_a_sharp_face_anywhere_is_found(top: int) -> None:
    """The first look takes few rows of the picture; what it misses is found by the others."""
    sharp = scene(2, (800, 600))
    soft = sharp.filter(ImageFilter.GaussianBlur(9))
    soft.paste(sharp.crop((250, top, 650, top + 200)), (250, top))
    assert blur.measure(picture(soft))["sharpness"] > 0.5


def test_a_sharp_face_before_a_soft_ground_is_sharp() -> None:
    sharp = scene(2, (800, 600))
    soft = sharp.filter(ImageFilter.GaussianBlur(9))
    soft.paste(sharp.crop((250, 150, 550, 450)), (250, 150))
    assert blur.measure(picture(soft))["sharpness"] > 0.6


@pytest.mark.parametrize("radius", [0, 10, 16, 20])
def test_a_date_stamp_hides_no_blur(radius: int) -> None:
    """Sharp figures along the edge of a picture that has no sharp line of its own, and of one that has."""
    image = scene(2, (1600, 1200)).filter(ImageFilter.GaussianBlur(radius))
    ImageDraw.Draw(image).text((1200, 1125), "2026 08 14  17:32", fill="orange", font_size=50)
    score = blur.measure(picture(image))["sharpness"]
    assert score < 0.33 if radius else score > 0.6


def with_logo(image: Image.Image) -> Image.Image:
    draw = ImageDraw.Draw(image)
    draw.ellipse((900, 200, 1100, 400), fill=(200, 30, 40))
    draw.text((930, 270), "ACME", fill="white", font_size=50)
    return image


LAID_OVER: dict[str, Callable[[Image.Image], Image.Image]] = {
    "above": lambda im: stamped(im, (60, 40)),
    "in the middle": lambda im: stamped(im, (560, 560)),
    "upright at the side": lambda im: stamped(im.rotate(90, expand=True), (700, 60)),
    "logo": with_logo,
}


def stamped(image: Image.Image, place: tuple[int, int]) -> Image.Image:
    ImageDraw.Draw(image).text(place, "2026 08 14  17:32", fill="orange", font_size=50)
    return image


@pytest.mark.parametrize("radius", [0, 8, 12, 20])
@pytest.mark.parametrize("name", LAID_OVER)
def test_what_is_laid_over_a_picture_is_not_its_sharpness(name: str, radius: int) -> None:
    image = LAID_OVER[name](scene(2, (1600, 1200)).filter(ImageFilter.GaussianBlur(radius)))
    score = blur.measure(picture(image))["sharpness"]
    assert score < 0.33 if radius else score > 0.6


@pytest.mark.parametrize("seed", range(4))
def test_a_small_sharp_subject_with_a_stamp_is_sharp(seed: int) -> None:
    sharp = scene(seed, (1600, 1200))
    soft = sharp.filter(ImageFilter.GaussianBlur(12))
    soft.paste(sharp.crop((500, 400, 1100, 900)), (500, 400))
    assert blur.measure(picture(stamped(soft, (1100, 1100))))["sharpness"] > 0.5


@pytest.mark.parametrize("side", [1, 5, 20, 63, 64, 65])
def test_tiny_pictures_have_scores_or_none(side: int) -> None:
    for image in (scene(1, (side, side)), scene(1, (side, 200)), scene(1, (200, side))):
        shown = picture(image)
        for module in (blur, borders, exposure, information, sideways):
            assert all(isinstance(value, float) for value in module.measure(shown).values())


def test_exposure_measures_grey_levels() -> None:
    half = Image.new("L", (200, 100), 10)
    half.paste(200, (100, 0, 200, 100))
    scores = exposure.measure(picture(half))
    assert scores == {"brightness": 105.0, "dark_end": 10.0, "bright_end": 200.0, "blown": 0.0}


def test_bars_are_measured_in_shares_of_the_picture() -> None:
    scores = borders.measure(picture(on_ground(scene(3, (200, 160)), (0, 20))))
    assert scores["border_top"] == pytest.approx(0.1, abs=0.01)
    assert scores["border_bottom"] == pytest.approx(0.1, abs=0.01)
    assert scores["border_left"] == scores["border_right"] == 0


def test_bars_are_named_as_seen_after_exif_orientation() -> None:
    stored = on_ground(scene(3, (200, 160)), (0, 20))  # bars above and below as stored
    scores = borders.measure(picture(stored, orientation=6))
    assert scores["border_left"] > 0.05
    assert scores["border_top"] == 0


def landscape(seed: int) -> Image.Image:
    """A blue, smooth, bright sky over dark green, rough ground: what the guess goes by."""
    rng = np.random.default_rng(seed)
    height, width = 360, 480
    sky = np.linspace(0, 1, height)[:, None, None] * np.array([60, 40, 0]) + np.array([120, 170, 250])
    picture = np.broadcast_to(sky, (height, width, 3)).copy()
    ground = rng.normal(0, 30, (height // 2, width, 1)) + np.array([60, 90, 40])
    picture[height // 2 :] = ground
    return Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))


def test_a_landscape_on_its_side_is_suspected_and_upright_is_not(save: Callable[..., Path]) -> None:
    upright = landscape(1)
    save("upright.jpg", upright)
    save("side.jpg", upright.transpose(Image.Transpose.ROTATE_90))
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save("meant.jpg", upright.transpose(Image.Transpose.ROTATE_90), exif=exif)
    report = audit_dataset(path.parent, checks=("sideways",), workers=0)
    assert found(report, "suspected_sideways") == {"side.jpg"}
    assert set(report.issues["severity"]) == {"hint"}


def test_a_threshold_decides(save: Callable[..., Path]) -> None:
    folder = save("a.png", scene(7)).parent
    assert not found(audit_dataset(folder, checks=("blur",), workers=0), "blurred")
    strict = audit_dataset(folder, checks=("blur",), thresholds={"blur_sharpness": 99}, workers=0)
    assert found(strict, "blurred") == {"a.png"}

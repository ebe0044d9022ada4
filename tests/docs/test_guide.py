"""The guide's commands run in its order on drawn photos; what a person does by hand in between is done here."""

from __future__ import annotations

from pathlib import Path

import pytest

from kohyakit.demo.pictures import draw
from kohyakit.demo.tiny_model import write_tiny_model
from tests.docs.shown import named_commands, run, steps

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs/guide.md").read_text(encoding="utf-8")
COMING = (ROOT / "docs/coming-from.md").read_text(encoding="utf-8")


def take_photos(folder: Path) -> None:
    """Twelve, one of them on its side with an EXIF tag and one that breaks off."""
    folder.mkdir()
    for scene, name, count in (("town", "city", 5), ("church", "interior", 4), ("statue", "statue", 3)):
        for number in range(count):
            picture = draw(scene, (1024, 768) if number % 2 else (768, 1024), number)
            picture.save(folder / f"{name}_{number}.jpg", quality=95)
            if name == "city" and number == 3:
                exif = picture.getexif()
                exif[0x112] = 6
                picture.rotate(90, expand=True).save(folder / "city_3.jpg", quality=95, exif=exif)
    whole = (folder / "city_4.jpg").read_bytes()
    (folder / "city_4.jpg").write_bytes(whole[: len(whole) * 2 // 3])


def sort_and_caption(images: Path) -> None:
    """The folders made by hand, and a sentence beside each photo as a captioner writes it."""
    for name, subset in (("interior", "5_church interior"), ("statue", "8_mary statue")):
        (images / subset).mkdir()
        for photo in (images / "4_medieval city").glob(f"{name}*"):
            photo.rename(images / subset / photo.name)
    for photo in images.rglob("*.jpg"):
        photo.with_suffix(".txt").write_text("a stone street with houses and a tower", encoding="utf-8")


@pytest.mark.slow
def test_the_guide_runs_as_printed(tmp_path: Path) -> None:
    for package in ("PIL", "torch", "diffusers", "transformers", "pandas", "cv2"):
        pytest.importorskip(package)
    take_photos(tmp_path / "photos")
    write_tiny_model(tmp_path / "sd15")
    assert [command.split()[1] for command, _ in steps(GUIDE)] == [
        "audit", "repair", "init", "city", "captions", "captions", "captions", "templates", "check",
    ]  # fmt: skip
    here = tmp_path
    for command, shown in steps(GUIDE):
        if command == "cd city":
            here = tmp_path / "city"
            sort_and_caption(here / "img")
        else:
            run(command, shown, here)


@pytest.mark.parametrize("text", [GUIDE, COMING], ids=["guide", "coming from"])
def test_commands_that_are_named_exist(text: str) -> None:
    assert named_commands(text) >= 6

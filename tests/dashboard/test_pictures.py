"""Only pictures, only from the project, and each broken one shown as what it is."""

from __future__ import annotations

import io
import os
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

from kohyakit.dashboard.read import pictures
from kohyakit.dashboard.read.project import Outside, Project
from kohyakit.errors import KohyakitError


@pytest.fixture
def opened(tmp_path: Path, made: ModuleType) -> Project:
    root = tmp_path / "project"
    made.picture(root / "a.png", (400, 200))
    made.picture(tmp_path / "secret.png", (50, 50))
    return Project.open(root)


@pytest.mark.parametrize(
    "name",
    [
        "../secret.png",
        "x/../../secret.png",
        "/etc/hostname",
        "..\\secret.png/../../secret.png",
        "a.png\0.txt",
        "C:/secret.png/../..",
    ],
)
def test_no_way_out_of_the_project(opened: Project, name: str) -> None:
    try:
        found = pictures.read(opened, name)
    except Outside:
        return
    assert found.note, "a name that stays inside by accident is no picture"


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_a_link_out_of_the_project_is_not_followed(opened: Project, tmp_path: Path) -> None:
    (opened.root / "link.png").symlink_to(tmp_path / "secret.png")
    (opened.root / "folder").symlink_to(tmp_path, target_is_directory=True)
    for name in ("link.png", "folder/secret.png"):
        with pytest.raises(Outside, match="outside the project"):
            pictures.read(opened, name)
    assert pictures.url(opened, opened.root / "link.png") == ""


def test_a_thumbnail_is_small_and_carries_no_exif(opened: Project) -> None:
    image = Image.new("RGB", (800, 600), "red")
    exif = image.getexif()
    exif[0x010E] = "where grandmother lives"
    image.save(opened.root / "b.jpg", exif=exif.tobytes())
    found = pictures.read(opened, "b.jpg", 150)
    shown = Image.open(io.BytesIO(found.body))
    assert found.media_type == "image/webp"
    assert shown.size == (160, 120)
    assert b"grandmother" not in found.body


def test_a_turned_photo_is_shown_as_meant_and_as_stored(opened: Project) -> None:
    image = Image.new("RGB", (200, 100))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(opened.root / "turned.jpg", exif=exif.tobytes())
    meant = Image.open(io.BytesIO(pictures.read(opened, "turned.jpg", 160).body))
    stored = Image.open(io.BytesIO(pictures.read(opened, "turned.jpg", 160, upright=False).body))
    assert meant.width < meant.height
    assert stored.width > stored.height


def test_a_full_picture_goes_out_as_it_is(opened: Project) -> None:
    found = pictures.read(opened, "a.png")
    assert found.body == (opened.root / "a.png").read_bytes()
    assert found.media_type == "image/png"


def cut(path: Path, age: float) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    os.utime(path, (time.time() - age, time.time() - age))


@pytest.mark.parametrize("width", [None, 160])
def test_a_half_written_picture_says_so_and_then_that_it_is_damaged(opened: Project, width: int | None) -> None:
    cut(opened.root / "a.png", age=1)
    assert pictures.read(opened, "a.png", width).note.startswith("still being written")
    cut(opened.root / "a.png", age=3600)
    found = pictures.read(opened, "a.png", width)
    assert found.note.startswith("damaged")
    assert found.media_type == "image/svg+xml"


def test_of_a_damaged_photo_is_shown_what_is_left(opened: Project) -> None:
    photo = opened.root / "photo.jpg"
    Image.effect_noise((640, 480), 60).convert("RGB").save(photo, quality=90)
    cut(photo, age=3600)
    found = pictures.read(opened, "photo.jpg", 320)
    assert found.note.startswith("damaged")
    assert found.media_type == "image/webp"
    left = Image.open(io.BytesIO(found.body)).convert("L")
    upper, lower = left.crop((0, 0, left.width, 80)), left.crop((0, left.height - 60, left.width, left.height))
    assert upper.getextrema()[1] - upper.getextrema()[0] > 60, "the upper half is whole"
    assert lower.getextrema()[1] - lower.getextrema()[0] < 10, "the lower is gone"


def test_files_that_are_no_pictures_never_go_out(opened: Project) -> None:
    (opened.root / "page.png").write_text("<script>alert(1)</script>", encoding="utf-8")
    (opened.root / "drawing.svg").write_text(
        "<svg xmlns='http://www.w3.org/2000/svg'><script>x</script></svg>", encoding="utf-8"
    )
    (opened.root / "config.toml").write_text("wandb_api_key = 'secret'", encoding="utf-8")
    for name in ("page.png", "drawing.svg", "config.toml"):
        found = pictures.read(opened, name)
        assert found.note
        assert b"script" not in found.body
        assert b"secret" not in found.body


def test_a_name_with_markup_is_escaped_in_the_card(opened: Project) -> None:
    name = "<b onload=x>&.png" if sys.platform != "win32" else "&amp;'.png"
    (opened.root / name).write_bytes(b"nothing")
    assert b"<b onload" not in pictures.read(opened, name).body


def test_a_deleted_picture(opened: Project) -> None:
    assert pictures.read(opened, "gone.png").note.startswith("not there any more")
    assert "gone.png" in pictures.url(opened, opened.root / "gone.png")


def test_the_address_changes_with_the_file(opened: Project) -> None:
    before = pictures.url(opened, opened.root / "a.png", 160)
    os.utime(opened.root / "a.png", (1, 1))
    assert pictures.url(opened, opened.root / "a.png", 160) != before
    assert before.startswith("/picture?path=a.png&")


def test_a_project_that_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(KohyakitError, match="is not a folder"):
        Project.open(tmp_path / "nowhere")

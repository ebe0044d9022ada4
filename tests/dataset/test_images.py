"""Headers by hand against Pillow's own reading, and files that are no images at all."""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kohyakit.dataset.images import BadImage, ImageRecord, find_images, list_folder, read_header, read_record, shown

Image = pytest.importorskip("PIL.Image")
KINDS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")

# Damaged on purpose: Pillow refuses already the header, we only what follows it (the decoder's verdict says so).
HEADER_READS = {
    "monkey12.jpg", "apng__chunk_no_fctl.png", "apng__syntax_num_frames_zero.png", "broken_data_stream.png",
    "decompression_bomb.gif", "png_decompression_dos.png", "truncated_end_chunk.png", "truncated_image.png",
    "xdtn0g01.png",
}  # fmt: skip


@pytest.mark.shared
def test_sizes_and_orientations_are_pillows(goldens: Path) -> None:
    compared = 0
    for path in sorted((goldens / "audit").rglob("*")):
        if path.suffix.lower() not in KINDS:
            continue
        try:
            ours = read_header(path)
        except BadImage:
            ours = None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                with Image.open(path) as image:
                    orientation = image.getexif().get(0x0112, 1)
                    theirs = (*image.size, orientation if 1 <= orientation <= 8 else 1)
            except Exception:
                assert ours is None or path.name in HEADER_READS, path.name
                continue
        assert ours is not None, path.name
        assert (ours.width, ours.height, ours.orientation) == theirs, path.name
        compared += 1
    assert compared > 450


@pytest.mark.shared
def test_the_files_that_sd_scripts_finds(goldens: Path) -> None:
    golden = json.loads((goldens / "training/edge_images/edge_images.json").read_text(encoding="utf-8"))
    folder = goldens / "training/edge_images/files"
    assert [path.name for path in find_images(folder, odd_case=False)] == golden["glob_order"]
    listing = list_folder(folder)
    assert [path.name for path in listing.odd_case] == ["c.Jpg"]
    assert {path.name for path in listing.unread} == {"d.tiff", "e.gif"}
    assert [path.name for path in listing.folders] == ["sub"]
    sizes = {row["file"]: row.get("get_image_size") for row in golden["files"]}
    for path in listing.images:
        if path.name in ("o_zero.jpg", "p_text.png"):
            assert not isinstance(sizes[path.name], list) or min(sizes[path.name]) < 1
            with pytest.raises(BadImage):
                read_header(path)
        else:
            header = read_header(path)
            assert [header.width, header.height] == sizes[path.name], path.name


@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "bmp", "gif", "tiff"])
def test_every_format_gives_its_size(picture, kind: str) -> None:
    header = read_header(picture(f"a.{kind}", (61, 47)))
    assert (header.width, header.height, header.fault) == (61, 47, "")
    assert header.format == {"jpg": "jpeg"}.get(kind, kind)


@pytest.mark.parametrize("kind", ["jpg", "png", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_turns_the_size(picture, kind: str, orientation: int) -> None:
    path = picture(f"a.{kind}", (60, 40), orientation)
    assert read_header(path).orientation == orientation
    assert read_record(path).size == ((40, 60) if orientation in (5, 6, 7, 8) else (60, 40))
    assert read_record(path, upright=False).size == (60, 40)


@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "bmp", "gif"])
def test_a_file_that_breaks_off_is_named(picture, kind: str) -> None:
    path = picture(f"a.{kind}", (200, 160))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    assert read_header(path).fault == "it breaks off before its end"


def test_a_download_filled_up_with_zeros_breaks_off(picture) -> None:
    path = picture("a.jpg", (200, 160))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))
    assert read_header(path).fault


def test_what_a_camera_appends_is_no_damage(picture) -> None:
    path = picture("a.jpg", (80, 60))
    path.write_bytes(path.read_bytes() + b"camera's own trailer" * 100)
    assert read_header(path).fault == ""


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>403</html>", "web page"),
        (b"\x00" * 4000, "zero bytes"),
        (b"{'error': 1}", "JSON"),
        (b"PK\x03\x04....", "ZIP"),
        (b"not an image", "not an image"),
        (b"\xff\xd8\xff", "cut off or damaged"),
        (b"\x89PNG\r\n\x1a\n", "damaged"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8X", "damaged"),
        (b"BM", "cut off or damaged"),
    ],
)
def test_what_is_no_image_is_told_in_words(tmp_path: Path, data: bytes, told: str) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(data)
    with pytest.raises(BadImage, match=told):
        read_header(path)


def test_a_folder_called_photo_jpg(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").mkdir()
    (path,) = find_images(tmp_path)
    with pytest.raises(BadImage, match="folder"):
        read_header(path)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_nothing_in_a_file_crashes_the_reader(picture, data) -> None:
    kind = data.draw(st.sampled_from(["jpg", "png", "webp", "bmp", "gif"]))
    path = picture(f"a.{kind}", (40, 30), 6 if kind in ("jpg", "png", "webp") else 1)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, min(len(content), 120) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content[: data.draw(st.integers(0, len(content)))]))
    try:
        header = read_header(path)
    except BadImage:
        return
    assert header.width >= 1
    assert header.height >= 1


@pytest.mark.skipif(os.name == "nt", reason="Windows allows no such names")
def test_odd_names_are_found_and_shown_on_one_line(picture) -> None:
    names = ["new\nline.jpg", "emoji 🏯.png", "e\u0301.jpg"]
    for name in names:
        picture(f"d/{name}")
    folder = picture("d/z.jpg").parent
    assert len(find_images(folder)) == 4
    assert [shown(path.name) for path in find_images(folder)] == ["emoji 🏯.png", "é.jpg", "new\\nline.jpg", "z.jpg"]


def test_records_are_small_and_frozen() -> None:
    record = ImageRecord(Path("a.jpg"), 10, 20)
    assert record.size == (10, 20)
    assert not hasattr(record, "__dict__")


def test_reading_headers_needs_no_pillow(picture, tmp_path: Path) -> None:
    import subprocess

    for kind in ("jpg", "png", "webp", "bmp"):
        picture(f"a.{kind}")
    code = (
        "import sys; from pathlib import Path; from kohyakit.dataset.images import find_images, read_header\n"
        f"found = [read_header(p).format for p in find_images(Path({str(tmp_path)!r}))]\n"
        "assert len(found) == 4 and 'PIL' not in sys.modules and 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

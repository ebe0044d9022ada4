"""Headers by hand against Pillow's own reading, and files that are no images at all."""

from __future__ import annotations

import json
import os
import random
import struct
import sys
import warnings
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kohyakit.dataset.images import BadImage, ImageRecord, in_odd_case, read_header, read_record, shown
from kohyakit.dataset.walk import list_folder

Image = pytest.importorskip("PIL.Image")
from PIL import ImageOps, features

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
                    if image.format == "TIFF":  # turned when it is loaded, and the size is the turned one before
                        orientation = 1
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
    listing = list_folder(folder)
    assert list(listing.taken(odd_case=False)) == golden["glob_order"]
    assert [name for name in listing.taken() if in_odd_case(name)] == ["c.Jpg"]
    assert set(listing.left()) == {"d.tiff", "e.gif"}
    assert listing.folders == ("sub",)
    sizes = {row["file"]: row.get("get_image_size") for row in golden["files"]}
    for path in listing.at(listing.taken()):
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


TIFF_SAYING_6 = b"II*\0\x08\0\0\0" + struct.pack("<HHHIHHI", 1, 0x0112, 3, 1, 6, 0, 0)
XMP_SAYING_6 = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def app1(body: bytes) -> bytes:
    return b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body


def tag_as(kind: int, value: bytes, count: int = 1) -> bytes:
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<HHHI", 1, 0x0112, kind, count) + value + bytes(4)


# Put behind a PNG's header (33 bytes), or behind a JPEG's first segment (20 bytes).
IN_A_PNG = {
    "EXIF": chunk(b"eXIf", TIFF_SAYING_6),
    "a text that speaks of the EXIF chunk": chunk(b"tEXt", b"Comment\0an eXIf chunk") + chunk(b"eXIf", TIFF_SAYING_6),
    "a long text before": chunk(b"tEXt", b"workflow\0" + b"{nodes}" * 20000) + chunk(b"eXIf", TIFF_SAYING_6),
    "XMP": chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP_SAYING_6),
    "XMP, packed": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP_SAYING_6)),
    "XMP quoted in a comment": chunk(b"tEXt", b"Comment\0" + XMP_SAYING_6),
    "EXIF before XMP": chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP_SAYING_6)
    + chunk(b"eXIf", TIFF_SAYING_6.replace(b"\x06", b"\x03")),
    "EXIF that says nonsense, and XMP": chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP_SAYING_6)
    + chunk(b"eXIf", TIFF_SAYING_6.replace(b"\x06", b"\x63")),
}
IN_A_JPEG = {
    "SHORT": app1(tag_as(3, b"\x06\0\0\0")),
    "LONG": app1(tag_as(4, b"\x06\0\0\0")),
    "BYTE": app1(tag_as(1, b"\x06\0\0\0")),
    "two numbers": app1(tag_as(3, b"\x06\0\x06\0", 2)),
    "XMP before EXIF": app1(b"http://ns.adobe.com/xap/1.0/\0" + XMP_SAYING_6) + app1(tag_as(3, b"\x03\0\0\0")),
    "EXIF in two segments": app1(b"Exif\0\0" + TIFF_SAYING_6[:12]) + app1(b"Exif\0\0" + TIFF_SAYING_6[12:]),
    "EXIF without the tag, and XMP": app1(b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0")
    + app1(b"http://ns.adobe.com/xap/1.0/\0" + XMP_SAYING_6),
    "stray bytes before": b"\0\0" + app1(tag_as(3, b"\x06\0\0\0")),
}


def same_for_all(path: Path) -> tuple[tuple[int, int], int]:
    """(upright size, orientation) of check and train: as the audit's, and the size of Pillow's upright pixels."""
    decode = pytest.importorskip("kohyakit.dataset.decode")
    record, examined = read_record(path), decode.examine(path)
    assert (record.stored_width, record.stored_height, record.orientation) == (
        examined.width,
        examined.height,
        examined.orientation,
    )
    with Image.open(path) as image:
        assert ImageOps.exif_transpose(image).size == record.size
    return record.size, record.orientation


@pytest.mark.parametrize("case", IN_A_PNG)
@pytest.mark.parametrize("where", ["before the pixels", "after them"])
def test_every_reader_gives_a_png_one_orientation(picture, case: str, where: str) -> None:
    path = picture("a.png", (120, 90))
    data = path.read_bytes()
    at = 33 if where == "before the pixels" else len(data) - 12
    path.write_bytes(data[:at] + IN_A_PNG[case] + data[at:])
    wanted = {"XMP quoted in a comment": 1, "EXIF before XMP": 3, "EXIF that says nonsense, and XMP": 1}.get(case, 6)
    assert same_for_all(path) == ((90, 120) if wanted == 6 else (120, 90), wanted)


@pytest.mark.filterwarnings("ignore:Metadata Warning")
@pytest.mark.parametrize("case", IN_A_JPEG)
def test_every_reader_gives_a_jpeg_one_orientation(picture, case: str) -> None:
    path = picture("a.jpg", (120, 90))
    data = path.read_bytes()
    path.write_bytes(data[:20] + IN_A_JPEG[case] + data[20:])
    wanted = {"BYTE": 1, "XMP before EXIF": 3}.get(case, 6)
    assert same_for_all(path) == ((90, 120) if wanted == 6 else (120, 90), wanted)


def test_orientation_far_into_a_webps_exif(picture) -> None:
    path = picture("a.webp", (120, 90))
    far = b"II*\0" + struct.pack("<I", 70000) + bytes(69992) + TIFF_SAYING_6[8:]
    with Image.open(path) as image:
        image.save(path, exif=far)
    assert same_for_all(path) == ((90, 120), 6)


@pytest.mark.parametrize("orientation", [3, 6])
@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_a_tiff_is_turned_once(picture, orientation: int, compression: str | None) -> None:
    """Pillow turns it when it loads it, for whoever trains it; nothing is left to turn."""
    path = picture("a.jpg", (120, 90), format="PNG")
    with Image.open(path) as image:
        image.save(path, "TIFF", tiffinfo={0x0112: orientation}, compression=compression)
    assert same_for_all(path) == ((90, 120) if orientation == 6 else (120, 90), 1)


def test_thousands_of_chunks_are_passed_over(tmp_path: Path) -> None:
    """Equal ones by leaps, odd ones one by one; what stands behind them is read all the same."""
    pixels = zlib.compress(random.Random(0).randbytes(3 * 200 * 200 + 200), 0)
    for sizes in ([40], [40, 40, 40, 41], [1000, 40, 7]):
        parts, at = [], 0
        while at < len(pixels):
            size = sizes[len(parts) % len(sizes)]
            parts.append(chunk(b"IDAT", pixels[at : at + size]))
            at += size
        ihdr = chunk(b"IHDR", struct.pack(">IIBBBBB", 200, 200, 8, 2, 0, 0, 0))
        path = tmp_path / "a.png"
        start = b"\x89PNG\r\n\x1a\n" + ihdr + b"".join(parts)
        path.write_bytes(start + chunk(b"eXIf", TIFF_SAYING_6) + chunk(b"IEND", b""))
        assert (read_header(path).orientation, read_header(path).fault) == (6, "")
        path.write_bytes(start)
        assert read_header(path).fault == "it breaks off before its end"


@pytest.mark.parametrize(
    ("name", "format", "options"),
    [
        ("a.jpg", "JPEG2000", {}), ("a.png", "TIFF", {"big_tiff": True}), ("a.bmp", "DIB", {}), ("a.png", "PPM", {}),
        ("a.webp", "AVIF", {}), ("a.png", "GIF", {}),
    ],
)  # fmt: skip
def test_what_pillow_trains_under_another_name_is_read(tmp_path: Path, name: str, format: str, options: dict) -> None:
    if format == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    Image.new("RGB", (61, 47), "red").save(tmp_path / name, format, **options)
    assert same_for_all(tmp_path / name) == ((61, 47), 1)
    assert read_header(tmp_path / name).fault == ""


@pytest.mark.parametrize("more", [b"", b"\n", b"\0" * 9, b"x" * 54, b"x" * 100_000], ids=len)
def test_what_stands_behind_a_gifs_end_is_not_read(picture, more: bytes) -> None:
    path = picture("a.gif", (80, 60))
    path.write_bytes(path.read_bytes() + more)
    assert read_header(path).fault == ""


def test_a_gif_whose_first_frame_is_larger_than_its_screen(picture) -> None:
    path = picture("a.gif", (80, 60))
    data = bytearray(path.read_bytes())
    data[6:10] = struct.pack("<HH", 50, 40)
    path.write_bytes(bytes(data))
    assert same_for_all(path) == ((80, 60), 1)


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
    listing = list_folder(tmp_path)
    (path,) = listing.at(listing.taken())
    with pytest.raises(BadImage, match="folder"):
        read_header(path)


@settings(max_examples=3 * settings().max_examples // 2, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
    assert len(list_folder(folder).taken()) == 4
    assert [shown(name) for name in list_folder(folder).taken()] == ["emoji 🏯.png", "é.jpg", "new\\nline.jpg", "z.jpg"]


def test_records_are_small_and_frozen() -> None:
    record = ImageRecord(Path("a.jpg"), 10, 20)
    assert record.size == (10, 20)
    assert not hasattr(record, "__dict__")


def test_reading_headers_needs_no_pillow(picture, tmp_path: Path) -> None:
    import subprocess

    for kind in ("jpg", "png", "webp", "bmp"):
        picture(f"a.{kind}")
    code = (
        "import sys; from kohyakit.dataset.images import read_header; from kohyakit.dataset.walk import list_folder\n"
        f"listing = list_folder({str(tmp_path)!r})\n"
        "found = [read_header(p).format for p in listing.at(listing.taken())]\n"
        "assert len(found) == 4 and 'PIL' not in sys.modules and 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

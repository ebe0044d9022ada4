"""The decoding verdict: labelled corpora, damage made on purpose, healthy photos, hostile files."""

from __future__ import annotations

import io
import json
import logging
import math
import os
import random
import struct
import subprocess
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("PIL")
pytest.importorskip("simplejpeg")
from PIL import Image, ImageOps

from kohyakit.dataset.decode import examine, upright, verdict
from kohyakit.dataset.decode.breaks import scrambled
from kohyakit.dataset.decode.jpeg import read_header
from kohyakit.dataset.images import read_header as header_of


def landscape(seed: int = 0, size: tuple[int, int] = (640, 480)) -> Image.Image:
    """Something like a photo: slopes, soft and hard edges, grain."""
    rng = np.random.default_rng(seed)
    layers = np.zeros((size[1], size[0], 3))
    for cells, strength in ((3, 90), (9, 60), (40, 40), (160, 20)):
        coarse = Image.fromarray(rng.integers(0, 255, (cells, cells, 3), dtype=np.uint8))
        layers += strength * (np.asarray(coarse.resize(size, Image.BICUBIC), float) / 255 - 0.5)
    layers += rng.normal(0, 3, (*layers.shape[:2], 1))
    return Image.fromarray(np.clip(layers + 128, 0, 255).astype(np.uint8))


def encoded(image: Image.Image, format: str = "JPEG", **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **({"quality": 88} if format == "JPEG" else {}) | options)
    return out.getvalue()


def judged(tmp_path: Path, data: bytes, name: str = "a.jpg"):
    path = tmp_path / name
    path.write_bytes(data)
    return examine(path)


def scan(data: bytes) -> tuple[int, int]:
    return read_header(data).scan, data.rindex(b"\xff\xd9")


# --- the labelled corpora -------------------------------------------------------------------------------------------

# Damage by label that no reading of the pixels can show: a PSD whose XML is odd, and a TIFF that all readers show.
NOT_DAMAGED = {"negative_top_left_layer.psd", "old-style-jpeg-compression.tif"}


@pytest.mark.shared
@pytest.mark.parametrize(
    "source", ["pillow", "libjpeg-turbo", "exif-orientation-examples", "pngsuite", "libwebp-test-data"]
)
def test_labelled_corpora(goldens: Path, source: str) -> None:
    folder = goldens / "audit" / source
    wrong = []
    for name, label in json.loads((folder / "labels.json").read_text(encoding="utf-8"))["files"].items():
        found = examine(folder / "files" / name)
        bad = found.verdict.issue in ("damaged", "undecodable", "too_many_pixels")
        if bad != label["corrupt"] and name not in NOT_DAMAGED:
            wrong.append((name, label["corrupt"], found.verdict))
        left_to_turn = 1 if found.format == "TIFF" else label["orientation"]  # Pillow turns a TIFF when it loads it
        if label["orientation"] in range(1, 9) and found.orientation != left_to_turn:
            wrong.append((name, "orientation", found.orientation))
        if label["kind"] == "jpeg" and label["cmyk"] != (found.mode == "CMYK"):
            wrong.append((name, "mode", found.mode))
        if label["frames"] and found.format in ("PNG", "GIF") and (label["frames"] > 1) != found.animated:
            wrong.append((name, "frames", found.n_frames))
        if label["ext_mismatch"] == found.extension_ok:
            wrong.append((name, "extension", found.format))
        if label["alpha"] and not found.alpha:
            wrong.append((name, "alpha", found.mode))
    assert wrong == []


@pytest.mark.shared
@pytest.mark.slow
def test_made_damage(goldens: Path, tmp_path: Path) -> None:
    """A few photos of the corpora through the damage maker; benchmarks/audit_damage.py does it with many."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for source, name in (
        ("exif-orientation-examples", "Landscape_1.jpg"),
        ("exif-orientation-examples", "Portrait_1.jpg"),
    ):
        (photos / name).write_bytes((goldens / "audit" / source / "files" / name).read_bytes())
    maker = goldens / "audit" / "make_corrupt.py"
    subprocess.run(
        [sys.executable, maker, tmp_path / "made", "--photos", photos, "--bases", "2", "--seed", "5"], check=True
    )
    labels = json.loads((tmp_path / "made" / "labels.json").read_text(encoding="utf-8"))["files"]
    bad = {name: not verdict(tmp_path / "made" / "files" / name).ok for name in labels}
    visible = [name for name, label in labels.items() if label["visible"]]
    healthy = [name for name, label in labels.items() if not label["corrupt"]]
    assert len(visible) > 120
    assert sum(bad[name] for name in visible) / len(visible) >= 0.95
    assert [name for name in healthy if bad[name]] == []


# --- damage ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_rows": 2}])
@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_a_cut_jpeg_is_damaged(tmp_path: Path, options: dict[str, object], share: float) -> None:
    data = encoded(landscape(), **options)
    start, end = scan(data)
    assert judged(tmp_path, data).verdict.ok
    found = judged(tmp_path, data[: int(start + (end - start) * share)]).verdict
    assert (found.ok, found.severity, found.issue) == (False, "error", "damaged")


def test_what_pillow_loads_without_a_word(tmp_path: Path) -> None:
    data = encoded(landscape())
    start, end = scan(data)
    half = data[: (start + end) // 2] + b"\xff\xd9"
    Image.open(io.BytesIO(half)).load()
    assert judged(tmp_path, half).verdict.issue == "damaged"


def lossless(grey: np.ndarray) -> bytes:
    """A lossless JPEG (ITU T.81, annex H): each pixel less its left neighbour, in one table of twelve equal codes."""
    rows = grey.astype(int)
    above = np.concatenate([[128], rows[:-1, 0]])[:, None]
    steps = rows - np.concatenate([above, rows[:, :-1]], axis=1)
    bits = ""
    for step in steps.ravel().tolist():
        size = abs(step).bit_length()
        bits += f"{size:04b}" + (f"{step if step > 0 else step + (1 << size) - 1:0{size}b}" if size else "")
    bits += "1" * (-len(bits) % 8)
    packed = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    parts = (
        (0xC3, struct.pack(">BHHBBBB", 8, *grey.shape, 1, 1, 0x11, 0)),
        (0xC4, bytes([0, 0, 0, 0, 12, *[0] * 12, *range(12)])),
        (0xDA, bytes([1, 1, 0, 1, 0, 0])),
    )
    segments = (bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body for marker, body in parts)
    return b"\xff\xd8" + b"".join(segments) + packed + b"\xff\xd9"


def test_a_lossless_jpeg_is_read_as_the_trainer_reads_it(tmp_path: Path) -> None:
    grey = np.asarray(landscape(1, (160, 120)).convert("L"))
    data = lossless(grey)
    try:
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), grey)
    except OSError:
        pytest.skip("this Pillow reads no lossless JPEG")
    found = judged(tmp_path, data)
    assert (found.verdict.severity, found.mode) == (None, "L")
    assert np.array_equal(found.pixels.rgb, np.stack([grey] * 3, axis=2))
    assert judged(tmp_path, data[: len(data) // 2] + b"\xff\xd9").verdict.issue == "damaged"


def _before(data: bytes, marker: bytes, stray: bytes) -> bytes:
    at = data.index(marker)
    return data[:at] + stray + data[at:]


def _with_byte(data: bytes, marker: bytes, offset: int, value: int) -> bytes:
    at = data.index(marker) + offset
    return data[:at] + bytes([value]) + data[at + 1 :]


# What libjpeg has a word about, though the picture is painted all the same.
ODDITIES = {
    "stray bytes": lambda data: _before(data, b"\xff\xdb", b"\0\0"),
    "stray bytes before the scan": lambda data: _before(data, b"\xff\xda", b"\0\0\0"),
    "profile": lambda data: data[:2] + b"\xff\xe2\x00\x18ICC_PROFILE\0\x02\x01" + b"x" * 8 + data[2:],
    "JFIF version": lambda data: _with_byte(data, b"JFIF\0", 5, 9),
    "Adobe transform": lambda data: data[:2] + b"\xff\xee\x00\x0eAdobe\x00\x64\0\0\0\0\x07" + data[20:],
    "scan parameters": lambda data: _with_byte(data, b"\xff\xda", 12, 0),
}
HURTS = {
    "wiped": lambda data, start, end: data[: (start + end) // 2] + bytes(2048) + data[(start + end) // 2 + 2048 :],
    "cut and closed": lambda data, start, end: data[: (start + end) // 2] + b"\xff\xd9",
    "random": lambda data, start, end: (
        data[: start + (end - start) // 3]
        + bytes(random.Random(1).choices(range(255), k=1500))
        + data[start + (end - start) // 3 + 1500 :]
    ),
    "restart lost": lambda data, start, end: data.replace(b"\xff\xd3", b"\0\0", 1),
}


@pytest.mark.parametrize("oddity", ODDITIES)
@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=["baseline", "progressive"])
def test_a_harmless_word_hides_nothing(tmp_path: Path, oddity: str, options: dict[str, object]) -> None:
    """The decoder stops at its first word; the same damage without the oddity says what must be found behind it."""
    whole = encoded(landscape(3), restart_marker_rows=4, **options)
    change = ODDITIES[oddity]
    sound = judged(tmp_path, change(whole))
    spoken = not (options and oddity == "scan parameters")  # a progressive scan's numbers are no oddity
    assert sound.verdict.ok
    assert (sound.verdict.severity, sound.verdict.issue) == (("hint", "odd_markers") if spoken else (None, None))
    assert np.array_equal(sound.pixels.rgb, judged(tmp_path, whole).pixels.rgb)
    for name, hurt in HURTS.items():
        hurt_whole = hurt(whole, *scan(whole))
        assert hurt_whole != whole
        assert judged(tmp_path, hurt_whole).verdict.severity == "error", name
        odd = change(whole)
        found = judged(tmp_path, hurt(odd, *scan(odd))).verdict
        assert (found.ok, found.severity, found.issue) == (False, "error", "damaged"), (name, found)


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_a_harmless_word_about_other_colours(tmp_path: Path, mode: str) -> None:
    whole = encoded(landscape(3).convert(mode))
    odd = ODDITIES["stray bytes"](whole)
    assert np.array_equal(judged(tmp_path, odd).pixels.rgb, judged(tmp_path, whole).pixels.rgb)
    assert judged(tmp_path, HURTS["wiped"](odd, *scan(odd))).verdict.issue == "damaged"


def shifted(seed: int, levels: int, channel: int | None) -> Image.Image:
    """What a broken prediction paints: from one unit of 16x16 on, in the order of the scan, all is brighter."""
    pixels = np.asarray(landscape(seed)).astype(int)
    rng = random.Random(seed)
    row, column = rng.randrange(5, 25), rng.randrange(6, 34)
    change = np.zeros(pixels.shape[:2], int)
    change[16 * row : 16 * row + 16, 16 * column :] = levels
    change[16 * row + 16 :] = levels
    where = slice(None) if channel is None else slice(channel, channel + 1)
    pixels[..., where] += change[..., None]
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("levels", "channel"), [(16, None), (-16, None), (40, 2)])
def test_a_shift_along_the_scan_is_seen(tmp_path: Path, seed: int, levels: int, channel: int | None) -> None:
    found = judged(tmp_path, encoded(shifted(seed, levels, channel), quality=90)).verdict
    assert (found.severity, found.issue) == ("warning", "damaged")
    assert judged(tmp_path, encoded(landscape(seed), quality=90)).verdict.ok


def test_the_same_shift_off_the_grid_is_a_picture(tmp_path: Path) -> None:
    image = shifted(1, 16, None)
    assert judged(tmp_path, encoded(image.crop((5, 7, 640, 480)), quality=90)).verdict.ok


def test_a_straight_border_is_a_picture(tmp_path: Path) -> None:
    for ground in ("black", "white", "#808080"):
        framed = ImageOps.expand(landscape(2, (608, 416)), (16, 32), ground)
        assert judged(tmp_path, encoded(framed)).verdict.ok, ground


def test_a_grey_tail_is_seen(tmp_path: Path) -> None:
    pixels = np.asarray(landscape()).copy()
    pixels[240:256, 304:], pixels[256:] = 128, 128
    found = judged(tmp_path, encoded(Image.fromarray(pixels))).verdict
    assert "plain grey" in found.detail
    assert not found.ok


def test_a_wiped_part_is_seen(tmp_path: Path) -> None:
    data = bytearray(encoded(landscape(1, (800, 600))))
    start, end = scan(bytes(data))
    data[(start + end) // 2 : (start + end) // 2 + 4096] = bytes(4096)
    burnt_in = encoded(Image.open(io.BytesIO(bytes(data))).convert("RGB"))
    assert "wiped" in judged(tmp_path, burnt_in).verdict.detail


def test_a_scrambled_quantisation_table_is_seen(tmp_path: Path) -> None:
    data = bytearray(encoded(landscape()))
    at = data.index(b"\xff\xdb") + 5
    rng = random.Random(3)
    data[at : at + 64] = bytes(rng.randrange(1, 255) for _ in range(64))
    assert "quantisation table" in judged(tmp_path, bytes(data)).verdict.detail


@pytest.mark.parametrize("quality", [1, 20, 50, 75, 88, 95, 100])
def test_no_usual_table_is_scrambled(quality: int) -> None:
    assert not scrambled(read_header(encoded(landscape(), quality=quality)))


def test_a_webp_that_lost_count_of_its_bytes(tmp_path: Path) -> None:
    for options in ({"quality": 80}, {"lossless": True}):
        data = bytearray(encoded(landscape(), "WEBP", **options))
        assert judged(tmp_path, bytes(data), "a.webp").verdict.ok
        data[len(data) // 2 : len(data) // 2 + 2048] = bytes(2048)
        found = judged(tmp_path, bytes(data), "a.webp").verdict
        assert not found.ok, options
    cut = encoded(landscape(), "WEBP")
    assert judged(tmp_path, cut[:-200], "a.webp").verdict.issue == "damaged"


def chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    at, found = 8, []
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        found.append((kind, data[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


def png(parts: list[tuple[bytes, bytes]]) -> bytes:
    packed = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


@pytest.mark.parametrize("palette", [None, b"", b"\x00"], ids=["none", "empty", "less than one colour"])
def test_a_png_whose_palette_is_empty_is_black(tmp_path: Path, palette: bytes | None) -> None:
    ihdr, rows = struct.pack(">IIBBBBB", 40, 30, 8, 3, 0, 0, 0), zlib.compress(bytes(41) * 30)
    listed = [] if palette is None else [(b"PLTE", palette)]
    data = png([(b"IHDR", ihdr), *listed, (b"IDAT", rows), (b"IEND", b"")])
    assert Image.open(io.BytesIO(data)).convert("RGB").getextrema() == ((0, 0),) * 3
    found = judged(tmp_path, data, "a.png").verdict
    assert (found.severity, found.issue) == ("error", "damaged")
    assert "palette is empty" in found.detail
    assert "palette is empty" in header_of(tmp_path / "a.png").fault
    one = png([(b"IHDR", ihdr), (b"PLTE", b"\xff\0\0"), (b"IDAT", rows), (b"IEND", b"")])
    assert judged(tmp_path, one, "a.png").verdict.ok


def test_png_faults(tmp_path: Path) -> None:
    data = encoded(landscape(0, (200, 160)), "PNG")
    parts = chunks(data)
    packed = b"".join(d for k, d in parts if k == b"IDAT")

    def with_data(new: bytes) -> bytes:
        return png([parts[0], (b"IDAT", new), (b"IEND", b"")])

    assert judged(tmp_path, with_data(packed), "a.png").verdict.ok
    faults = {
        "cut": data[:-500], "no end": data[:-12], "end cut": data[:-4],
        "checksum": data[:-20] + bytes([data[-20] ^ 1]) + data[-19:],
        "adler": with_data(packed[:-4] + b"\0\0\0\0"), "header": with_data(b"\0\0" + packed[2:]),
        "short": with_data(packed[: len(packed) // 2]), "no data": png([parts[0], (b"IEND", b"")]),
    }  # fmt: skip
    for name, fault in faults.items():
        found = judged(tmp_path, fault, "a.png").verdict
        assert (found.ok, found.severity) == (False, "error"), name
    assert judged(tmp_path, data + b"more", "a.png").verdict.issue == "trailing_data"


# --- facts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright_is_what_pillow_makes_of_it(orientation: int) -> None:
    image = landscape(0, (30, 20))
    tag = Image.Exif()
    tag[0x0112] = orientation
    stored = Image.open(io.BytesIO(encoded(image, "PNG", exif=tag)))
    assert np.array_equal(upright(np.asarray(image), orientation), np.asarray(ImageOps.exif_transpose(stored)))


def test_facts(tmp_path: Path) -> None:
    tag = Image.Exif()
    tag[0x0112] = 6
    tag.get_ifd(0x8769)[0x9003] = "2021:05:06 07:08:09"
    found = judged(tmp_path, encoded(landscape(), exif=tag), "a.JPEG")
    assert (found.format, found.mode, found.width, found.height, found.orientation) == ("JPEG", "RGB", 640, 480, 6)
    assert (found.orientation, found.taken, found.extension_ok, found.bits) == (6, "2021:05:06 07:08:09", True, 8)
    found = judged(tmp_path, encoded(landscape(), "PNG"), "a.jpg")
    assert (found.format, found.extension_ok, found.extension_wanted, found.verdict.ok) == ("PNG", False, ".png", True)
    frames = [landscape(n, (64, 64)) for n in range(3)]
    for format in ("GIF", "PNG", "WEBP"):
        found = judged(
            tmp_path, encoded(frames[0], format, save_all=True, append_images=frames[1:]), "a." + format.lower()
        )
        assert (found.animated, found.n_frames, found.verdict.ok) == (True, 3, True), format
    assert judged(tmp_path, encoded(landscape().convert("CMYK"))).mode == "CMYK"


@pytest.mark.parametrize(
    ("size", "eighths"),
    [
        ((1599, 700), 8), ((1600, 1201), 5), ((700, 1999), 5), ((2000, 3), 4), ((3999, 8), 4), ((4000, 8), 2),
        ((8001, 9), 1),
    ],
)  # fmt: skip
def test_a_large_jpeg_is_decoded_smaller(tmp_path: Path, size: tuple[int, int], eighths: int) -> None:
    """To an eighth of libjpeg's own steps, rounded up, so that at least 1000 pixels of the longer side are left."""
    found = judged(tmp_path, encoded(Image.new("RGB", size, (90, 120, 30))))
    height, width = (math.ceil(side * eighths / 8) for side in reversed(size))
    assert found.pixels.rgb.shape == (height, width, 3)
    assert max(height, width) >= 1000
    assert found.pixels.scale == pytest.approx(height / size[1])
    assert np.abs(found.pixels.rgb.astype(int) - (90, 120, 30)).max() <= 2


def test_pixels_are_the_picture(tmp_path: Path) -> None:
    image = landscape(4, (2400, 1600))
    found = judged(tmp_path, encoded(image, quality=95))
    assert found.pixels.scale == 0.5
    wanted = np.asarray(image.reduce(2)).astype(int)
    assert np.abs(found.pixels.rgb.astype(int) - wanted).mean() < 3
    cmyk = judged(tmp_path, encoded(image.reduce(4).convert("CMYK"), quality=95))
    assert np.abs(cmyk.pixels.rgb.astype(int) - np.asarray(image.reduce(4)).astype(int)).mean() < 4


# --- hostile files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "0 bytes"),
        (bytes(50000), "no known format"),
        (b"<!DOCTYPE html><html>403 Forbidden</html>", "web page"),
        (b"\xff\xd8\xff", "cannot be opened"),
        (b"just a note", "text"),
        (b"\x89PNG\r\n\x1a\n", "no image data"),
        (b"RIFF\xff\xff\xff\xffWEBP", "cut off"),
        (b"GIF89a", "cut off"),
    ],
)
def test_no_image_at_all(tmp_path: Path, data: bytes, words: str) -> None:
    found = judged(tmp_path, data).verdict
    assert (found.ok, found.severity) == (False, "error")
    assert words in found.detail


def test_odd_places(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").mkdir()
    assert verdict(tmp_path / "photo.jpg").issue == "not_a_file"
    assert verdict(tmp_path / "missing.jpg").issue == "unreadable"
    assert verdict(tmp_path / ("x" * 400 + ".jpg")).issue == "unreadable"
    assert verdict(tmp_path / "zero\0byte.jpg").issue == "unreadable"


@pytest.mark.skipif(os.name == "nt", reason="links and pipes of another kind")
def test_links_and_pipes(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").symlink_to(tmp_path / "b.jpg")
    (tmp_path / "b.jpg").symlink_to(tmp_path / "a.jpg")
    assert "leads back to itself" in verdict(tmp_path / "a.jpg").detail
    os.mkfifo(tmp_path / "pipe.jpg")
    assert verdict(tmp_path / "pipe.jpg").issue == "not_a_file"


def test_a_growing_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded(landscape()))
    real = os.fstat

    def grow(handle: int):
        with open(path, "ab") as stream:
            stream.write(b"more")
        return real(handle)

    monkeypatch.setattr(os, "fstat", grow)
    assert "changed while it was read" in verdict(path).detail


def test_bombs(tmp_path: Path) -> None:
    ihdr = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    bomb = png([(b"IHDR", ihdr), (b"IDAT", zlib.compress(bytes(1 << 20))), (b"IEND", b"")])
    assert judged(tmp_path, bomb, "a.png").verdict.issue == "too_many_pixels"
    header = (
        b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, 3000000, 2000000, 1, 24, *[0] * 6)
    )
    assert judged(tmp_path, header, "a.bmp").verdict.issue == "too_many_pixels"


def test_random_bytes_never_raise(tmp_path: Path) -> None:
    """Every format with random bytes overwritten, cut and repeated: always a verdict."""
    rng = random.Random(11)
    image = landscape(0, (96, 64))
    wholes = {f: encoded(image, f) for f in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "JPEG2000")}
    wholes["progressive"] = encoded(image, progressive=True)
    for whole in wholes.values():
        for _ in range(60):
            data = bytearray(whole)
            for _ in range(rng.choice((1, 3, 30))):
                data[rng.randrange(len(data))] = rng.randrange(256)
            if rng.random() < 0.3:
                del data[rng.randrange(len(data)) :]
            assert judged(tmp_path, bytes(data)).verdict.severity in (None, "hint", "warning", "error")


def test_looking_from_many_threads_leaves_logging_and_warnings_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(landscape(0, (64, 48)), "PNG"))
    verdict(path)
    handlers, filters = list(logging.getLogger("PIL").handlers), list(warnings.filters)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(verdict, [path] * 200))
    assert logging.getLogger("PIL").handlers == handlers
    assert warnings.filters == filters

"""What a file is by its first bytes, and the name endings that tell the truth about it."""

from __future__ import annotations

from pathlib import PurePath

# format -> endings that are right for it; the first is the one a repair would give.
EXTENSIONS: dict[str, tuple[str, ...]] = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "BMP": (".bmp", ".dib"),
    "TIFF": (".tif", ".tiff"),
    "HEIC": (".heic", ".heif", ".hif"),
    "AVIF": (".avif", ".avifs"),
    "JXL": (".jxl",),
    "JPEG2000": (".jp2", ".j2k", ".jpx", ".j2c", ".jpf"),
    "PSD": (".psd",),
    "ICO": (".ico",),
    "PNM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
    "RAW": (".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf"),
}

# What may lie under an image's name and is none, with what to say of it.
NO_IMAGES = {
    "HTML": "is a web page saved under an image's name, not an image; download it again",
    "XML": "is XML or SVG text, not a photo",
    "TEXT": "is text, not an image",
    "PDF": "is a PDF, not an image",
    "ZIP": "is a ZIP archive, not an image",
    "GZIP": "is compressed data, not an image",
    "MP4": "is a video, not an image",
    "RAW": "is a camera's raw file, which the trainer cannot read; export it as JPEG or PNG",
}

_PREFIXES: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),
    (b"MM\x00+", "TIFF"),
    (b"\xff\x0a", "JXL"),
    (b"\x00\x00\x00\x0cJXL \r\n\x87\n", "JXL"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "JPEG2000"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
    (b"8BPS", "PSD"),
    (b"\x00\x00\x01\x00", "ICO"),
    (b"%PDF", "PDF"),
    (b"PK\x03\x04", "ZIP"),
    (b"\x1f\x8b", "GZIP"),
)
_BRANDS = {
    b"avif": "AVIF", b"avis": "AVIF", b"heic": "HEIC", b"heix": "HEIC", b"hevc": "HEIC", b"heim": "HEIC",
    b"heis": "HEIC", b"mif1": "HEIC", b"msf1": "HEIC", b"crx ": "RAW",
}  # fmt: skip


def sniff(data: bytes) -> str | None:
    """The format by its signature (a key of EXTENSIONS, or HTML, XML, TEXT, PDF, ZIP …); None when unknown."""
    head = data[:512]
    for prefix, name in _PREFIXES:
        if head.startswith(prefix):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp":
        brands = [head[8:12], *(head[at : at + 4] for at in range(16, min(len(head), 64), 4))]
        return next((_BRANDS[brand] for brand in brands if brand in _BRANDS), "MP4")
    if len(head) > 2 and head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace():
        return "PNM"
    return _text_kind(head)


def _text_kind(head: bytes) -> str | None:
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "HTML"
    if start.startswith((b"<?xml", b"<svg", b"<error")):
        return "XML"
    if head and all(byte >= 32 or byte in (9, 10, 13) for byte in head):
        return "TEXT"
    return None


def extension_ok(path: PurePath, format: str | None) -> bool:
    """Whether the name's ending is one of the format's; True for a format without known endings."""
    endings = EXTENSIONS.get(format or "")
    if not endings:
        return True
    suffix = path.suffix.lower()
    # a camera's raw file is a TIFF inside, and its name says so
    return suffix in endings or (format == "TIFF" and suffix in EXTENSIONS["RAW"])

"""The metadata that a JPEG, PNG or WebP carries, found without decoding a pixel and a few megabytes at most."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from kohyakit.dataset.decode.headers import png_chunks
from kohyakit.dataset.metadata.told import Unfit
from kohyakit.files import open_regular
from kohyakit.words import size as in_words

_MOST = 4 << 20  # bytes of one block; the longest that programs write are workflows of a few hundred kB
_SEGMENTS = 4096  # of a JPEG before its picture; cameras write a dozen
_XMP, _PHOTOSHOP = b"http://ns.adobe.com/xap/1.0/\0", b"Photoshop 3.0\0"
PNG_XMP = "XML:com.adobe.xmp"


@dataclass(slots=True)
class Blocks:
    """exif: TIFF data. xmp: a packet. iptc: Photoshop's resources. texts: keyword in small letters -> text, of PNG; a
    JPEG's comment is one too.
    """

    exif: bytes = b""
    xmp: bytes = b""
    iptc: bytes = b""
    texts: dict[str, str] = field(default_factory=dict)


def read_blocks(path: Path) -> Blocks:
    """Raises OSError, and Unfit for a block that cannot be read. A picture of another kind has none."""
    with open_regular(path) as file:
        length = os.fstat(file.fileno()).st_size
        head = file.read(12)
        try:
            if head.startswith(b"\xff\xd8"):
                return _of_jpeg(file)
            if head.startswith(b"\x89PNG\r\n\x1a\n"):
                return _of_png(file, length)
            if head[:4] == b"RIFF" and head[8:] == b"WEBP":
                return _of_webp(file, length)
        except struct.error:
            raise Unfit("is cut off among its metadata") from None
    return Blocks()


def jpeg_segments(file: BinaryIO) -> Iterator[tuple[int, int, int]]:
    """(marker, where the segment begins, its whole length) up to the picture itself, which is not told."""
    at = 2
    for _ in range(_SEGMENTS):
        file.seek(at)
        head = file.read(4)
        if len(head) < 4 or head[0] != 0xFF or head[1] in (0xD9, 0xDA):
            return
        marker, (size,) = head[1], struct.unpack(">H", head[2:])
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if size < 2:
            return
        yield marker, at, 2 + size
        at += 2 + size
    raise Unfit(f"has more than {_SEGMENTS} segments before its picture")


def _of_jpeg(file: BinaryIO) -> Blocks:
    found, resources = Blocks(), b""
    for marker, at, size in jpeg_segments(file):
        if marker not in (0xE1, 0xED, 0xFE):
            continue
        file.seek(at + 4)
        body = file.read(size - 4)
        if marker == 0xE1 and body.startswith(b"Exif\0") and not found.exif:
            found.exif = body[6:]
        elif marker == 0xE1 and body.startswith(_XMP):
            found.xmp = found.xmp or body[len(_XMP) :]
        elif marker == 0xED and body.startswith(_PHOTOSHOP):
            resources += body[len(_PHOTOSHOP) :]
        elif marker == 0xFE:
            found.texts.setdefault("comment", _latin(body))
    found.iptc = resources
    return found


def _of_png(file: BinaryIO, length: int) -> Blocks:
    found = Blocks()
    left = 4 * _MOST
    for kind, at, size in png_chunks(file, length):
        if kind not in (b"eXIf", b"tEXt", b"zTXt", b"iTXt"):
            continue
        if size > _MOST:
            raise Unfit(f"holds a block of {in_words(size)}, more than any caption")
        file.seek(at)
        body = file.read(size)
        if kind == b"eXIf":
            found.exif = body
            continue
        keyword, text = png_text(kind, body)
        left -= len(text)
        if left < 0:
            raise Unfit(f"holds more than {in_words(4 * _MOST)} of text")
        if keyword == PNG_XMP:
            found.xmp = text.encode("utf-8")
        else:
            found.texts.setdefault(keyword.lower(), text)
    return found


def png_text(kind: bytes, body: bytes) -> tuple[str, str]:
    """(keyword, text) of a tEXt, zTXt or iTXt chunk. Raises Unfit."""
    name, _, rest = body.partition(b"\0")
    keyword = name[:80].decode("latin-1")
    if kind == b"tEXt":
        return keyword, _latin(rest)
    if kind == b"zTXt":
        return keyword, _latin(_inflated(rest[1:], keyword))
    packed, rest = rest[:1], rest[2:].split(b"\0", 2)[-1]
    data = _inflated(rest, keyword) if packed == b"\1" else rest
    try:
        return keyword, data.decode("utf-8")
    except UnicodeDecodeError:
        raise Unfit(f"says something as {keyword!r} that is not UTF-8") from None


def _inflated(data: bytes, keyword: str) -> bytes:
    stream = zlib.decompressobj()
    try:
        text = stream.decompress(data, _MOST)
    except zlib.error:
        raise Unfit(f"holds a damaged text {keyword!r}") from None
    if not stream.eof:
        large = len(text) >= _MOST
        raise Unfit(f"holds a text {keyword!r} " + (f"of more than {in_words(_MOST)}" if large else "that is cut off"))
    return text


def _latin(data: bytes) -> str:
    """The specification wants Latin-1, and many write UTF-8."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _of_webp(file: BinaryIO, length: int) -> Blocks:
    found = Blocks()
    at = 12
    while at + 8 <= length:
        file.seek(at)
        kind, size = struct.unpack("<4sI", file.read(8))
        if kind in (b"EXIF", b"XMP "):
            if size > _MOST:
                raise Unfit(f"holds a block of {in_words(size)}, more than any caption")
            body = file.read(size)
            if kind == b"EXIF":
                found.exif = body.removeprefix(b"Exif\0\0")
            else:
                found.xmp = body
        at += 8 + size + size % 2
    return found

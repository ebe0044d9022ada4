"""What an image file's header says: format, stored size, EXIF orientation, and whether its end is there.

By hand for JPEG, PNG, WebP, BMP and GIF; TIFF, AVIF and JPEG XL through Pillow. Anything may be in a file that is
called .jpg: whatever it is, the answer is a Header or a BadImage with one plain sentence.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

_HEAD = 65536
_PNG_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([1-8])')


class BadImage(ValueError):
    """The file is no readable image; the text says what it is instead."""


@dataclass(frozen=True, slots=True)
class Header:
    """format: jpeg, png, webp, bmp, gif, tiff, avif or jxl. width, height: pixels as stored. orientation: EXIF 1 to 8.

    fault: what is missing at the end of the file, or "" when its structure is whole.
    """

    format: str
    width: int
    height: int
    orientation: int = 1
    fault: str = ""


def parse(file: BinaryIO, length: int) -> Header:
    """Read a header from a file opened for binary reading; length: its size in bytes. Raises BadImage."""
    if length == 0:
        raise BadImage("it is empty (0 bytes)")
    head = file.read(_HEAD)
    reader = next((reader for magic, reader in _READERS if head.startswith(magic)), None)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        reader = _webp
    elif head[4:8] == b"ftyp":
        reader = _pillow
    if reader is None:
        raise BadImage(_what_it_is(head))
    try:
        header = reader(file, head, length)
    except (BadImage, struct.error, IndexError, OverflowError) as error:
        header = _second_opinion(file, head, length, error)
    if header.width < 1 or header.height < 1:
        raise BadImage("its header gives a size of 0")
    return header


def _second_opinion(file: BinaryIO, head: bytes, length: int, error: Exception) -> Header:
    """Junk between a JPEG's segments and the like: Pillow forgives some of it, and it is what will decode the file."""
    try:
        return _pillow(file, head, length)
    except BadImage:
        raise error if isinstance(error, BadImage) else BadImage("its header is cut off or damaged") from None


def _what_it_is(head: bytes) -> str:
    text = head[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not head.strip(b"\x00"):
        return "it holds only zero bytes"
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "it is a web page saved under an image's name"
    if text.startswith((b"<?xml", b"<svg")):
        return "it is an SVG or XML file, not a photo"
    if text.startswith((b"{", b"[")):
        return "it is a JSON text, not an image"
    if head.startswith(b"PK\x03\x04"):
        return "it is a ZIP archive, not an image"
    if head.startswith(b"%PDF"):
        return "it is a PDF, not an image"
    return "it is not an image"


def _jpeg(file: BinaryIO, head: bytes, length: int) -> Header:
    data, position, orientation = head, 2, 0
    while True:
        if position + 4 > len(data) and len(data) < length:
            file.seek(0)
            data = file.read(min(length, max(position + _HEAD, 2 * len(data))))
        if data[position] != 0xFF:
            raise BadImage("its JPEG header is damaged")
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        if 0xD0 <= marker <= 0xD8 or marker == 0x01:
            position += 2
            continue
        if marker in (0xD9, 0xDA):
            raise BadImage("its JPEG header gives no size")
        (size,) = struct.unpack_from(">H", data, position + 2)
        if position + 2 + size > len(data) and len(data) < length:
            file.seek(0)
            data = file.read(min(length, position + 2 + size + _HEAD))
        if marker == 0xE1 and not orientation:
            orientation = _app1(data[position + 4 : position + 2 + size])
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, position + 5)
            whole = _jpeg_ends(file, position, length)
            return Header("jpeg", width, height, orientation or 1, "" if whole else "it breaks off before its end")
        position += 2 + size


def _app1(payload: bytes) -> int:
    if payload.startswith(b"Exif\x00"):
        return _tiff_orientation(payload[6:])
    if payload.startswith(b"http://ns.adobe.com/xap/1.0/\x00"):
        return _xmp_orientation(payload)
    return 0


def _xmp_orientation(data: bytes) -> int:
    found = _XMP_ORIENTATION.search(data)
    return int(found[1]) if found else 0


def _jpeg_ends(file: BinaryIO, frame: int, length: int) -> bool:
    """Whether the end marker is there: as the last two bytes, or after the scan where a camera appended more."""
    file.seek(max(0, length - 2))
    if file.read(2) == b"\xff\xd9":
        return True
    file.seek(frame)
    rest = file.read()
    scan = rest.find(b"\xff\xda")
    return scan >= 0 and rest.find(b"\xff\xd9", scan) >= 0


def _tiff_orientation(data: bytes) -> int:
    """The orientation tag of a TIFF structure (EXIF's form), 0 where it has none or is damaged."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        return 0
    try:
        (ifd,) = struct.unpack_from(order + "I", data, 4)
        (count,) = struct.unpack_from(order + "H", data, ifd)
        for entry in range(ifd + 2, ifd + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(order + "HH", data, entry)
            if tag == 0x0112:
                (value,) = struct.unpack_from(order + ("I" if kind == 4 else "H"), data, entry + 8)
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 0


def _png(file: BinaryIO, head: bytes, length: int) -> Header:
    if head[12:16] != b"IHDR":
        raise BadImage("its PNG header is damaged")
    width, height, depth, colour = struct.unpack_from(">IIBB", head, 16)
    if depth not in _PNG_DEPTHS.get(colour, ()) or zlib.crc32(head[12:29]) != struct.unpack_from(">I", head, 29)[0]:
        raise BadImage("its PNG header is damaged")
    file.seek(max(0, length - _HEAD))
    tail = file.read(_HEAD) if length > _HEAD else head
    whole = tail.endswith(b"IEND\xaeB`\x82") or any(kind == b"IEND" for kind, _ in _png_chunks(file, length))
    orientation = _png_orientation(head) or (_png_orientation(tail) if tail is not head else 0)
    if not orientation and b"Raw profile type" in head:  # ImageMagick's way of storing EXIF
        orientation = _second_opinion(file, head, length, BadImage("its PNG header is damaged")).orientation
    return Header("png", width, height, orientation or 1, "" if whole else "it breaks off before its end")


def _png_orientation(data: bytes) -> int:
    """EXIF chunks stand before the pixels or after them; both ends of the file are looked at."""
    place = data.find(b"eXIf")
    if place >= 4:
        (size,) = struct.unpack_from(">I", data, place - 4)
        found = _tiff_orientation(data[place + 4 : place + 4 + size].removeprefix(b"Exif\x00\x00"))
        if found:
            return found
    return _xmp_orientation(data)


def _png_chunks(file: BinaryIO, length: int) -> Iterator[tuple[bytes, int]]:
    position = 8
    while position + 12 <= length:
        file.seek(position)
        size, kind = struct.unpack(">I4s", file.read(8))
        if position + 12 + size > length:
            return
        yield kind, size
        position += 12 + size


def _webp(file: BinaryIO, head: bytes, length: int) -> Header:
    (riff,) = struct.unpack_from("<I", head, 4)
    fault = "" if length >= riff + 8 else "it breaks off before its end"
    kind = head[12:16]
    if kind == b"VP8 ":
        if head[23:26] != b"\x9d\x01\x2a":
            raise BadImage("its WebP header is damaged")
        width, height = (n & 0x3FFF for n in struct.unpack_from("<HH", head, 26))
        return Header("webp", width, height, 1, fault)
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", head, 21)
        return Header("webp", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, 1, fault)
    if kind != b"VP8X":
        raise BadImage("its WebP header is damaged")
    width = 1 + int.from_bytes(head[24:27], "little")
    height = 1 + int.from_bytes(head[27:30], "little")
    if len(head) < 30:
        raise BadImage("its header is cut off or damaged")
    orientation = _webp_orientation(file, length) if head[20] & 0x0C else 0
    return Header("webp", width, height, orientation or 1, fault)


def _webp_orientation(file: BinaryIO, length: int) -> int:
    position, by_xmp = 12, 0
    while position + 8 <= length:
        file.seek(position)
        kind, size = struct.unpack("<4sI", file.read(8))
        if kind == b"EXIF":
            found = _tiff_orientation(file.read(min(size, _HEAD)).removeprefix(b"Exif\x00\x00"))
            if found:
                return found
        elif kind == b"XMP ":
            by_xmp = _xmp_orientation(file.read(min(size, _HEAD)))
        position += 8 + size + size % 2
    return by_xmp


def _bmp(file: BinaryIO, head: bytes, length: int) -> Header:
    start, size = struct.unpack_from("<II", head, 10)
    if size == 12:
        width, height, _, depth = struct.unpack_from("<HHHH", head, 18)
        packed = 0
    elif size >= 40:
        width, height, _, depth, packed = struct.unpack_from("<iiHHI", head, 18)
        height = abs(height)
    else:
        raise BadImage("its BMP header is damaged")
    needs = start + (width * depth + 31) // 32 * 4 * height if packed in (0, 3) else 0
    return Header("bmp", width, height, 1, "" if length >= needs else "it breaks off before its end")


def _gif(file: BinaryIO, head: bytes, length: int) -> Header:
    width, height = struct.unpack_from("<HH", head, 6)
    file.seek(max(0, length - _HEAD))
    whole = file.read().rstrip(b"\x00").endswith(b";")
    return Header("gif", width, height, 1, "" if whole else "it breaks off before its end")


def _pillow(file: BinaryIO, head: bytes, length: int) -> Header:
    """TIFF, AVIF and JPEG XL, through Pillow where it can."""
    try:
        from PIL import Image
    except ModuleNotFoundError:
        raise BadImage("its format needs Pillow to be read: pip install pillow") from None
    import contextlib

    for plugin in ("pillow_avif", "pillow_jxl"):
        with contextlib.suppress(ImportError):
            __import__(plugin)
    file.seek(0)
    try:
        with Image.open(file) as image:
            orientation = image.getexif().get(0x0112, 1)
            orientation = orientation if orientation in range(1, 9) else 1
            return Header((image.format or "").lower(), *image.size, orientation)
    except Exception as error:  # Pillow's plug-ins raise nearly anything on a damaged file
        raise BadImage(f"Pillow cannot read it ({type(error).__name__})") from None


_READERS = (
    (b"\xff\xd8\xff", _jpeg),
    (b"\x89PNG\r\n\x1a\n", _png),
    (b"BM", _bmp),
    (b"GIF87a", _gif),
    (b"GIF89a", _gif),
    (b"II*\x00", _pillow),
    (b"MM\x00*", _pillow),
    (b"\xff\x0a", _pillow),
    (b"\x00\x00\x00\x0cJXL ", _pillow),
)

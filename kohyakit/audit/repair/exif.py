"""EXIF and JPEG segments edited in place, so that a turned photo keeps all that its camera wrote."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

ORIENTATION, EXIF_IFD, WIDTH, HEIGHT = 0x0112, 0x8769, 0xA002, 0xA003
_XMP_ORIENTATION = re.compile(rb'(tiff:Orientation(?:="|>))[2-8]')


def upright_exif(exif: bytes, *, swap: bool) -> bytes:
    """The same EXIF saying orientation 1, without its thumbnail (which lies on its side).

    exif: TIFF data, with or without `Exif\\0\\0` before it. swap: whether width and height change places.
    Bytes that cannot be read come back as they are.
    """
    start = 6 if exif.startswith(b"Exif\0\0") else 0
    edited = bytearray(exif)
    try:
        order = {b"II": "<", b"MM": ">"}[bytes(exif[start : start + 2])]
        (first,) = struct.unpack_from(order + "I", exif, start + 4)
        after = _edit_directory(edited, start, first, order, swap)
        struct.pack_into(order + "I", edited, start + after, 0)  # no second directory: that is the thumbnail
    except (struct.error, KeyError, IndexError):
        pass
    return bytes(edited)


def _edit_directory(data: bytearray, start: int, at: int, order: str, swap: bool) -> int:
    """Edit the entries of one directory; returns where its link to the next stands."""
    (count,) = struct.unpack_from(order + "H", data, start + at)
    sizes: dict[int, int] = {}
    for number in range(count):
        entry = start + at + 2 + 12 * number
        tag, kind = struct.unpack_from(order + "HH", data, entry)
        if tag == ORIENTATION:
            struct.pack_into(order + ("I" if kind == 4 else "H"), data, entry + 8, 1)
        elif tag in (WIDTH, HEIGHT):
            sizes[tag] = entry
        elif tag == EXIF_IFD:
            (inner,) = struct.unpack_from(order + "I", data, entry + 8)
            _edit_directory(data, start, inner, order, swap)
    if swap and len(sizes) == 2:
        one, other = sizes[WIDTH], sizes[HEIGHT]
        # the type and the value change places, the tags stay
        data[one + 2 : one + 12], data[other + 2 : other + 12] = data[other + 2 : other + 12], data[one + 2 : one + 12]
    return at + 2 + 12 * count


def upright_xmp(xmp: bytes) -> bytes:
    """The same XMP saying orientation 1."""
    return _XMP_ORIENTATION.sub(rb"\g<1>1", xmp)


def segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(marker, whole segment) of a JPEG up to its first scan, which comes last with all that follows."""
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            return
        marker = data[at + 1]
        if marker == 0xDA:
            yield marker, data[at:]
            return
        (length,) = struct.unpack_from(">H", data, at + 2)
        yield marker, data[at : at + 2 + length]
        at += 2 + length


def with_segments_of(original: bytes, picture: bytes, *, swap: bool, redrawn: bool = False) -> bytes:
    """The JPEG `picture` with the profile, EXIF, XMP and comments of `original`, saying orientation 1.

    Left out is what no longer holds: an index of further pictures in the file (MPF), EXIF's thumbnail. redrawn: the
    pixels were encoded anew, so what says how colours are stored (JFIF, Adobe, the profile) comes from `picture`.
    """
    kept = [segment for _, segment in segments(picture) if redrawn and _about_colours(segment)]
    for marker, segment in segments(original):
        body = segment[4:]
        if body.startswith(b"MPF\0") or (redrawn and _about_colours(segment)):
            continue
        if marker == 0xE1 and body.startswith(b"Exif\0\0"):
            segment = segment[:4] + upright_exif(body, swap=swap)
        elif marker == 0xE1:
            segment = segment[:4] + upright_xmp(body)
        if 0xE0 <= marker <= 0xEF or marker == 0xFE:
            kept.append(segment)
    rest = [segment for marker, segment in segments(picture) if not (0xE0 <= marker <= 0xEF or marker == 0xFE)]
    return b"\xff\xd8" + b"".join(kept) + b"".join(rest)


def _about_colours(segment: bytes) -> bool:
    return segment[4:].startswith((b"JFIF\0", b"Adobe", b"ICC_PROFILE\0"))

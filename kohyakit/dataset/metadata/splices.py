"""A caption put into a picture's metadata as one exchange of bytes; every other byte stays as it is."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from kohyakit.dataset.decode.headers import png_chunks
from kohyakit.dataset.metadata import exif, xmp
from kohyakit.dataset.metadata.blocks import PNG_XMP, jpeg_segments, png_text
from kohyakit.dataset.metadata.told import Unfit

_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_KEYWORD = "Description"


@dataclass(frozen=True, slots=True)
class Splice:
    """At this byte of a file these bytes stood, and these stand there now."""

    at: int
    old: bytes
    new: bytes

    def done(self, data: bytes) -> bytes:
        return data[: self.at] + self.new + data[self.at + len(self.old) :]

    def undone(self, data: bytes) -> bytes | None:
        """None where something else stands there by now."""
        end = self.at + len(self.new)
        return data[: self.at] + self.old + data[end:] if data[self.at : end] == self.new else None


def with_caption(data: bytes, how: str, caption: str, tags: tuple[str, ...]) -> Splice | None:
    """How a picture comes to say this caption; None for one of another format than `how` is for.

    how: `text` for PNG, `exif` for JPEG, `xmp` for both. tags: listed beside the caption where the format has room
    for that. Raises Unfit where what is there already cannot be added to.
    """
    kind = "jpeg" if data.startswith(b"\xff\xd8") else "png" if data.startswith(b"\x89PNG\r\n\x1a\n") else ""
    put = _WAYS.get((kind, how))
    return put(data, caption, tags) if put else None


def _png_text(data: bytes, caption: str, tags: tuple[str, ...]) -> Splice:
    return _in_png(data, _KEYWORD, caption.encode("utf-8"))


def _png_xmp(data: bytes, caption: str, tags: tuple[str, ...]) -> Splice:
    known = next((text for _, _, keyword, text in _texts(data) if keyword == PNG_XMP), "")
    return _in_png(data, PNG_XMP, xmp.packet_with(known.encode("utf-8"), caption, tags))


def _in_png(data: bytes, keyword: str, text: bytes) -> Splice:
    """In place of the text of that keyword, else before the picture."""
    made = _chunk(b"iTXt", keyword.encode("latin-1") + b"\0\0\0\0\0" + text)
    for start, end, name, _ in _texts(data):
        if name == keyword:
            return Splice(start, data[start:end], made)
    place = next((at - 8 for kind, at, _ in png_chunks(io.BytesIO(data), len(data)) if kind == b"IDAT"), 0)
    if not place:
        raise Unfit("has no picture in it")
    return Splice(place, b"", made)


def _texts(data: bytes) -> list[tuple[int, int, str, str]]:
    """(start, end, keyword, text) of the texts of a PNG."""
    found = []
    for kind, at, size in png_chunks(io.BytesIO(data), len(data)):
        if kind in (b"tEXt", b"zTXt", b"iTXt"):
            keyword = data[at : at + 80].partition(b"\0")[0].decode("latin-1")
            ours = keyword in (_KEYWORD, PNG_XMP)
            found.append((at - 8, at + size + 4, *(png_text(kind, data[at : at + size]) if ours else (keyword, ""))))
    return found


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))


def _jpeg_exif(data: bytes, caption: str, tags: tuple[str, ...]) -> Splice:
    return _in_jpeg(data, b"Exif\0\0", lambda known: exif.with_description(known, caption), after=(0xE0,))


def _jpeg_xmp(data: bytes, caption: str, tags: tuple[str, ...]) -> Splice:
    return _in_jpeg(data, _XMP, lambda known: xmp.packet_with(known, caption, tags), after=(0xE0, 0xE1))


def _in_jpeg(data: bytes, head: bytes, make: Callable[[bytes], bytes], after: tuple[int, ...]) -> Splice:
    """In place of the segment that begins so, else behind those in front that are called `after`."""
    place, known = 2, None
    front, index = True, False
    for marker, at, size in jpeg_segments(io.BytesIO(data)):
        if marker == 0xE1 and data.startswith(head, at + 4):
            known = (at, size)
            break
        index = index or (marker == 0xE2 and data.startswith(b"MPF\0", at + 4))
        front = front and marker in after
        place = at + size if front else place
    if known and index:
        raise Unfit("is several pictures in one file, whose index would no longer fit")
    at, size = known or (place, 0)
    old = data[at : at + size]
    body = head + make(old[4 + len(head) :])
    if len(body) + 2 > 0xFFFF:
        raise Unfit("has no room for it: a JPEG's metadata end at 64 kB")
    return Splice(at, old, b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body)


_WAYS = {
    ("png", "text"): _png_text,
    ("png", "xmp"): _png_xmp,
    ("jpeg", "exif"): _jpeg_exif,
    ("jpeg", "xmp"): _jpeg_xmp,
}

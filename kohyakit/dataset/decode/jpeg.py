"""A JPEG: its markers walked, its pixels decoded strictly, the decoder's words graded.

Pillow swallows libjpeg's warnings, so a file whose middle is grey loads "fine" there; simplejpeg with
`strict=True` raises on them at every scale.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from kohyakit.dataset.decode.record import Verdict

SOF_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
LOSSLESS = 0xC3
_EXTRANEOUS = re.compile(r"extraneous bytes before marker 0x([0-9a-f]{2})")
# libjpeg's words about the header alone: the picture is painted all the same.
_HARMLESS = (
    (re.compile("bad icc marker"), "its colour profile cannot be read"),
    (re.compile("unknown jfif revision"), "states a version of JFIF that does not exist"),
    (re.compile("unknown adobe color transform"), "states its colours in a way that does not exist"),
    (re.compile("invalid sos parameters for sequential"), "states numbers for its scan that decoders ignore"),
)


@dataclass(frozen=True, slots=True)
class JpegHeader:
    """What stands before the first scan. sampling: (horizontal, vertical) factors of each component.

    frame: the marker that says how the scan is written: 0xC0 baseline, 0xC2 progressive …
    quantisation: id -> 64 numbers in zigzag order. scan: offset of the first entropy-coded byte, 0 if none is reached.
    stray_before: markers of the header that bytes of no segment stand before.
    """

    width: int = 0
    height: int = 0
    precision: int = 8
    frame: int = 0
    components: int = 0
    sampling: tuple[tuple[int, int], ...] = ()
    tables_used: tuple[int, ...] = ()
    quantisation: dict[int, tuple[int, ...]] = field(default_factory=dict)
    restart_interval: int = 0
    scan: int = 0
    stray_before: frozenset[int] = frozenset()

    @property
    def mcu(self) -> tuple[int, int]:
        """(width, height) in pixels of the unit that the scan is written in; a lone component has 8 by 8."""
        if len(self.sampling) < 2:
            return 8, 8
        return 8 * max(h for h, _ in self.sampling), 8 * max(v for _, v in self.sampling)


def read_header(data: bytes) -> JpegHeader:
    """Walk the markers up to the first scan; what cannot be read stays at its default."""
    found: dict = {"quantisation": {}}
    stray: set[int] = set()
    end = 2
    for marker, start, after in _segments(data):
        if start > end:
            stray.add(marker)
        _segment(marker, data[start + 4 : after], found)
        end = after
        if marker == 0xDA:
            found["scan"] = after
    return JpegHeader(**found, stray_before=frozenset(stray))


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, where it starts, where the next may) of each segment up to the first scan's header."""
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:  # junk between segments: go on at the next marker, as decoders do
            at = data.find(b"\xff", at)
            if at < 0:
                return
            continue
        marker = data[at + 1]
        if marker == 0xFF or marker == 0 or marker == 0x01 or 0xD0 <= marker <= 0xD8:
            at += 1 if marker == 0xFF else 2
            continue
        if marker == 0xD9:
            return
        after = at + 2 + struct.unpack_from(">H", data, at + 2)[0]
        yield marker, at, after
        if marker == 0xDA:
            return
        at = after


def without_oddities(data: bytes) -> bytes:
    """The same picture under a header that no decoder has a word about.

    A strict decoder stops at its first word; where that is harmless, only this tells what would have come after it.
    Left out are bytes of no segment and all that is not needed to paint: profiles, EXIF, comments.
    """
    parts, scan, components, frame = [b"\xff\xd8"], 0, 3, 0
    for marker, start, after in _segments(data):
        segment, scan = bytearray(data[start:after]), after
        body = bytes(segment[4:])
        if marker in SOF_MARKERS and len(body) >= 6:
            frame, components = marker, body[5]
        if marker == 0xE0 and body.startswith(b"JFIF\0") and len(body) > 5:
            segment[9] = 1  # the only version there is
        elif marker == 0xEE and body.startswith(b"Adobe") and len(body) > 11:
            # decoders take a transform that they do not know for these
            segment[15] = body[11] if body[11] <= 2 else 1 if components == 3 else 2
        elif 0xE0 <= marker <= 0xEF or marker == 0xFE:
            continue
        elif marker == 0xDA and frame in (0xC0, 0xC1) and len(body) >= 4:
            segment[-3:] = b"\x00\x3f\x00"  # all coefficients at once: what a sequential scan is
        parts.append(bytes(segment))
    return b"".join(parts) + data[scan:]


def _segment(marker: int, body: bytes, found: dict) -> None:
    if marker in SOF_MARKERS and len(body) >= 6 and len(body) >= 6 + 3 * body[5]:
        found["precision"], found["height"], found["width"], count = struct.unpack_from(">BHHB", body)
        parts = [body[6 + 3 * n : 9 + 3 * n] for n in range(count)]
        found.update(
            frame=marker, components=count,
            sampling=tuple((part[1] >> 4, part[1] & 15) for part in parts),
            tables_used=tuple(part[2] for part in parts),
        )  # fmt: skip
    elif marker == 0xDB:
        at = 0
        while at < len(body):
            wide, number = body[at] >> 4, body[at] & 15
            size = 128 if wide else 64
            table = body[at + 1 : at + 1 + size]
            if len(table) == size:
                found["quantisation"][number] = struct.unpack(">64H", table) if wide else tuple(table)
            at += 1 + size
    elif marker == 0xDD and len(body) >= 2:
        found["restart_interval"] = struct.unpack_from(">H", body)[0]


def grade(message: str, header: JpegHeader) -> Verdict:
    """A verdict from libjpeg's own words. The words are kept in `tool`."""
    low = message.lower()
    extra = _EXTRANEOUS.search(low)
    if extra:
        # between the header's parts: an editor left bytes there, and the picture is whole
        if int(extra.group(1), 16) in header.stray_before:
            return Verdict(True, "hint", "odd_markers", "has stray bytes between its header's parts", message)
        what = "the image data holds more bytes than its blocks need: something inside is wrong"
        return Verdict(False, "error", "damaged", what, message)
    for words, what in _HARMLESS:
        if words.search(low):
            return Verdict(True, "hint", "odd_markers", what, message)
    if "premature end" in low:
        return Verdict(False, "error", "damaged", "ends too early: the rest of the picture is missing", message)
    if "bad huffman" in low or "corrupt jpeg data" in low:
        return Verdict(False, "error", "damaged", "its image data is broken: part of the picture is garbled", message)
    # inside a broken scan anything may look like a foreign marker; only the header's own kind counts
    if header.precision != 8 or header.frame not in (0xC0, 0xC1, 0xC2):
        return Verdict(False, "error", "unsupported", "is a kind of JPEG that the trainer cannot read", message)
    if any(word in low for word in ("progression", "invalid", "inconsistent")):
        return Verdict(False, "error", "damaged", "its image data contradicts itself", message)
    return Verdict(False, "error", "undecodable", "cannot be decoded", message)


def ending(data: bytes, header: JpegHeader) -> Verdict:
    """What stands after the image: its end marker missing, or bytes behind it."""
    if not header.scan:
        return Verdict(False, "error", "undecodable", "has no image data")
    end = data.rfind(b"\xff\xd9", header.scan)
    if end < 0:
        return Verdict(False, "error", "damaged", "its end is missing: the file was cut off")
    rest = data[end + 2 :]
    if not rest.strip(b"\x00\xff\r\n \t"):
        return Verdict()
    return Verdict(True, "hint", "trailing_data", f"has {len(rest)} bytes after its end, which decoders skip")

"""What the chunks of PNG, WebP and GIF files say, beyond what Pillow checks when it loads them."""

from __future__ import annotations

import struct
import zlib

from kohyakit.dataset.decode.record import Verdict

_INFLATE_STEP = 1 << 20  # bytes held at a time: a small file may inflate to gigabytes
_INFLATE_MOST = 1_500_000_000  # more than Pillow's pixel limit allows
_PNG_CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")


def check_png(data: bytes) -> Verdict:
    """Walk the chunks: checksums, the image data, the end; the pixels are Pillow's affair.

    A fault in a side chunk (text, time, animation) leaves the picture whole and is no more than a warning.
    """
    at, seen, side, parts, palette = 8, set(), Verdict(), [], 0
    while at < len(data):
        if at + 12 > len(data):
            return _damaged("is cut off inside a chunk")
        length, kind = struct.unpack_from(">I4s", data, at)
        if at + 12 + length > len(data):
            return _damaged(f"is cut off inside its {_name(kind)} chunk")
        body = memoryview(data)[at + 8 : at + 8 + length]
        (stated,) = struct.unpack_from(">I", data, at + 8 + length)
        if zlib.crc32(body, zlib.crc32(kind)) != stated:
            what = f"the checksum of its {_name(kind)} chunk is wrong"
            if kind in _PNG_CRITICAL or not kind.isalpha():
                return _damaged(what)
            side = Verdict(False, "warning", "damaged", f"{what}; the picture itself may be whole")
        elif side.ok:
            side = _png_side(kind, bytes(body[:512])) or side
        if kind == b"IDAT":
            parts.append(body)
        elif kind == b"PLTE":
            palette = length
        seen.add(kind)
        at += 12 + length
        if kind == b"IEND":
            break
    if b"IDAT" not in seen:
        return Verdict(False, "error", "undecodable", "has no image data (no IDAT chunk)")
    if b"IEND" not in seen:
        return _damaged("its end (the IEND chunk) is missing: the file was cut off")
    if data[25:26] == b"\x03" and palette < 3:
        return _damaged("its palette is empty, so that all of it is black")
    if not _inflates(parts, data[16:26]):
        return _damaged("its compressed image data is broken")
    if side.severity is None and len(data) > at:
        return Verdict(True, "hint", "trailing_data", f"has {len(data) - at} bytes after its end, which decoders skip")
    return side


def _inflates(parts: list[memoryview], header: bytes) -> bool:
    """Whether the zlib stream reaches its end with the right checksum (Pillow stops reading when it has the rows).

    What inflates to more than the picture needs is not followed to its end: a few bytes may make gigabytes.
    """
    width, height, bits, colours = struct.unpack_from(">IIBB", header.ljust(10, b"\0"))
    needed = height * (1 + width * bits * {2: 3, 4: 2, 6: 4}.get(colours, 1) // 8)
    left = min(needed + needed // 8 + 65536, _INFLATE_MOST)
    stream = zlib.decompressobj()
    try:
        for part in parts:
            left -= len(stream.decompress(part, _INFLATE_STEP))
            while stream.unconsumed_tail and not stream.eof:
                left -= len(stream.decompress(stream.unconsumed_tail, _INFLATE_STEP))
                if left < 0:
                    return True
        return stream.eof
    except zlib.error:
        return False


def _png_side(kind: bytes, body: bytes) -> Verdict | None:
    """A hint on side data that breaks the PNG specification without touching the picture."""
    if kind == b"tEXt" and b"\0" in body.partition(b"\0")[2]:
        return Verdict(True, "hint", "damaged", "holds text with bytes that PNG forbids; the picture is whole")
    if kind == b"tIME" and len(body) == 7:
        year, month, day, hour, minute, second = struct.unpack(">H5B", body)
        # PNG came in 1996; an earlier year is a clock that was never set
        if not (year >= 1995 and 1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60 and second < 61):
            return Verdict(True, "hint", "damaged", "its time stamp is impossible; the picture is whole")
    return None


def check_webp(data: bytes) -> Verdict:
    """Compare the sizes that the RIFF container states with the bytes that are there."""
    (riff,) = struct.unpack_from("<I", data, 4)
    if riff + 8 > len(data):
        return _damaged(f"is cut off: {riff + 8 - len(data)} of {riff + 8} bytes are missing")
    at, end, kinds = 12, riff + 8, set()
    while at + 8 <= end:
        kind, length = struct.unpack_from("<4sI", data, at)
        if at + 8 + length > end:
            return _damaged(f"its {_name(kind)} part runs past the size that the file states")
        kinds.add(kind)
        at += 8 + length + (length & 1)
    if not kinds & {b"VP8 ", b"VP8L", b"ANMF"}:
        return Verdict(False, "error", "undecodable", "has no image data")
    if len(data) > end + 1:
        return Verdict(True, "hint", "trailing_data", f"has {len(data) - end} bytes after its end, which decoders skip")
    return Verdict()


def first_gif_frame(data: bytes) -> tuple[int, int]:
    """How far to the right and down the first frame of a GIF reaches, in pixels; zeros where none is found."""
    at = 13 + (3 << ((data[10] & 7) + 1) if len(data) > 10 and data[10] & 0x80 else 0)
    while at + 9 < len(data) and data[at] in (0x21, 0x00):
        if data[at] == 0x21:
            at += 2
            while at < len(data) and data[at]:
                at += 1 + data[at]
        at += 1
    if at + 9 >= len(data) or data[at] != 0x2C:
        return 0, 0
    left, top, width, height = struct.unpack_from("<4H", data, at + 1)
    return left + width, top + height


def check_gif(data: bytes) -> Verdict:
    """Walk the blocks to the trailer."""
    at = 13
    if len(data) > 10 and data[10] & 0x80:
        at += 3 << ((data[10] & 7) + 1)
    while at < len(data):
        kind = data[at]
        if kind == 0x3B:
            return Verdict()
        if kind == 0x21:
            at += 2
        elif kind == 0x2C and at + 9 < len(data):
            flags = data[at + 9]
            at += 10 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0) + 1
        elif kind == 0:  # writers pad with zeros; decoders skip them
            at += 1
            continue
        else:
            return _damaged("its blocks are out of order: something inside is wrong")
        while at < len(data) and data[at]:
            at += 1 + data[at]
        at += 1
    return _damaged("its end is missing: the file was cut off")


def _damaged(what: str) -> Verdict:
    return Verdict(False, "error", "damaged", what)


def _name(kind: bytes) -> str:
    return kind.decode("ascii", "replace").strip() if kind.isalnum() else "unnamed"

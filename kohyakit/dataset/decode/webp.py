"""A WebP's image data: whether the decoder needs all of it.

WebP carries no checksum and its arithmetic coder makes something of any bytes, so damage inside decodes without
a word. But a sound stream ends where its last pixel does. So the last bytes of each part are taken away and the
picture decoded again: a sound file then ends too early and fails; a damaged one has lost count of its bytes, and
decodes happily without them.
"""

from __future__ import annotations

import io
import struct
from typing import Any

from kohyakit.dataset.decode.facts import quietly
from kohyakit.dataset.decode.record import Verdict

TAIL = 64  # bytes taken away: a lossy part is padded by a few bytes at most, lost count is off by hundreds
TAIL_LOSSLESS = 16  # a lossless picture leaves 4 bytes at most
_SMALL = 8 * TAIL


def check_tail(data: bytes) -> Verdict:
    """Damaged when the first frame's picture decodes without the last bytes of one of its parts."""
    kind, payload = _first_picture(data)
    try:
        shortened = _without_tails(kind, payload)
    except (struct.error, IndexError):
        return Verdict()  # the decoder proper has judged it
    for part in shortened:
        if _decodes(kind, part):
            what = "its image data is garbled: the picture needs fewer bytes than are there"
            return Verdict(False, "error", "damaged", what)
    return Verdict()


def _first_picture(data: bytes) -> tuple[bytes, bytes]:
    """Kind (`VP8 ` or `VP8L`) and bytes of the first frame's picture; empty where there is none."""
    at = 12
    while at + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, at)
        if kind in (b"VP8 ", b"VP8L"):
            return kind, data[at + 8 : at + 8 + length]
        # a frame of an animation is a header of 16 bytes, then chunks of its own
        at += 8 + (16 if kind == b"ANMF" else length + (length & 1))
    return b"", b""


def _without_tails(kind: bytes, payload: bytes) -> list[bytes]:
    """The picture with the tail of one part missing, once a part that is large enough to tell."""
    if len(payload) < _SMALL or not kind:
        return []
    if kind == b"VP8L":
        return [payload[:-TAIL_LOSSLESS]]
    # RFC 6386, 9.1: 3 bytes of tag (the first partition's size in its upper 19 bits), 7 of a key frame's header
    start = 10 + (int.from_bytes(payload[:3], "little") >> 5)
    count = _token_partitions(payload)
    sizes = [int.from_bytes(payload[at : at + 3], "little") for at in range(start, start + 3 * (count - 1), 3)]
    at = start + 3 * (count - 1)
    sizes.append(len(payload) - at - sum(sizes))
    shortened = []
    for number, size in enumerate(sizes):
        at += size
        if size < _SMALL:
            continue
        table = bytearray(payload[: at - TAIL])
        if number < count - 1:
            field = start + 3 * number
            table[field : field + 3] = (size - TAIL).to_bytes(3, "little")
        shortened.append(bytes(table) + payload[at:])
    return shortened


def _token_partitions(payload: bytes) -> int:
    """1, 2, 4 or 8: read from the first partition's header with VP8's boolean decoder (RFC 6386, 7 and 9.2-9.5)."""
    read = _BoolReader(payload[10:]).literal
    read(1), read(1)  # colour space, clamping
    if read(1):  # segmentation
        update_map, update_data = read(1), read(1)
        if update_data:
            read(1)
            for bits in (7, 7, 7, 7, 6, 6, 6, 6):
                if read(1):
                    read(bits), read(1)
        if update_map:
            for _ in range(3):
                if read(1):
                    read(8)
    read(1), read(6), read(3)  # loop filter
    if read(1) and read(1):
        for _ in range(8):
            if read(1):
                read(6), read(1)
    return 1 << read(2)


class _BoolReader:
    """VP8's boolean decoder for even odds, all that the frame header's start needs."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 2
        self.value, self.range, self.shifted = int.from_bytes(data[:2], "big"), 255, 0

    def literal(self, bits: int) -> int:
        found = 0
        for _ in range(bits):
            found = found << 1 | self._bit()
        return found

    def _bit(self) -> int:
        split = 1 + ((self.range - 1) * 128 >> 8)
        bit = self.value >= split << 8
        if bit:
            self.range -= split
            self.value -= split << 8
        else:
            self.range = split
        while self.range < 128:
            self.value <<= 1
            self.range <<= 1
            self.shifted += 1
            if self.shifted == 8:
                self.shifted = 0
                self.value |= self.data[self.at]
                self.at += 1
        return int(bit)


def _decodes(kind: bytes, payload: bytes) -> bool:
    body = b"WEBP" + kind + struct.pack("<I", len(payload)) + payload + b"\0" * (len(payload) & 1)
    return _loads(b"RIFF" + struct.pack("<I", len(body)) + body)


def _loads(data: bytes) -> Any:
    from PIL import Image

    try:
        with quietly():
            Image.open(io.BytesIO(data)).load()
        return True
    except Exception:  # that it fails is the answer
        return False

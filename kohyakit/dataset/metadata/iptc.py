"""IPTC, as Photoshop keeps it in a JPEG: caption, headline and keywords."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from kohyakit.dataset.metadata.told import Told, Unfit, as_text, line, told

_IPTC = 0x0404
_CHARSET, _CAPTION, _HEADLINE, _KEYWORD = (1, 90), (2, 120), (2, 105), (2, 25)


def said(resources: bytes) -> Told:
    """resources: what stands behind `Photoshop 3.0`. Raises Unfit for text that cannot be read."""
    fields: dict[tuple[int, int], list[bytes]] = {}
    for data in _blocks(resources):
        for key, value in _records(data):
            fields.setdefault(key, []).append(value)
    utf_8 = b"\x1b%G" in fields.get(_CHARSET, [])

    def texts(key: tuple[int, int]) -> list[str]:
        return [_decoded(value, utf_8=utf_8) for value in fields.get(key, ())]

    captions = (line(text) for key in (_CAPTION, _HEADLINE) for text in texts(key))
    return told(next((caption for caption in captions if caption), ""), texts(_KEYWORD))


def _decoded(value: bytes, *, utf_8: bool) -> str:
    if not utf_8:
        return as_text(value)
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        raise Unfit("has IPTC that says UTF-8 and is not") from None


def _blocks(resources: bytes) -> Iterator[bytes]:
    at = 0
    while resources[at : at + 4] == b"8BIM" and at + 7 < len(resources):
        (number,) = struct.unpack_from(">H", resources, at + 4)
        at += 6 + (resources[at + 6] + 2) // 2 * 2  # a name with its length in front, of an even length
        if at + 4 > len(resources):
            return
        (size,) = struct.unpack_from(">I", resources, at)
        if number == _IPTC:
            yield resources[at + 4 : at + 4 + size]
        at += 4 + size + size % 2


def _records(data: bytes) -> Iterator[tuple[tuple[int, int], bytes]]:
    at = 0
    while at + 5 <= len(data) and data[at] == 0x1C:
        record, dataset, size = struct.unpack_from(">BBH", data, at + 1)
        if size & 0x8000:  # longer than 32 kB: no caption
            return
        yield (record, dataset), data[at + 5 : at + 5 + size]
        at += 5 + size

"""EXIF: what it says in words, and a description put into it so that nothing else in it moves."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from kohyakit.dataset.metadata.told import Told, Unfit, as_text, line, prompt_in, told

DESCRIPTION, EXIF_IFD, USER_COMMENT = 0x010E, 0x8769, 0x9286
_XP_COMMENT, _XP_KEYWORDS, _XP_SUBJECT = 0x9C9C, 0x9C9E, 0x9C9F
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_ASCII = 2
_COMFY = {0x010F: "workflow:", 0x0110: "prompt:"}  # ComfyUI's in a WebP, where others name the camera


def said(exif: bytes) -> Told:
    """Description, user comment and Windows' comment, the first that says something, and Windows' keywords.

    exif: TIFF data. Raises Unfit for text that cannot be read. What is no EXIF says nothing.
    """
    values = _values(exif)
    keywords = _wide(values.get(_XP_KEYWORDS, b"")).split(";")
    texts = (
        lambda: as_text(values.get(DESCRIPTION, b"")),
        lambda: _comment(values.get(USER_COMMENT, b""), exif),
        lambda: _wide(values.get(_XP_COMMENT, b"")),
        lambda: _wide(values.get(_XP_SUBJECT, b"")),
    )
    for text in texts:
        if caption := line(prompt_in(text())):
            return told(caption, keywords)
    for tag, name in _COMFY.items():
        if (workflow := values.get(tag, b"").decode("utf-8", "replace").strip("\0")).startswith(name):
            prompt_in(workflow.removeprefix(name))
    return told("", keywords)


def with_description(exif: bytes, text: str) -> bytes:
    """The same TIFF data with this description. What stood there stays where it was, maker's notes too: the first
    directory is written anew behind it. b"" makes a new one. Raises Unfit for what is no EXIF.
    """
    exif = exif or b"II*\0\x08\0\0\0\0\0\0\0\0\0"
    order, start = _order(exif), _first(exif)
    if _values(exif).get(DESCRIPTION) == text.encode("utf-8") + b"\0":
        return exif
    words = text.encode("utf-8") + b"\0"
    try:
        (count,) = struct.unpack_from(order + "H", exif, start)
        rows = [exif[at : at + 12] for at in range(start + 2, start + 2 + 12 * count, 12)]
        after = exif[start + 2 + 12 * count :][:4].ljust(4, b"\0")
        kept = {struct.unpack_from(order + "H", row)[0]: row for row in rows}
    except struct.error:
        raise Unfit("has EXIF that is damaged") from None
    body = exif + b"\0" * (len(exif) % 2)
    place = len(body) + 2 + 12 * (len(kept) + (DESCRIPTION not in kept)) + 4
    inside = words.ljust(4, b"\0") if len(words) <= 4 else struct.pack(order + "I", place)
    kept[DESCRIPTION] = struct.pack(order + "HHI", DESCRIPTION, _ASCII, len(words)) + inside
    directory = struct.pack(order + "H", len(kept)) + b"".join(kept[tag] for tag in sorted(kept)) + after
    tail = words if len(words) > 4 else b""
    return body[:4] + struct.pack(order + "I", len(body)) + body[8:] + directory + tail


def _order(exif: bytes) -> str:
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        raise Unfit("has EXIF that is damaged")
    return order


def _first(exif: bytes) -> int:
    try:
        return int(struct.unpack_from(_order(exif) + "I", exif, 4)[0])
    except struct.error:
        raise Unfit("has EXIF that is damaged") from None


def _values(exif: bytes) -> dict[int, bytes]:
    """The bytes of every tag of the first directory and of EXIF's own."""
    if exif[:4] not in (b"II*\0", b"MM\0*"):
        return {}
    order = _order(exif)
    found = dict(_directory(exif, order, _first(exif)))
    if len(found.get(EXIF_IFD, b"")) == 4:
        (inner,) = struct.unpack(order + "I", found[EXIF_IFD])
        found = {**dict(_directory(exif, order, inner)), **found}
    return found


def _directory(exif: bytes, order: str, start: int) -> Iterator[tuple[int, bytes]]:
    if start + 2 > len(exif):
        return
    (count,) = struct.unpack_from(order + "H", exif, start)
    for at in range(start + 2, min(start + 2 + 12 * count, len(exif) - 11), 12):
        tag, kind, many, place = struct.unpack_from(order + "HHII", exif, at)
        size = _SIZES.get(kind, 0) * many
        where = place if size > 4 else at + 8
        if size and where + size <= len(exif):
            yield tag, exif[where : where + size]


def _comment(data: bytes, exif: bytes) -> str:
    """Its first eight bytes say how it is written. UNICODE is UTF-16 in either order, whatever the rest is in."""
    how, body = data[:8], data[8:]
    if how.startswith(b"UNICODE"):
        if body.startswith((b"\xff\xfe", b"\xfe\xff")):
            return _wide(body, "utf-16")
        high, low = body[0::2].count(0), body[1::2].count(0)
        big = high > low if high != low else exif[:2] == b"MM"
        return _wide(body, "utf-16-be" if big else "utf-16-le")
    if how.startswith(b"JIS"):
        for codec in ("iso2022_jp", "cp932"):
            try:
                return body.rstrip(b"\0").decode(codec)
            except UnicodeDecodeError:
                continue
        raise Unfit("has a comment that is not in the encoding that it says")
    return as_text(body.strip(b"\0 "))


def _wide(data: bytes, codec: str = "utf-16-le") -> str:
    try:
        return data[: len(data) // 2 * 2].decode(codec).strip("\0")
    except UnicodeDecodeError:
        raise Unfit("has a comment that is not UTF-16") from None

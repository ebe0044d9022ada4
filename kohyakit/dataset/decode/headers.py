"""What an image file's header says: format, stored size, orientation, and whether its end is there.

THE reader of size and orientation: check, train and audit all ask it. By hand for JPEG, PNG, WebP, BMP and GIF, and
for these the answers are Pillow's, which decodes the pixels; everything else that Pillow opens is read by Pillow.
Anything may be in a file that is called .jpg: whatever it is, the answer is a Header or a BadImage with one plain
sentence.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from kohyakit.dataset.decode.signature import NO_IMAGES, sniff

_HEAD = 65536
_LARGEST_SIDE_DATA = 1 << 24  # bytes of EXIF or XMP that are looked through; cameras write some thousands
_PNG_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')
_CUT = "it breaks off before its end"


class BadImage(ValueError):
    """The file is no readable image; the text says what it is instead. fault: what decode.Verdict calls it."""

    def __init__(self, what: str, fault: str = "undecodable") -> None:
        super().__init__(what)
        self.fault = fault


@dataclass(frozen=True, slots=True)
class Header:
    """format: jpeg, png, webp, bmp, gif, tiff, avif, jxl … width, height: pixels as a decoder gives them.

    orientation: EXIF 1 to 8, what is left to turn after decoding (Pillow turns a TIFF by itself, so that has 1).
    fault: what is wrong with the file's structure, most often at its end; "" when it is whole.
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
    kind = sniff(head)
    if kind in NO_IMAGES:
        raise BadImage(_what_it_is(head))
    reader = _READERS.get(kind or "", _pillow)
    try:
        header = reader(file, head, length)
    except (BadImage, struct.error, IndexError, OverflowError) as error:
        header = _second_opinion(file, head, length, error)
    if header.width < 1 or header.height < 1:
        raise BadImage("its header gives a size of 0")
    return header


def _second_opinion(file: BinaryIO, head: bytes, length: int, error: Exception) -> Header:
    """What the reading by hand does not know: Pillow forgives some of it, and it is what will decode the file."""
    try:
        return _pillow(file, head, length)
    except BadImage:
        raise error if isinstance(error, BadImage) else BadImage("its header is cut off or damaged") from None


def _what_it_is(head: bytes) -> str:
    kind = sniff(head)
    if not head.strip(b"\x00"):
        return "it holds only zero bytes"
    if kind == "TEXT" and head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"{", b"[")):
        return "it is a JSON text, not an image"
    if kind in NO_IMAGES:
        return f"it {NO_IMAGES[kind]}"
    if kind is not None:
        return f"it is {kind}, which the trainer cannot read here; convert it to JPEG or PNG"
    return "it is not an image"


def _jpeg(file: BinaryIO, head: bytes, length: int) -> Header:
    data, position, frame = head, 2, 0
    width = height = 0
    exif, xmp, stray = b"", b"", False
    while True:
        if position + 4 > len(data) and len(data) < length:
            file.seek(0)
            data = file.read(min(length, max(position + _HEAD, 2 * len(data))))
        if data[position] != 0xFF:  # bytes of no segment: go on at the next marker, as decoders do
            stray = True
            position = data.find(b"\xff", position)
            if position < 0:
                raise BadImage("its JPEG header is damaged")
        marker = data[position + 1]
        if marker in (0x00, 0xFF):
            position += 1 if marker else 2
            continue
        if 0xD0 <= marker <= 0xD8 or marker == 0x01:
            position += 2
            continue
        if marker in (0xD9, 0xDA):
            if not frame:
                raise BadImage("its JPEG header gives no size")
            if stray:
                _second_opinion(file, head, length, BadImage("its JPEG header is damaged"))
            whole = _jpeg_ends(file, position, length)
            return Header("jpeg", width, height, _orientation(exif, xmp), "" if whole else _CUT)
        (size,) = struct.unpack_from(">H", data, position + 2)
        if position + 2 + size > len(data) and len(data) < length:
            file.seek(0)
            data = file.read(min(length, position + 2 + size + _HEAD))
        body = data[position + 4 : position + 2 + size]
        if marker == 0xE1 and body.startswith(b"Exif\0"):
            exif += body[6:]  # more than one segment holds is carried on in the next
        elif marker == 0xE1 and body.startswith(b"http://ns.adobe.com/xap/1.0/\x00"):
            xmp = body
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            frame = position
            height, width = struct.unpack_from(">HH", data, position + 5)
        position += 2 + size


def _jpeg_ends(file: BinaryIO, scan: int, length: int) -> bool:
    """Whether the end marker is there: as the last two bytes, or after the scan where a camera appended more."""
    file.seek(max(0, length - 2))
    if file.read(2) == b"\xff\xd9":
        return True
    file.seek(scan)
    return b"\xff\xd9" in file.read()


def _orientation(exif: bytes, xmp: bytes) -> int:
    """1 to 8, as Pillow's exif_transpose: the EXIF tag where there is one, whatever it says; else XMP's; else 1."""
    found = _tiff_orientation(exif)
    if found is None:
        match = _XMP_ORIENTATION.search(xmp)
        found = int(match[1]) if match else 1
    return found if 1 <= found <= 8 else 1


_WHOLE_NUMBERS = {3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I"}  # TIFF's types that may say it


def _tiff_orientation(data: bytes) -> int | None:
    """The orientation tag of a TIFF structure (EXIF's form); 0 where it is no whole number, None without the tag."""
    while data.startswith(b"Exif\0\0"):
        data = data[6:]
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    found = None
    if order is None:
        return found
    try:
        (ifd,) = struct.unpack_from(order + "I", data, 4)
        (count,) = struct.unpack_from(order + "H", data, ifd)
        for entry in range(ifd + 2, ifd + 2 + 12 * count, 12):
            tag, kind, values, place = struct.unpack_from(order + "HHII", data, entry)
            if tag == 0x0112:
                how = order + _WHOLE_NUMBERS.get(kind, "x")
                inside = struct.calcsize(how) * values <= 4  # the first of several numbers counts
                (found,) = struct.unpack_from(how, data, entry + 8 if inside else place) or (0,)
    except struct.error:
        pass
    return found


def _png(file: BinaryIO, head: bytes, length: int) -> Header:
    if head[12:16] != b"IHDR":
        raise BadImage("its PNG header is damaged")
    width, height, depth, colour = struct.unpack_from(">IIBB", head, 16)
    if depth not in _PNG_DEPTHS.get(colour, ()) or zlib.crc32(head[12:29]) != struct.unpack_from(">I", head, 29)[0]:
        raise BadImage("its PNG header is damaged")
    exif, xmp, profile, palette, whole = b"", b"", False, 0, False
    for kind, at, size in png_chunks(file, length):
        if kind == b"eXIf":
            exif = _read(file, at, size)
        elif kind == b"iTXt":
            xmp = _png_xmp(_read(file, at, size)) or xmp
        elif kind in (b"zTXt", b"tEXt"):
            profile = profile or _read(file, at, min(size, 16)).startswith(b"Raw profile type")
        elif kind == b"PLTE":
            palette = size
        whole = kind == b"IEND"
    orientation = _orientation(exif, xmp)
    if profile and not exif:  # ImageMagick's way of storing EXIF
        orientation = _second_opinion(file, head, length, BadImage("its PNG header is damaged")).orientation
    fault = "its palette is empty, so that all of it is black" if colour == 3 and palette < 3 else ""
    return Header("png", width, height, orientation, fault if whole else _CUT)


def _png_xmp(body: bytes) -> bytes:
    """The XMP of an iTXt chunk, inflated where it is packed; b"" for other texts."""
    keyword, _, rest = body.partition(b"\0")
    if keyword != b"XML:com.adobe.xmp" or len(rest) < 2:
        return b""
    packed, text = rest[0], rest[2:].split(b"\0", 2)[-1]
    if not packed:
        return text
    try:
        return zlib.decompressobj().decompress(text, _LARGEST_SIDE_DATA)
    except zlib.error:
        return b""


def png_chunks(file: BinaryIO, length: int) -> Iterator[tuple[bytes, int, int]]:
    """(kind, where its body begins, size) of every whole chunk; of a long row of equal IDATs only some."""
    position = 8
    while position + 12 <= length:
        size, kind = _png_chunk(file, position)
        if position + 12 + size > length:
            return
        yield kind, position + 8, size
        if kind == b"IEND":
            return
        step = 12 + size
        if kind == b"IDAT":
            position += step * _equal_chunks(file, position, step, length)
        position += step


def _png_chunk(file: BinaryIO, position: int) -> tuple[int, bytes]:
    file.seek(position)
    return struct.unpack(">I4s", file.read(8))


def _equal_chunks(file: BinaryIO, position: int, step: int, length: int) -> int:
    """How many chunks after the one here are as long and also IDAT: writers cut a picture into thousands of them.

    Found by doubling the stride and halving it again; a length and a name at the very place are no accident.
    """
    last, stride, growing = 0, 1, True
    while stride:
        at = position + (last + stride) * step
        if at + 12 <= length and _png_chunk(file, at) == (step - 12, b"IDAT"):
            last += stride
            stride *= 2 if growing else 1
        else:
            growing = False
        stride = stride if growing else stride // 2
    return last


def _read(file: BinaryIO, at: int, size: int) -> bytes:
    file.seek(at)
    return file.read(min(size, _LARGEST_SIDE_DATA))


def _webp(file: BinaryIO, head: bytes, length: int) -> Header:
    (riff,) = struct.unpack_from("<I", head, 4)
    fault = "" if length >= riff + 8 else _CUT
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
    return Header("webp", width, height, _webp_orientation(file, head[20], min(length, riff + 8)), fault)


def _webp_orientation(file: BinaryIO, flags: int, length: int) -> int:
    """flags: which of EXIF (8) and XMP (4) the file announces; what it does not announce no reader sees."""
    wanted = {kind: b"" for kind, flag in ((b"EXIF", 8), (b"XMP ", 4)) if flags & flag}
    position = 12
    while wanted and position + 8 <= length:
        file.seek(position)
        kind, size = struct.unpack("<4sI", file.read(8))
        if kind in wanted and not wanted[kind]:
            wanted[kind] = file.read(min(size, _LARGEST_SIDE_DATA))
        position += 8 + size + size % 2
    return _orientation(wanted.get(b"EXIF", b""), wanted.get(b"XMP ", b""))


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
    return Header("bmp", width, height, 1, "" if length >= needs else _CUT)


def _gif(file: BinaryIO, head: bytes, length: int) -> Header:
    """The first frame counts too: where it reaches past the stated screen, decoders make the screen larger."""
    from kohyakit.dataset.decode.containers import check_gif, first_gif_frame

    file.seek(0)
    data = file.read()
    width, height = struct.unpack_from("<HH", head, 6)
    right, bottom = first_gif_frame(data)
    return Header("gif", max(width, right), max(height, bottom), 1, "" if check_gif(data).ok else _CUT)


def _pillow(file: BinaryIO, head: bytes, length: int) -> Header:
    """TIFF, AVIF, JPEG XL, JPEG 2000 and whatever else Pillow opens."""
    try:
        from PIL import Image
    except ModuleNotFoundError:
        known = sniff(head)
        what = "its format needs Pillow to be read: pip install pillow" if known else _what_it_is(head)
        raise BadImage(what) from None
    import contextlib

    for plugin in ("pillow_avif", "pillow_jxl"):
        with contextlib.suppress(ImportError):
            __import__(plugin)
    file.seek(0)
    try:
        with Image.open(file) as image:
            format = (sniff(head) or image.format or "").lower()
            size, orientation = image.size, 1
            if format != "tiff":  # which it turns when it loads it, and gives the turned size before
                orientation = image.getexif().get(0x0112, 1)
                orientation = orientation if orientation in range(1, 9) else 1
            return Header(format, *size, int(orientation))
    except Exception:  # Pillow's plug-ins raise nearly anything on a damaged file
        raise BadImage(_what_it_is(head)) from None


_READERS: dict[str, Callable[[BinaryIO, bytes, int], Header]] = {
    "JPEG": _jpeg, "PNG": _png, "WEBP": _webp, "BMP": _bmp, "GIF": _gif,
}  # fmt: skip

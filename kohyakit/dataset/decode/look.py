"""One look: read, sniff, decode strictly, grade."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

from kohyakit.dataset.decode import breaks, containers, jpeg, webp
from kohyakit.dataset.decode.drawn import is_drawn
from kohyakit.dataset.decode.facts import exif_facts, header_facts, open_image, quietly
from kohyakit.dataset.decode.headers import BadImage, parse
from kohyakit.dataset.decode.record import Examination, Pixels, Verdict
from kohyakit.dataset.decode.signature import EXTENSIONS, NO_IMAGES, extension_ok, sniff
from kohyakit.dataset.decode.source import read_bytes
from kohyakit.errors import rank_of

READ_SIDE = 1000  # the longer side that a reduced decode keeps at least: enough to judge sharpness at training size
_WALKS = {"PNG": containers.check_png, "WEBP": containers.check_webp, "GIF": containers.check_gif}


def look(path: Path) -> Examination:
    data, reading = read_bytes(path)
    if not data:
        if reading.ok:
            reading = Verdict(False, "error", "undecodable", "is empty (0 bytes)")
        return Examination(path, reading)
    format = sniff(data)
    known: dict[str, Any] = {
        "format": format,
        "extension_ok": extension_ok(path, format),
        "extension_wanted": EXTENSIONS.get(format or "", ("",))[0],
        "file_size": len(data),
        "digest": hashlib.sha256(data).hexdigest(),
    }
    with quietly():  # the verdict says it
        found, facts, pixels = _judge(data, format)
    return Examination(path, found if reading.ok else reading, **known, **facts, pixels=pixels)


def judge_bytes(data: bytes) -> Verdict:
    """The verdict on a file's bytes that are not on disk yet."""
    return _judge(data, sniff(data))[0]


def _judge(data: bytes, format: str | None) -> tuple[Verdict, dict[str, Any], Pixels | None]:
    from PIL import Image

    if format in NO_IMAGES:
        return Verdict(False, "error", "undecodable", NO_IMAGES[format]), {}, None
    structure = _WALKS[format](data) if format in _WALKS else Verdict()
    try:
        image = open_image(data)
        facts = header_facts(image, data, format) | _as_trained(data)
    except Image.DecompressionBombError as error:
        what = "claims more pixels than are safe to decode; shrink it, or leave it out"
        return Verdict(False, "error", "too_many_pixels", what, str(error)), {}, None
    except Exception as error:  # a decoder's errors on hostile bytes are of every kind
        return _not_opened(data, format, structure, error), {}, None
    if format != "PNG":  # Pillow loads a PNG for its EXIF and loses the error
        facts |= exif_facts(image)
    if format == "JPEG":
        found, pixels = _look_jpeg(data, image)
    else:
        found, pixels = _look_pillow(data, image)
        if format == "WEBP" and found.ok:
            found = webp.check_tail(data)
    if format == "PNG":
        facts |= exif_facts(image)
    return _worst(found, structure), facts, pixels


def _as_trained(data: bytes) -> dict[str, Any]:
    """Size and orientation by the one reader of them; empty where it finds none."""
    try:
        header = parse(io.BytesIO(data), len(data))
    except BadImage:
        return {}
    return {"width": header.width, "height": header.height, "orientation": header.orientation}


def _not_opened(data: bytes, format: str | None, structure: Verdict, error: Exception) -> Verdict:
    from PIL import features

    if structure.severity == "error":
        return structure
    if format in ("HEIC", "JXL") or (format == "AVIF" and not features.check("avif")):
        what = f"is {format}, which the trainer cannot read here; convert it to JPEG or PNG"
        return Verdict(False, "error", "unsupported", what, str(error))
    if format is None:
        return Verdict(False, "error", "undecodable", "is not an image: its first bytes belong to no known format")
    if "too large for" in str(error):  # PNG text beyond Pillow's limit: a whole file that no Pillow opens
        what = "holds so much text that the trainer refuses it; save it again without its metadata"
        return Verdict(False, "error", "unsupported", what, str(error))
    reason = _reason(data, format) or str(error)
    if "unknown pixel mode" in reason or (format == "JPEG" and jpeg.read_header(data).precision > 8):
        what = f"is a kind of {format} that the trainer cannot read; convert it to 8 bits a channel"
        return Verdict(False, "error", "unsupported", what, reason)
    return Verdict(False, "error", "undecodable", f"is {format} by its first bytes, but cannot be opened", reason)


def _reason(data: bytes, format: str) -> str:
    """Why Pillow's own reader for this format refuses; Image.open only says that nobody wanted the file."""
    from PIL import Image

    if format not in Image.OPEN:
        return ""
    try:
        Image.OPEN[format][0](io.BytesIO(data), "")
    except Exception as error:  # whatever it raises is the answer
        return str(error)
    return ""


def _look_jpeg(data: bytes, image: Any) -> tuple[Verdict, Pixels | None]:
    header = jpeg.read_header(data)
    found, rgb = decode_strictly(data, header)
    if rgb is None:
        fallback, pixels = _look_pillow(data, image)
        if "subsampling" in found.tool:
            return fallback, pixels
        if found.issue == "unsupported" and fallback.ok:  # by the strict decoder; the trainer's own reads it
            what = "is a kind of JPEG that other programs may not read; save it again to be sure"
            found = Verdict(True, "hint", "unsupported", what, found.tool)
        return _worst(found, fallback), pixels
    found = _worst(found, jpeg.ending(data, header))
    if found.ok:
        found = _worst(_judge_picture(data, header, rgb), found)
    return found, Pixels(rgb, rgb.shape[0] / max(1, image.height))


def _judge_picture(data: bytes, header: jpeg.JpegHeader, rgb: Any) -> Verdict:
    """What the picture itself says; a suspicion on a reduced picture is looked at again at full size."""
    found = breaks.check_picture(header, rgb)
    if found.ok:
        suspect = breaks.find_break(header, rgb)
        if suspect and rgb.shape[0] < header.height:
            _, full = decode_strictly(data, header, eighths=8)
            suspect = breaks.find_break(header, full)
        found = breaks.break_verdict(suspect, header) if suspect else found
    if not found.ok and not breaks.scrambled(header) and is_drawn(rgb):
        return Verdict()  # hatching, screentone, straight edges: what would be damage in a photo
    return found


def decode_strictly(data: bytes, header: jpeg.JpegHeader, eighths: int = 0) -> tuple[Verdict, Any]:
    """A JPEG's verdict by libjpeg's strictest reading, and its pixels: uint8 RGB [h, w, 3], None if there are none.

    eighths: of the size that is decoded, 1 to 8; 0 is what READ_SIDE allows.
    """
    import simplejpeg

    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data, strict=False)
    except Exception as error:  # ValueError for libjpeg's words, KeyError for a sampling that it has no name for
        return jpeg.grade(str(error), header), None
    eighths = eighths or reduced_eighths(width, height)
    space = "CMYK" if colours in ("CMYK", "YCCK") else "RGB"
    if header.frame == jpeg.LOSSLESS:  # comes in its own size and colours only
        space, eighths = "GRAY" if header.components == 1 else space, 8
    wanted = {"colorspace": space, **scaled(width, height, eighths)}
    found, pixels = _heard(data, header, wanted)
    if found.ok and found.issue:  # a harmless word, and behind it perhaps another
        plain = jpeg.without_oddities(data)
        after, whole = _heard(plain, jpeg.read_header(plain), wanted)
        found, pixels = _worst(after, found), pixels if whole is None else whole
    if pixels is None:  # nothing to show; the verdict stands
        return found, None
    if pixels.shape[2] == 1:
        pixels = pixels.repeat(3, axis=2)
    if pixels.shape[2] == 4:  # Adobe stores ink upside down: 255 is no ink
        import numpy as np

        ink = pixels.astype(np.uint16)
        pixels = (ink[..., :3] * ink[..., 3:] // 255).astype(np.uint8)
    return found, pixels


def _heard(data: bytes, header: jpeg.JpegHeader, wanted: dict[str, Any]) -> tuple[Verdict, Any]:
    """libjpeg's first word about a file, graded, and its pixels as `wanted`, None where it gives none."""
    import simplejpeg

    found = Verdict()
    for strict in (True, False):
        try:
            return found, simplejpeg.decode_jpeg(data, strict=strict, **wanted)
        except Exception as error:
            found = jpeg.grade(str(error), header) if strict else found
    return found, None


def reduced_eighths(width: int, height: int) -> int:
    """Eighths of its size to which libjpeg may reduce a picture that keeps READ_SIDE on its longer side.

    3 takes as long as 4, and 6 and 7 longer than all of it.
    """
    return next((eighths for eighths in (1, 2, 4, 5) if max(width, height) * eighths >= READ_SIDE * 8), 8)


def scaled(width: int, height: int, eighths: int) -> dict[str, float]:
    """What simplejpeg calls this reduction."""
    sides = {"min_height": -(-height * eighths // 8), "min_width": -(-width * eighths // 8)}
    return {**sides, "min_factor": 8 / eighths}


def _look_pillow(data: bytes, image: Any) -> tuple[Verdict, Pixels | None]:
    from PIL import Image

    limit = Image.MAX_IMAGE_PIXELS or 89_478_485
    if image.width * image.height > limit:
        what = f"has {image.width * image.height / 1e6:.0f} million pixels; shrink it before training"
        return Verdict(False, "warning", "too_many_pixels", what), None
    try:
        with quietly():
            image.load()
            return _old_tiff(image), to_pixels(image)
    except MemoryError as error:
        return Verdict(False, "error", "too_many_pixels", "needs more memory than there is", str(error)), None
    except Exception as error:  # a decoder's errors on hostile bytes are of every kind
        if "APNG" in str(error):
            what = "its animation is out of order, and the trainer cannot open it; save it as a still"
            return Verdict(False, "error", "unsupported", what, str(error)), None
        what = "is broken inside: its pixels cannot be decoded"
        return Verdict(False, "error", "undecodable", what, str(error)), None


def _old_tiff(image: Any) -> Verdict:
    if image.format == "TIFF" and image.tag_v2.get(259) == 6:
        what = "holds JPEG the way TIFF gave up in 1995, which readers take differently; save it again"
        return Verdict(True, "warning", "unsupported", what)
    return Verdict()


def to_pixels(image: Any) -> Pixels:
    """A loaded Pillow image as 8-bit RGB, reduced where it is large."""
    import numpy as np

    factor = 8 // reduced_eighths(image.width, image.height)  # Pillow reduces by whole numbers: 1 for five eighths
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        image = to_eight_bits(image)
    if image.mode not in ("RGB", "L"):
        image = image.convert("RGB")
    if factor > 1:
        image = image.reduce(factor)
    return Pixels(np.asarray(image.convert("RGB")), 1 / factor)


def to_eight_bits(image: Any) -> Any:
    """A grey picture of 16 bits (or floats from 0 to 1) as Pillow's mode L, black to black and white to white."""
    import numpy as np
    from PIL import Image

    values = np.asarray(image).astype(np.float32)
    top = 65535.0 if image.mode != "F" or values.max(initial=0) > 1 else 1.0
    return Image.fromarray((np.clip(values / top, 0, 1) * 255 + 0.5).astype(np.uint8))


def _worst(*verdicts: Verdict) -> Verdict:
    """The gravest; the first among equals."""
    return min(verdicts, key=lambda verdict: rank_of(verdict.severity))

"""Mode, size, profile and frames from the header, read with Pillow from bytes already in memory."""

from __future__ import annotations

import contextlib
import io
import logging
import struct
import threading
import warnings
from collections.abc import Iterator
from typing import Any

DATE_TIME, EXIF_IFD, DATE_TIME_ORIGINAL = 0x0132, 0x8769, 0x9003
_BITS = {"1": 1, "I;16": 16, "I;16B": 16, "I;16L": 16, "I": 32, "F": 32}


# Pillow logs what it dislikes; the verdict says it, and a console full of it helps nobody.
logging.getLogger("PIL").addHandler(logging.NullHandler())
_LOCK = threading.Lock()
_QUIET: list[Any] = []  # of all that are quiet now: what restores the warnings for the first, None for the others


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """No warnings while files are decoded; from several threads too, whose turns `catch_warnings` mixes up."""
    with _LOCK:
        if not _QUIET:
            caught = warnings.catch_warnings()
            caught.__enter__()
            warnings.simplefilter("ignore")
            _QUIET.append(caught)
        else:
            _QUIET.append(None)
    try:
        yield
    finally:
        with _LOCK:
            if len(_QUIET) == 1:  # the last to end restores what stood before the first began
                _QUIET[0].__exit__()
                _QUIET.clear()
            else:
                _QUIET.pop()


def open_image(data: bytes) -> Any:
    """Pillow's lazy image of these bytes. Raises what Pillow raises, DecompressionBombError among it."""
    from PIL import Image

    with quietly():
        return Image.open(io.BytesIO(data))


def header_facts(image: Any, data: bytes, format: str | None) -> dict[str, Any]:
    """Examination's facts from an opened, not yet loaded image, but for EXIF's."""
    profile, name = _icc(image)
    frames = _frames(image)
    return {
        "mode": image.mode,
        "width": image.width,
        "height": image.height,
        "icc": profile,
        "icc_name": name,
        "bits": _bits(image, data, format),
        "alpha": _has_alpha(image),
        "n_frames": frames,
        "animated": _png_frames(data) > 1 if format == "PNG" else frames > 1 and format in ("GIF", "WEBP", "AVIF"),
    }


def _has_alpha(image: Any) -> bool:
    return image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info


def exif_facts(image: Any) -> dict[str, Any]:
    """Time taken; empty where there is no EXIF that can be read."""
    try:
        exif = image.getexif()
        taken = exif.get_ifd(EXIF_IFD).get(DATE_TIME_ORIGINAL) or exif.get(DATE_TIME) or ""
        return {"taken": str(taken).strip("\x00 ")[:19]}
    except Exception:  # EXIF is free-form bytes; Pillow raises a dozen kinds of error on it
        return {}


def _icc(image: Any) -> tuple[str, str]:
    profile = image.info.get("icc_profile")
    if not profile:
        return "none", ""
    try:
        from PIL import ImageCms

        name = ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile))).strip()
    except Exception:  # a broken profile is "other": no reader can apply it
        return "other", "unreadable"
    plain = name.lower().replace(" ", "").replace("-", "")
    return ("srgb" if "srgb" in plain or "61966" in plain or plain == "c2" else "other"), name


def _frames(image: Any) -> int:
    try:
        return int(getattr(image, "n_frames", 1))
    except Exception:  # counting frames walks the file, which may be broken
        return 1


def _png_frames(data: bytes) -> int:
    """Frames that the animation header states; a still that only precedes the animation is not one of them."""
    at = data.find(b"acTL", 0, max(0, data.find(b"IDAT")))
    return struct.unpack_from(">I", data, at + 4)[0] if at >= 0 and at + 8 <= len(data) else 1


def _bits(image: Any, data: bytes, format: str | None) -> int:
    if format == "PNG" and len(data) > 25:
        return data[24]
    if format == "TIFF":
        try:
            bits = image.tag_v2.get(258, (1,))
            return int(max(bits) if isinstance(bits, tuple) else bits)
        except Exception:
            return 8
    if format == "JPEG":
        return jpeg_precision(data)
    return _BITS.get(image.mode, 8)


def jpeg_precision(data: bytes) -> int:
    """Bits a sample of a JPEG, from its frame header; 8 where none is found."""
    at = 2
    while at + 9 < len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], struct.unpack_from(">H", data, at + 2)[0]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return data[at + 4]
        at += 2 + length
    return 8

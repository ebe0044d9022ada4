"""One image's bytes made fit for training: upright, 8-bit RGB, of a size that makes sense; metadata kept."""

from __future__ import annotations

import io
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from kohyakit.audit.repair.exif import upright_exif, upright_xmp, with_segments_of
from kohyakit.dataset.decode.facts import open_image
from kohyakit.dataset.decode.record import Verdict

# action -> what it does, in the words of the plan
ACTIONS = {
    "upright": "turn upright",
    "flatten": "put transparency on a background",
    "to_rgb": "convert print colours to RGB",
    "to_8_bits": "convert to 8 bits a channel",
    "from_palette": "convert the palette to RGB",
    "to_srgb": "convert the colour profile to sRGB",
    "to_png": "save as PNG, which is trained",
    "shrink": "shrink",
    "reencode": "save what still decodes",
}
_QUALITY = 95
_KEPT_FORMATS = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "BMP": ".bmp"}


class CannotMend(ValueError):
    """The text is one sentence for a person."""


@dataclass(frozen=True, slots=True)
class Mended:
    """data: the new file. extension: of its format. how: how it was made, in a few words."""

    data: bytes
    extension: str
    how: str


def mend(
    data: bytes, format: str, orientation: int, actions: Collection[str], *, background: str = "white", longest: int = 0
) -> Mended:
    """The file with all actions (of ACTIONS) done. background: for `flatten`. longest: pixels, for `shrink`.

    Raises CannotMend.
    """
    why = ""
    if format == "JPEG" and set(actions) == {"upright"}:
        from kohyakit.audit.repair.jpeg_turn import turn

        try:
            return Mended(turn(data, orientation), ".jpg", "turned without loss")
        except ImportError:
            why = '; pip install "kohyakit[lossless]" turns without loss where sizes allow'
        except (ValueError, OSError):
            why = "; its sides are no whole blocks"
    try:
        mended = _redraw(data, format, orientation, actions, background, longest)
    except CannotMend:
        raise
    except Exception as error:  # decoders and encoders raise of every kind
        raise CannotMend(f"could not be saved anew ({type(error).__name__}: {error})") from error
    _must_decode(mended)
    return Mended(mended.data, mended.extension, mended.how + why)


def _must_decode(mended: Mended) -> None:
    from kohyakit.dataset.decode.look import judge_bytes

    verdict: Verdict = judge_bytes(mended.data)
    if verdict.severity == "error":
        raise CannotMend(f"the new file did not decode ({verdict.detail})")


def _redraw(
    data: bytes, format: str, orientation: int, actions: Collection[str], background: str, longest: int
) -> Mended:
    image = open_image(data)
    keep = {"exif": image.info.get("exif", b""), "icc_profile": image.info.get("icc_profile") or b""}
    settings = _jpeg_settings(image, actions) if format == "JPEG" else {}
    lossless_webp = format == "WEBP" and b"VP8L" in data[:64]
    drawn = _pixels(_load(image, "reencode" in actions), keep, actions, background)
    swap = False
    if "upright" in actions:
        drawn, swap = _turned(drawn, orientation), orientation >= 5
    if "shrink" in actions and longest:
        drawn = _shrunk(drawn, longest)
    if keep["exif"] and "upright" in actions:
        keep["exif"] = upright_exif(keep["exif"], swap=swap)
    kind = "PNG" if "to_png" in actions or format not in _KEPT_FORMATS else format
    out = io.BytesIO()
    extras = {name: value for name, value in keep.items() if value}
    if kind == "JPEG":
        drawn.save(out, "JPEG", **settings, **({"icc_profile": keep["icc_profile"]} if keep["icc_profile"] else {}))
        how = "saved anew with its own quantisation tables" if "qtables" in settings else f"saved at quality {_QUALITY}"
        return Mended(with_segments_of(data, out.getvalue(), swap=swap, redrawn=True), ".jpg", how)
    if kind == "WEBP":
        xmp = {"xmp": upright_xmp(image.info["xmp"])} if image.info.get("xmp") else {}
        drawn.save(out, "WEBP", lossless=lossless_webp, quality=100 if lossless_webp else _QUALITY, **extras, **xmp)
        how = "saved without loss" if lossless_webp else f"saved at quality {_QUALITY}"
        return Mended(out.getvalue(), ".webp", how)
    if kind == "BMP":
        drawn.save(out, "BMP")
        return Mended(out.getvalue(), ".bmp", "saved without loss")
    drawn.save(out, "PNG", pnginfo=_texts(image), **extras)
    return Mended(out.getvalue(), ".png", "saved without loss")


def _load(image: Any, damaged: bool) -> Any:
    from PIL import ImageFile

    before = ImageFile.LOAD_TRUNCATED_IMAGES
    try:
        ImageFile.LOAD_TRUNCATED_IMAGES = damaged
        image.load()
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before
    return image


def _jpeg_settings(image: Any, actions: Collection[str]) -> dict[str, Any]:
    """The file's own tables where the picture is only turned, so that it neither grows nor loses more than it must."""
    from PIL import JpegImagePlugin

    sampling = JpegImagePlugin.get_sampling(image)
    chosen = {"subsampling": sampling} if sampling != -1 else {}
    if set(actions) <= {"upright", "reencode"} and image.mode in ("RGB", "L"):
        tables = {number: list(table) for number, table in image.quantization.items()}
        if sorted(tables) == list(range(len(tables))):
            return {"qtables": tables, **chosen}
    return {"quality": _QUALITY, **chosen} if image.mode == "RGB" else {"quality": _QUALITY}


def _pixels(image: Any, keep: dict[str, bytes], actions: Collection[str], background: str) -> Any:
    """Colours, depth and transparency as the actions say; a profile that no longer holds is taken out of `keep`."""
    from PIL import Image

    if image.mode == "F" or image.mode == "I" or image.mode.startswith("I;16"):
        from kohyakit.dataset.decode.look import to_eight_bits

        image = to_eight_bits(image)
    if ("to_rgb" in actions or "to_srgb" in actions) and keep["icc_profile"]:
        image = _to_srgb(image, keep["icc_profile"])
        keep["icc_profile"] = b""
    elif image.mode not in ("RGB", "L", "RGBA", "LA", "P", "PA", "1"):
        keep["icc_profile"] = b""  # a profile for ink does not fit RGB
        image = image.convert("RGB")
    clear = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    if clear:
        image = image.convert("RGBA")
        if "flatten" in actions or "to_png" in actions:
            ground = Image.new("RGBA", image.size, background)
            image = Image.alpha_composite(ground, image).convert("RGB")
    elif image.mode in ("P", "1"):
        image = image.convert("RGB")
    return image


def _to_srgb(image: Any, profile: bytes) -> Any:
    from PIL import ImageCms

    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        target = ImageCms.createProfile("sRGB")
        mode = "RGBA" if image.mode == "RGBA" else "RGB"
        return ImageCms.profileToProfile(image, source, target, outputMode=mode) or image
    except (ImageCms.PyCMSError, OSError):
        return image if image.mode in ("RGB", "RGBA", "L") else image.convert("RGB")


def _turned(image: Any, orientation: int) -> Any:
    from PIL import Image

    ways = Image.Transpose
    method = {
        2: ways.FLIP_LEFT_RIGHT, 3: ways.ROTATE_180, 4: ways.FLIP_TOP_BOTTOM, 5: ways.TRANSPOSE,
        6: ways.ROTATE_270, 7: ways.TRANSVERSE, 8: ways.ROTATE_90,
    }.get(orientation)  # fmt: skip
    return image if method is None else image.transpose(method)


def _shrunk(image: Any, longest: int) -> Any:
    from PIL import Image

    share = longest / max(image.size)
    if share >= 1:
        return image
    size = tuple(max(1, round(side * share)) for side in image.size)
    return image.resize(size, Image.Resampling.LANCZOS)


def _texts(image: Any) -> Any:
    from PIL import PngImagePlugin

    info = PngImagePlugin.PngInfo()
    for name, text in getattr(image, "text", {}).items():
        if name.startswith("XML:com.adobe"):
            text = upright_xmp(str(text).encode()).decode(errors="replace")
            info.add_itxt(name, text)
        elif not name.startswith("Raw profile type"):
            info.add_itxt(name, str(text))
    return info

"""Thumbnails for the report, as data URIs; pictures are turned as EXIF means, or left as stored."""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

SIDE = 240
_LARGEST = 60_000_000  # pixels; of a larger picture there is no thumbnail


def thumbnails(wanted: Iterable[tuple[str, bool]], workers: int = 4) -> dict[tuple[str, bool], str]:
    """(path, upright) -> data URI, "" where nothing can be shown. upright: turned as EXIF means."""
    keys = list(dict.fromkeys(wanted))
    with warnings.catch_warnings(), ThreadPoolExecutor(workers) as threads:
        warnings.simplefilter("ignore")  # here, not in a thread: the filters are the whole process's
        return dict(zip(keys, threads.map(lambda key: _thumbnail(*key), keys), strict=True))


def _thumbnail(path: str, upright: bool) -> str:
    try:
        picture = _open(path, upright)
    except Exception:  # whatever a broken file makes a decoder raise, the report shows a blank card
        return ""
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=72)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def _open(path: str, upright: bool) -> Any:
    """Pillow where it succeeds; else what the strict decoder saved of a damaged file."""
    from PIL import Image, ImageOps

    if not Path(path).is_file():
        raise ValueError
    try:
        with Image.open(path) as image:
            if image.width * image.height > _LARGEST:
                raise ValueError
            image.draft("RGB", (SIDE, SIDE))
            picture = ImageOps.exif_transpose(image) if upright else image.copy()
            if picture.mode.startswith("I;16") or picture.mode in ("I", "F"):
                raise OSError
            picture = picture.convert("RGBA" if "A" in picture.mode or "transparency" in picture.info else "RGB")
    except OSError:
        from kohyakit.dataset import decode

        found = decode.examine(Path(path))
        if found.pixels is None:
            raise ValueError from None
        array = decode.upright(found.pixels.rgb, found.orientation) if upright else found.pixels.rgb
        picture = Image.fromarray(array)
    picture.thumbnail((SIDE, SIDE))
    if picture.mode == "RGBA":
        ground = Image.new("RGB", picture.size, (127, 127, 127))
        ground.paste(picture, mask=picture.getchannel("A"))
        return ground
    return picture

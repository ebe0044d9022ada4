"""Pictures for the browser: only real images, only from inside the project, thumbnails kept in memory."""

from __future__ import annotations

import io
import os
import stat
import time
from dataclasses import dataclass, replace
from functools import lru_cache
from html import escape
from pathlib import Path
from urllib.parse import urlencode

from kohyakit.dashboard.read.memo import Memo
from kohyakit.dashboard.read.project import Outside, Project
from kohyakit.files import open_regular

WIDTHS = (64, 160, 320, 640, 1280)
"""The thumbnail widths that are made, so that a cache entry is used more than once."""

_RAW = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "GIF": "image/gif"}
_MOST_PIXELS = 200_000_000
_YOUNG_SECONDS = 20
ROUTE = "/picture"


@dataclass(frozen=True)
class Picture:
    """What goes to the browser. `note` says what is wrong with the file, empty when nothing is."""

    body: bytes
    media_type: str
    note: str = ""


def url(project: Project, path: Path, width: int | None = None, *, upright: bool = True) -> str:
    """Address of a picture; changes with the file, so a browser may keep what it has. Empty outside the project."""
    try:
        name = f"{_folder_name(project, path.parent)}{path.name}"
        found = os.lstat(path)
        if stat.S_ISLNK(found.st_mode):
            name, found = project.name(path), os.stat(path)
        version = found.st_mtime_ns // 1000
    except Outside:
        return ""
    except OSError:
        version = 0
    query: dict[str, str | int] = {"path": name, "v": version}
    if width:
        query["w"] = width
    if not upright:
        query["stored"] = 1
    return f"{ROUTE}?{urlencode(query)}"


@lru_cache(maxsize=4096)
def _folder_name(project: Project, folder: Path) -> str:
    """A folder's name in the project with a slash; kept, as a page names thousands of files of a few folders. Only
    addresses are made of it: what is read is looked at anew, link by link.
    """
    name = project.name(folder)
    return "" if name == "." else f"{name}/"


def read(project: Project, name: str, width: int | None = None, *, upright: bool = True) -> Picture:
    """The picture, or a drawn card that says why there is none. Raises Outside for a path out of the project."""
    path = project.inside(name)
    try:
        found = path.stat()
    except OSError:
        return _card("not there any more", f"{path.name} was moved or deleted")
    if not path.is_file():
        return _card("not a picture", path.name)
    if width:
        width = next((w for w in WIDTHS if w >= width), WIDTHS[-1])
    key, stamp = (str(path), width, upright), (found.st_mtime_ns, found.st_size)
    kept = _CACHE.peek(key, stamp)
    if kept is None:
        kept = _make(path, width, upright, age=time.time() - found.st_mtime)
        if width and not kept.note:
            _CACHE.put(key, stamp, kept)
    return kept


def _make(path: Path, width: int | None, upright: bool, age: float) -> Picture:
    from PIL import Image, ImageOps

    try:
        with open_regular(path) as file, Image.open(file) as image:
            if image.width * image.height > _MOST_PIXELS:
                return _card("too large to show", f"{image.width} × {image.height} pixels")
            if width is None and upright and image.format in _RAW:
                image.load()
                return Picture(path.read_bytes(), _RAW[image.format])
            if width:
                image.draft("RGB", (width, width))
            shown = ImageOps.exif_transpose(image) if upright else image
            shown.thumbnail((width or 4096, (width or 4096) * 2))
            return _encode(shown)
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        if age < _YOUNG_SECONDS:
            return _card("still being written", path.name)
        return _remains(path, width, upright, _reason(error)) or _card("damaged", f"{path.name}: {_reason(error)}")
    except Exception as error:  # a decoder's own failure must not take the page with it
        return _card("damaged", f"{path.name}: {_reason(error)}")


def _remains(path: Path, width: int | None, upright: bool, reason: str) -> Picture | None:
    """As much of a damaged picture as decodes, so that a person sees what is lost; None where nothing is left."""
    from PIL import Image

    from kohyakit.dataset import decode

    try:
        found = decode.examine(path)
        if found.pixels is None:
            return None
        array = decode.upright(found.pixels.rgb, found.orientation) if upright else found.pixels.rgb
        shown = Image.fromarray(array)
        shown.thumbnail((width or 4096, (width or 4096) * 2))
        return replace(_encode(shown), note=f"damaged: {path.name}: {reason}")
    except Exception:  # whatever a broken file makes a decoder raise, the card stands for it
        return None


def _reason(error: Exception) -> str:
    text = str(error).lower()
    if "truncated" in text or "broken data" in text:
        return "the file ends too early"
    if "cannot identify" in text:
        return "this is not an image, whatever its name says"
    return "it cannot be decoded"


def _encode(image) -> Picture:
    """WebP without the file's EXIF or comments: a thumbnail must not carry a place where a photo was taken."""
    if image.mode not in ("RGB", "RGBA"):
        image = image.convert("RGBA" if "transparency" in image.info or image.mode in ("LA", "PA") else "RGB")
    out = io.BytesIO()
    image.save(out, "WEBP", quality=82, method=2, exif=b"", icc_profile=image.info.get("icc_profile") or b"")
    return Picture(out.getvalue(), "image/webp")


def _card(title: str, text: str) -> Picture:
    """A small drawing instead of a picture: grey, with the reason in words."""
    text = text if len(text) <= 60 else text[:28] + " … " + text[-28:]
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 320 320" font-family="sans-serif" text-anchor="middle">'
        '<rect width="320" height="320" fill="#8884"/>'
        '<path d="M128 116h64v48h-64z M140 152l14-18 10 12 8-8 12 14" fill="none" stroke="#888" stroke-width="4"/>'
        '<path d="M118 176 202 104" stroke="#c2410c" stroke-width="5"/>'
        f'<text x="160" y="212" font-size="20" fill="#888">{escape(title)}</text>'
        f'<text x="160" y="238" font-size="11" fill="#888">{escape(text)}</text></svg>'
    )
    return Picture(svg.encode(), "image/svg+xml", f"{title}: {text}")


_CACHE = Memo(96 * 1024 * 1024, weigh=lambda picture: len(picture.body))

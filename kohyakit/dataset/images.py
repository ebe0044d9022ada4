"""Images: which files count by their names, and what their headers say, without decoding a pixel.

1,000 photos take about a tenth of a second, so the reading is by hand for the formats that people train on;
AVIF, JPEG XL and TIFF go through Pillow, imported only then.
"""

from __future__ import annotations

import os
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from kohyakit.dataset.decode.headers import BadImage, Header, parse
from kohyakit.files import open_regular

# sd-scripts looks for these, all in lower or all in upper case, and on Linux for no other spelling.
EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
# With these Pillow plug-ins installed sd-scripts takes these too.
PLUGIN_EXTENSIONS = {".avif": ("pillow_avif",), ".jxl": ("pillow_jxl", "jxlpy")}
# Pictures that people put beside the others and that no Kohya trainer reads.
UNREAD_EXTENSIONS = {
    ".tif", ".tiff", ".gif", ".heic", ".heif", ".avif", ".jxl", ".jfif", ".jpe", ".jp2", ".psd", ".tga",
    ".dng", ".cr2", ".nef", ".arw",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """An image that will be trained, as its header and its place tell.

    stored_width, stored_height: pixels as stored. orientation: EXIF 1 to 8. upright: whether that tag is applied
    (`exif_orientation = "apply"`). fault: why the file is damaged though its header reads, or "".
    caption: the text that training starts from (caption.trained_text), the class tokens where there is no file.
    mask: the picture that says what of it counts in the loss.
    """

    path: Path
    stored_width: int
    stored_height: int
    orientation: int = 1
    format: str = ""
    caption_path: Path | None = None
    upright: bool = True
    fault: str = ""
    caption: str = ""
    mask: ImageRecord | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels as trained."""
        if self.upright and self.orientation >= 5:
            return self.stored_height, self.stored_width
        return self.stored_width, self.stored_height


def takes(name: str, *, odd_case: bool = True) -> bool:
    """Whether a training takes a file so called. odd_case=False: not `.Jpg` and the like, as sd-scripts on Linux."""
    extension = os.path.splitext(name)[1]
    lower = extension.lower()
    if lower not in EXTENSIONS and not (lower in PLUGIN_EXTENSIONS and _has_plugin(lower)):
        return False
    return odd_case or not in_odd_case(name)


def in_odd_case(name: str) -> bool:
    """Whether a file's extension is neither all in lower nor all in upper case."""
    extension = os.path.splitext(name)[1]
    return extension not in (extension.lower(), extension.upper())


def _has_plugin(extension: str) -> bool:
    from importlib.util import find_spec

    return any(find_spec(package) is not None for package in PLUGIN_EXTENSIONS[extension])


def read_header(path: Path) -> Header:
    """Size, EXIF orientation and format of an image file, and whether its end is there, without decoding.

    Raises BadImage (a ValueError) with what the file is instead.
    """
    try:
        with open_regular(path) as file:
            return parse(file, os.fstat(file.fileno()).st_size)
    except BadImage:
        raise
    except (IsADirectoryError, PermissionError) as error:
        if isinstance(error, IsADirectoryError) or path.is_dir():
            raise BadImage("it is a folder, not an image", "not_a_file") from None
        raise BadImage("it may not be read", "unreadable") from None
    except OSError as error:
        fault = "unreadable" if path.is_file() or not path.exists() else "not_a_file"
        raise BadImage(f"it cannot be read ({error.strerror or error})", fault) from None


def read_record(path: Path, *, upright: bool = True) -> ImageRecord:
    """An image's record, its caption not yet read. Raises BadImage when its header does not read."""
    header = read_header(path)
    return ImageRecord(
        path, header.width, header.height, header.orientation, header.format, upright=upright, fault=header.fault
    )


_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def shown(path: Path | str) -> str:
    """A path as one printable line: control characters and broken surrogates escaped, accents composed."""
    text = unicodedata.normalize("NFC", str(path))
    return _UNPRINTABLE.sub(lambda m: m[0].encode("unicode_escape").decode("ascii"), text)

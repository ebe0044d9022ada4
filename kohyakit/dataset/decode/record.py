"""What one look into an image file tells: its facts, a verdict, and small pictures for the other checks."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a training can trust the pixels of a file.

    ok: True when the file decodes and nothing says that its picture is spoiled; a `hint` is still ok.
    severity: None, `error` (does not decode, or decodes with damage that the decoder reports),
    `warning` (the picture looks damaged, though the decoder is content) or `hint` (odd, harmless).
    issue: None or a plain name: `undecodable`, `damaged`, `too_many_pixels`, `unreadable`, `not_a_file`,
    `unsupported`, `trailing_data`, `odd_markers`.
    detail: one sentence for a person, without the path. tool: the decoder's own words, where there are any.
    """

    ok: bool = True
    severity: str | None = None
    issue: str | None = None
    detail: str = ""
    tool: str = ""


@dataclass(frozen=True, slots=True)
class Pixels:
    """The picture as stored (orientation NOT applied), from the same decode as the verdict.

    rgb: uint8 [h, w, 3]; alpha dropped as the trainer does, CMYK and 16 bits brought to 8-bit RGB.
    scale: decoded size over stored size: 1, 1/2, 1/4 …; the largest of them that leaves at least
    `READ_SIDE` pixels on the longer side (all of a small picture).
    """

    rgb: np.ndarray
    scale: float


@dataclass(frozen=True, slots=True)
class Examination:
    """Everything that one opening of a file gave; facts are None where the file did not yield them.

    format: by signature, never by name: JPEG PNG WEBP GIF BMP TIFF HEIC AVIF JXL HTML …; None if unknown.
    width, height: as stored, in pixels. orientation: EXIF 1 to 8, 1 where absent or nonsense.
    mode: Pillow's (RGB L P RGBA CMYK I;16 …). bits: per channel. icc: none|srgb|other, icc_name its description.
    animated: more than one picture meant to be played (a JPEG with a preview inside is not).
    extension_ok: the name's ending is one of the format's. taken: EXIF DateTimeOriginal. digest: SHA-256 of the bytes.
    """

    path: Path
    verdict: Verdict
    format: str | None = None
    mode: str | None = None
    width: int | None = None
    height: int | None = None
    orientation: int = 1
    icc: str = "none"
    icc_name: str = ""
    bits: int | None = None
    alpha: bool = False
    animated: bool = False
    n_frames: int = 1
    extension_ok: bool = True
    extension_wanted: str = ""
    taken: str = ""
    file_size: int = 0
    digest: str = ""
    pixels: Pixels | None = field(default=None, repr=False, compare=False)


def upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """A picture [h, w, ...] turned as its EXIF orientation (1 to 8) means; a view, nothing copied."""
    import numpy as np

    if orientation in (2, 5, 7, 4):  # mirrored ones: 2 left-right, 4 top-bottom, 5 and 7 about a diagonal
        array = array[:, ::-1]
    turns = {3: 2, 4: 2, 5: 1, 6: 3, 7: 3, 8: 1}.get(orientation, 0)
    return np.rot90(array, turns) if turns else array

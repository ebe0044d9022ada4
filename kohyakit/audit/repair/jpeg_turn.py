"""Turning a JPEG without decoding it: its DCT coefficients change places and signs, and nothing is lost.

Possible where the side that would come to lie first is a whole number of the scan's units; a 4000 x 3000 photo with
halved colour (units of 16) can be mirrored left to right, and not turned by 90 degrees: 3000 is no multiple of 16.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kohyakit.audit.repair.exif import with_segments_of
from kohyakit.dataset.decode.jpeg import read_header

if TYPE_CHECKING:
    import numpy as np

# orientation -> (transpose, then mirror left-right, then mirror top-bottom) that make the picture upright
_PARTS = {
    2: (False, True, False),
    3: (False, True, True),
    4: (False, False, True),
    5: (True, False, False),
    6: (True, True, False),
    7: (True, True, True),
    8: (True, False, True),
}


def can_turn(data: bytes, orientation: int) -> bool:
    """Whether this JPEG can be made upright without loss: 8 bits, one or three components, whole units."""
    header = read_header(data)
    if header.precision != 8 or header.components not in (1, 3) or header.frame not in (0xC0, 0xC1, 0xC2):
        return False
    transpose, mirror, flip = _PARTS[orientation]
    unit_width, unit_height = header.mcu
    # a mirrored side is a side of the result; after a transpose it was the other one
    sides = (mirror or flip) and {
        "width": (mirror and not transpose) or (flip and transpose),
        "height": (flip and not transpose) or (mirror and transpose),
    }
    if not sides:
        return True
    return not ((sides["width"] and header.width % unit_width) or (sides["height"] and header.height % unit_height))


def turn(data: bytes, orientation: int) -> bytes:
    """The same JPEG upright, coefficient for coefficient, its metadata kept and saying orientation 1.

    Raises ImportError without the package jpeglib, ValueError where can_turn is False or the outcome does not check.
    """
    import jpeglib

    if not can_turn(data, orientation):
        raise ValueError("the sides are not whole units of the scan")
    transpose = _PARTS[orientation][0]
    with tempfile.TemporaryDirectory() as folder:  # jpeglib reads and writes paths only
        before, after = Path(folder) / "before.jpg", Path(folder) / "after.jpg"
        before.write_bytes(data)
        image = jpeglib.read_dct(os.fspath(before))
        _turn_all(image, orientation)
        image.write_dct(os.fspath(after))
        turned = after.read_bytes()
    whole = with_segments_of(data, turned, swap=transpose)
    _check(data, whole, orientation)
    return whole


def _turn_all(image: Any, orientation: int) -> None:
    import numpy as np

    transpose = _PARTS[orientation][0]
    for name in ("Y", "Cb", "Cr"):
        plane = getattr(image, name)
        if plane is not None:
            setattr(image, name, _turn_plane(plane, orientation))
    image.content = None  # else the source's own dimensions are written
    if transpose:
        image.block_dims = np.ascontiguousarray(np.asarray(image.block_dims)[:, ::-1])
        image.height, image.width = image.width, image.height
        image.samp_factor = np.ascontiguousarray(np.asarray(image.samp_factor)[:, ::-1])
        image.qt = np.ascontiguousarray(np.asarray(image.qt).transpose(0, 2, 1))


def _turn_plane(plane: np.ndarray, orientation: int) -> np.ndarray:
    """Blocks [rows, columns, 8, 8] of one component; mirroring negates the odd frequencies of that direction."""
    import numpy as np

    transpose, mirror, flip = _PARTS[orientation]
    odd = np.array([1, -1] * 4, dtype=plane.dtype)
    if transpose:
        plane = plane.transpose(1, 0, 3, 2)
    if mirror:
        plane = plane[:, ::-1] * odd[None, None, None, :]
    if flip:
        plane = plane[::-1] * odd[None, None, :, None]
    return np.ascontiguousarray(plane)


def _check(before: bytes, after: bytes, orientation: int) -> None:
    """Raises ValueError unless the turned file decodes strictly to the turned picture (decoders round: 4 levels)."""
    import numpy as np
    import simplejpeg

    from kohyakit.dataset.decode import upright

    wanted = upright(simplejpeg.decode_jpeg(before, "GRAY")[..., 0], orientation).astype(np.int16)
    found = simplejpeg.decode_jpeg(after, "GRAY", strict=True)[..., 0].astype(np.int16)
    if wanted.shape != found.shape or np.abs(wanted - found).max() > 4:
        raise ValueError("the turned file does not show the turned picture")

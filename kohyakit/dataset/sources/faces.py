"""Faces that file names tell of: where sd-scripts' face tool found one, and how a training crops around it.

`photo_120_80_40_50.png`: the face's middle at (120, 80), 40 pixels wide and 50 high. Without buckets and cached
latents alone a picture is cropped by it, each time a little otherwise (`face_crop_aug_range`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kohyakit.dataset.images import ImageRecord, shown
from kohyakit.errors import Problem

if TYPE_CHECKING:
    import random

Range = tuple[float, float]
_NAMED = 3  # files that one sentence names


@dataclass(frozen=True, slots=True)
class Face:
    """x, y: its middle in the picture's pixels."""

    x: int
    y: int
    width: int
    height: int

    @property
    def size(self) -> int:
        return max(self.width, self.height)


@dataclass(frozen=True, slots=True)
class FaceCrop:
    """A picture scaled to `resized` (width, height), of which the part at (left, top) is trained."""

    resized: tuple[int, int]
    left: int
    top: int


def face_range(value: Any) -> Range | None:
    """`"2.0,4.0"` or two numbers as the lower and the upper factor; None for what is none or cannot be divided by."""
    parts = value.split(",") if isinstance(value, str) else value or ()
    try:
        low, high = (float(part) for part in parts)
    except (TypeError, ValueError):
        return None
    return (low, high) if low > 0 and high > 0 else None


def face_in(stem: str) -> Face | None:
    """The face that a file's name tells of. One at the left edge counts as none, as in sd-scripts."""
    parts = stem.split("_")
    try:
        face = Face(*map(int, parts[-4:])) if len(parts) >= 5 else None
    except ValueError:
        return None
    return face if face and face.x > 0 and face.size > 0 else None


def told(records: Iterable[ImageRecord], where: str, *, ignored_for: str, stops: bool) -> Iterator[Problem]:
    """What is wrong with names, where faces are cropped by them.

    ignored_for: the setting for which no face is looked at. stops: as in sd-scripts, which takes every name of five
    parts for one with a face.
    """
    names = [record.path.stem for record in records]
    if ignored_for:
        what = f"no face is cropped, as {ignored_for} is on"
        yield Problem(where, what, "switch one of the two off", "face_crop_ignored", "warning")
        return
    wrong = [name for name in names if len(name.split("_")) >= 5 and not _numbers(name)]
    if wrong and stops:
        more = f" and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
        what = (
            f"sd-scripts looks for a face in four numbers at the end of {', '.join(map(shown, wrong[:_NAMED]))}{more}"
        )
        yield Problem(where, what, "write fewer underscores, or take face_crop_aug_range out", "face_name")
    if not any(map(face_in, names)):
        what = "face_crop_aug_range is set, and no file's name tells of a face, so all are cropped as without it"
        yield Problem(where, what, "name them with sd-scripts' face tool, or take it out", "no_faces", "warning")


def _numbers(stem: str) -> bool:
    try:
        *_, width, height = map(int, stem.split("_")[-4:])
    except ValueError:
        return False
    return max(width, height) > 0


def crop_around(
    face: Face,
    size: tuple[int, int],
    bucket: tuple[int, int],
    limits: Range,
    rng: random.Random,
    *,
    at_random: bool,
) -> FaceCrop:
    """Draw how a picture of `size` is scaled and cut to `bucket` (both width, height), in sd-scripts' order.

    limits: by what the face's size is multiplied to give about the bucket's smaller side. A picture that is smaller
    than the bucket is enlarged to cover it (sd-scripts stops there).
    """
    if size == bucket:
        return FaceCrop(size, 0, 0)
    smaller = min(bucket)
    covering = max(bucket[1] / size[1], bucket[0] / size[0])
    low = min(1.0, max(covering, smaller / (face.size * limits[1])))
    high = min(1.0, max(low, smaller / (face.size * limits[0])))
    scale = max(low if low >= high else rng.uniform(low, high), covering)
    resized = (max(bucket[0], int(size[0] * scale + 0.5)), max(bucket[1], int(size[1] * scale + 0.5)))
    lively = limits[0] != limits[1] and face.size > smaller // 10 and face.size >= 40
    shift = face.size if lively else 0
    top = _cut(int(face.y * scale + 0.5), resized[1], bucket[1], shift, rng, at_random=at_random)
    left = _cut(int(face.x * scale + 0.5), resized[0], bucket[0], shift, rng, at_random=at_random)
    return FaceCrop(resized, left, top)


def _cut(middle: int, length: int, wanted: int, shift: int, rng: random.Random, *, at_random: bool) -> int:
    """Where one side is cut, so that the face is about in the middle. shift: the face's size, or 0 to hold still."""
    start = middle - wanted // 2
    if at_random:
        reach = max(length - middle, middle)
        start += rng.randint(0, reach) + rng.randint(0, reach) - reach
    elif shift:
        start += rng.randint(-shift // 20, shift // 20)
    return max(0, min(start, length - wanted))

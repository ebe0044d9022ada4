"""Aspect-ratio buckets, exactly as sd-scripts fills them, in plain integers and floats.

Three ways, told apart by `BucketSettings`: buckets with upscaling (a fixed list of resolutions, the nearest aspect
ratio wins), without upscaling (`bucket_no_upscale`: no image grows, the bucket is what is left when both sides are
cut to multiples of the step) and no buckets at all (one size, every image scaled to cover it and cropped; or, as
sd-scripts does it, nothing scaled: an image fits, or is cut where random_crop allows it, or is refused).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from functools import lru_cache


class CannotPlace(ValueError):
    """An image or a setting for which there is no bucket; the text says why and what to change."""


@dataclass(frozen=True, slots=True, order=True)
class Bucket:
    """A size in pixels that whole batches share; sorts by (width, height) as sd-scripts does."""

    width: int
    height: int

    @property
    def area(self) -> int:
        return self.width * self.height

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


@dataclass(frozen=True, slots=True)
class BucketSettings:
    """sd-scripts' bucket options as they apply to one data set.

    resolution: (width, height) in pixels. scales: without buckets, images of another size are scaled to cover it.
    """

    resolution: tuple[int, int]
    enable_bucket: bool = False
    min_bucket_reso: int = 256
    max_bucket_reso: int = 1024
    bucket_reso_steps: int = 64
    bucket_no_upscale: bool = False
    scales: bool = True


@dataclass(frozen=True, slots=True)
class Placement:
    """Where an image goes: scaled to `resized`, then cut to `bucket` at (crop_left, crop_top), centred.

    ar_error: the bucket's width over height minus the image's.
    """

    bucket: Bucket
    resized: tuple[int, int]
    crop_left: int
    crop_top: int
    ar_error: float


def rounded_min_max(settings: BucketSettings) -> tuple[int, int]:
    """min_bucket_reso rounded down and max_bucket_reso rounded up to the step.

    Raises CannotPlace where the step is not positive, or the resolution does not lie between the two.
    """
    step = settings.bucket_reso_steps
    if step < 1:
        raise CannotPlace(f"bucket_reso_steps is {step}; write a positive multiple of 64")
    low = settings.min_bucket_reso - settings.min_bucket_reso % step
    high = settings.max_bucket_reso + -settings.max_bucket_reso % step
    width, height = settings.resolution
    if low > min(width, height):
        raise CannotPlace(
            f"min_bucket_reso {settings.min_bucket_reso} is above the resolution {width}x{height}; "
            f"lower it to {min(width, height)} or less"
        )
    if high < max(width, height):
        raise CannotPlace(
            f"max_bucket_reso {settings.max_bucket_reso} is below the resolution {width}x{height}; "
            f"raise it to {max(width, height)} or more"
        )
    return low, high


@lru_cache(maxsize=32)
def resolutions(resolution: tuple[int, int], low: int, high: int, step: int) -> tuple[Bucket, ...]:
    """The fixed buckets for training with upscaling, sorted.

    Sides are multiples of `step` from `low` to `high` pixels (both multiples of step, see rounded_min_max); the area
    is at most that of `resolution`. Both orientations, and the largest square.
    """
    area = resolution[0] * resolution[1]
    square = math.isqrt(area) // step * step
    found = {Bucket(square, square)} if square else set()
    for width in range(max(low, step), high + 1, step):
        height = min(high, area // width // step * step)
        if height >= max(low, step):
            found |= {Bucket(width, height), Bucket(height, width)}
    return tuple(sorted(found))


def select_bucket(size: tuple[int, int], settings: BucketSettings, *, random_crop: bool = False) -> Placement:
    """The bucket of an image of `size` (width, height) pixels, and how it gets there.

    random_crop: the image may be cut, which only counts where nothing is scaled.
    Raises CannotPlace where sd-scripts divides by zero, makes a bucket with a side of 0, or asserts.
    """
    width, height = size
    if width < 1 or height < 1:
        raise CannotPlace(f"the image is {width}x{height} pixels")
    if min(settings.resolution) < 1:
        raise CannotPlace(f"the resolution is {settings.resolution[0]}x{settings.resolution[1]}")
    if not settings.enable_bucket:
        bucket = Bucket(*settings.resolution)
        return _cover(size, bucket) if settings.scales else _as_it_is(size, bucket, random_crop)
    if settings.bucket_no_upscale:
        return _shrink(size, settings)
    return _cover(size, _nearest(size, settings))


def _nearest(size: tuple[int, int], settings: BucketSettings) -> Bucket:
    table = resolutions(settings.resolution, *rounded_min_max(settings), settings.bucket_reso_steps)
    if not table:
        raise CannotPlace(
            f"no bucket in steps of {settings.bucket_reso_steps} fits the resolution "
            f"{settings.resolution[0]}x{settings.resolution[1]}; lower bucket_reso_steps or raise the resolution"
        )
    exact = Bucket(*size)
    place = bisect_left(table, exact)
    if place < len(table) and table[place] == exact:
        return exact
    ratio = size[0] / size[1]
    return min(table, key=lambda bucket: abs(bucket.width / bucket.height - ratio))


def _cover(size: tuple[int, int], bucket: Bucket) -> Placement:
    """Scaled, up or down, so that it just covers the bucket."""
    width, height = size
    if width / height > bucket.width / bucket.height:
        scale = bucket.height / height
    else:
        scale = bucket.width / width
    return _placement(size, bucket, (int(width * scale + 0.5), int(height * scale + 0.5)))


def _as_it_is(size: tuple[int, int], bucket: Bucket, random_crop: bool) -> Placement:
    """Not scaled: it fits, or is cut."""
    if size[0] < bucket.width or size[1] < bucket.height:
        raise CannotPlace(
            f"at {size[0]}x{size[1]} pixels it is smaller than the resolution {bucket}, and without buckets nothing is "
            "enlarged; replace it, leave it out, or set enable_bucket to true"
        )
    if size != (bucket.width, bucket.height) and not random_crop:
        raise CannotPlace(
            f"at {size[0]}x{size[1]} pixels it is larger than the resolution {bucket}, and nothing says how to cut it; "
            "set enable_bucket to true, or random_crop"
        )
    return _placement(size, bucket, size)


def _shrink(size: tuple[int, int], settings: BucketSettings) -> Placement:
    """Scaled down to the resolution's area where it is larger, then cut to multiples of the step."""
    step = settings.bucket_reso_steps
    if step < 1:
        raise CannotPlace(f"bucket_reso_steps is {step}; write a positive multiple of 64")
    area = settings.resolution[0] * settings.resolution[1]
    resized = size if size[0] * size[1] <= area else _scaled_to_area(size, area, step)
    bucket = Bucket(resized[0] - resized[0] % step, resized[1] - resized[1] % step)
    if not bucket.area:
        raise _too_narrow(size, step)
    return _placement(size, bucket, resized)


def _scaled_to_area(size: tuple[int, int], area: int, step: int) -> tuple[int, int]:
    """One side rounded to the step, whichever side so rounded distorts the aspect ratio less."""
    ratio = size[0] / size[1]
    width = math.sqrt(area * ratio)
    by_width = _to_step(width, step)
    its_height = _to_step(by_width / ratio, step)
    by_height = _to_step(area / width, step)
    its_width = _to_step(by_height * ratio, step)
    if not its_height or not by_height:
        raise _too_narrow(size, step)
    if abs(by_width / its_height - ratio) < abs(its_width / by_height - ratio):
        return by_width, int(by_width / ratio + 0.5)
    return int(by_height * ratio + 0.5), by_height


def _to_step(length: float, step: int) -> int:
    whole = int(length + 0.5)
    return whole - whole % step


def _too_narrow(size: tuple[int, int], step: int) -> CannotPlace:
    return CannotPlace(
        f"at {size[0]}x{size[1]} pixels it leaves a side below one bucket step of {step}; "
        "crop or enlarge it, leave it out, or set bucket_no_upscale to false"
    )


def _placement(size: tuple[int, int], bucket: Bucket, resized: tuple[int, int]) -> Placement:
    left, top = (max(0, resized[0] - bucket.width) // 2, max(0, resized[1] - bucket.height) // 2)
    return Placement(bucket, resized, left, top, bucket.width / bucket.height - size[0] / size[1])


def interpolation(size: tuple[int, int], resized: tuple[int, int]) -> str:
    """How sd-scripts scales by default: `none`, `area` (OpenCV, both sides shrink or stay) or `lanczos` (Pillow)."""
    if size == resized:
        return "none"
    return "area" if size[0] >= resized[0] and size[1] >= resized[1] else "lanczos"


def crop_ltrb(bucket: Bucket, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """The crop that SDXL is told (left, top, right, bottom) in the bucket's pixels, by sd-scripts' formula."""
    ratio = size[0] / size[1]
    width, height = float(bucket.width), float(bucket.height)
    if width / height > ratio:
        width = height * ratio
    else:
        height = width / ratio
    left, top = (bucket.width - width) // 2, (bucket.height - height) // 2
    return left, top, left + width, top + height

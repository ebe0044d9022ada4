"""What Stable Diffusion XL is told of a picture's size: as it was, where it was cut, as it is shown."""

from __future__ import annotations

from kohyakit.dataset.buckets import Bucket


def size_condition(
    original: tuple[int, int], bucket: Bucket, *, bucketed: bool = True, flipped: bool = False
) -> tuple[int, int, int, int, int, int]:
    """(original height, width, crop top, left, target height, width), in pixels, as sd-scripts computes them.

    original: (width, height) of the file. The crop is not the one that was made: it is the margin that the picture,
    scaled to fit into its bucket, would leave. Flipped, its left is what the right was. Without buckets the original
    is what is left after the cut, and there is no margin. Source: sd-scripts 0.10.1.
    """
    target = (bucket.height, bucket.width)
    if not bucketed:
        return (*target, 0, bucket.width if flipped else 0, *target)
    left, top, right, _ = letterbox(original, bucket)
    if flipped:
        left = bucket.width - right
    return (original[1], original[0], int(top), int(left), *target)


def letterbox(size: tuple[int, int], bucket: Bucket) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) of a picture of this (width, height), scaled to fit into its bucket."""
    aspect = size[0] / size[1]
    if bucket.width / bucket.height > aspect:
        width, height = bucket.height * aspect, float(bucket.height)
    else:
        width, height = float(bucket.width), bucket.width / aspect
    left, top = (bucket.width - width) // 2, (bucket.height - height) // 2
    return left, top, left + width, top + height

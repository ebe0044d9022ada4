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
    width, height = original
    aspect = width / height
    if bucket.width / bucket.height > aspect:
        fitted_width, fitted_height = bucket.height * aspect, float(bucket.height)
    else:
        fitted_width, fitted_height = float(bucket.width), bucket.width / aspect
    left, top = (bucket.width - fitted_width) // 2, (bucket.height - fitted_height) // 2
    if flipped:
        left = bucket.width - (left + fitted_width)
    return (height, width, int(top), int(left), *target)

"""What the resolution and its buckets do to each picture: enlarged, strongly cropped, alone in a bucket."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from kohyakit.audit.check import Check, Issue, Threshold
from kohyakit.dataset.faults import SEVERE, SMALL, enlargement, too_small

if TYPE_CHECKING:
    import pandas as pd

    from kohyakit.audit.look.survey import Survey


def judge(survey: Survey) -> Iterable[Issue]:
    images = survey.trained
    images = images[images["trained_width"].notna()]
    if not len(images):
        return
    yield from _unplaced(survey, images[images["bucket"].isna()])
    placed = images[images["bucket"].notna()]
    yield from _small(survey, placed)
    yield from _shapes(survey, placed)
    yield from _cropped(survey, placed)
    yield from _lone(survey, placed)


def _unplaced(survey: Survey, images: pd.DataFrame) -> Iterator[Issue]:
    for row in images.itertuples():
        detail = f"at {row.trained_width}x{row.trained_height} pixels it fits no bucket, which stops a training"
        yield Issue(row.path, "no_bucket", "error", detail, "crop or enlarge it, leave it out, or allow upscaling")


def _small(survey: Survey, images: pd.DataFrame) -> Iterator[Issue]:
    """By area, as buckets count: how much larger the resolution is than the picture."""
    width, height = survey.settings.buckets.resolution
    buckets = survey.settings.buckets
    enlarged = not (buckets.enable_bucket and buckets.bucket_no_upscale)
    small, severe = survey.limit("small_factor"), survey.limit("small_factor_severe")
    sizes = zip(images["trained_width"], images["trained_height"], strict=True)
    factors = [enlargement(size, buckets.resolution) for size in sizes]
    for row in images.assign(factor=factors)[[factor > small for factor in factors]].itertuples():
        severity = too_small(row.factor, enlarged=enlarged, small=small, severe=severe) or "hint"
        fate = f"would be enlarged {row.scale:.2f} times" if enlarged else f"would be trained at {row.bucket}"
        yield Issue(
            row.path,
            "too_small",
            severity,
            f"{row.trained_width}x{row.trained_height} {fate} for a resolution of {width}x{height}",
            "find a larger copy, leave it out, or train at a lower resolution",
        )


def _shapes(survey: Survey, images: pd.DataFrame) -> Iterator[Issue]:
    ratio = (images["trained_width"] / images["trained_height"]).astype(float)
    extreme = ratio.where(ratio >= 1, 1 / ratio)
    found = extreme > survey.limit("aspect_ratio")
    for row, long in zip(images[found].itertuples(), extreme[found], strict=True):
        yield Issue(
            row.path,
            "extreme_aspect_ratio",
            "warning",
            f"{row.trained_width}x{row.trained_height} is {long:.1f} times as long as it is wide",
            "crop it to its subject, or cut it into several pictures",
        )


def _cropped(survey: Survey, images: pd.DataFrame) -> Iterator[Issue]:
    for row in images[images["cropped"] > survey.limit("crop_share")].itertuples():
        sides = {"left": row.cut_left, "right": row.cut_right, "top": row.cut_top, "bottom": row.cut_bottom}
        cuts = ", ".join(f"{cut:.0f} px {side}" for side, cut in sides.items() if cut >= 1)
        yield Issue(
            row.path,
            "much_cropped",
            "warning" if row.cropped > 2 * survey.limit("crop_share") else "hint",
            f"bucket {row.bucket} cuts {row.cropped:.0%} of it away ({cuts})",
            "crop it yourself so that the subject stays whole"
            + ("" if survey.settings.buckets.enable_bucket else ", or set enable_bucket"),
        )


def _lone(survey: Survey, images: pd.DataFrame) -> Iterator[Issue]:
    """A picture alone in its bucket is never batched with another; one alone in a whole set is no finding."""
    counts = images["bucket"].value_counts()
    if len(counts) < 2:
        return
    for row in images[images["bucket"].map(counts) == 1].itertuples():
        yield Issue(
            row.path,
            "lone_bucket",
            "hint",
            f"the only picture in bucket {row.bucket}, so its batch holds nothing else",
            "crop it to the shape of the others if you train with a batch size above 1",
        )


CHECK = Check(
    issues={
        "no_bucket": "fits no bucket",
        "too_small": "too small for the resolution",
        "extreme_aspect_ratio": "extreme shape",
        "much_cropped": "much is cut away",
        "lone_bucket": "alone in its bucket",
    },
    judge=judge,
    quick=True,
    thresholds=(
        Threshold("small_factor", SMALL, "enlargement from which a picture is too small (hint)"),
        Threshold("small_factor_severe", SEVERE, "enlargement from which that is a warning"),
        Threshold("aspect_ratio", 3.0, "long side over short side above which a shape is extreme"),
        Threshold("crop_share", 0.15, "share of a picture cut away by its bucket that is named; twice is a warning"),
    ),
)

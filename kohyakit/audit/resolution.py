"""The resolution audit: which bucket each picture goes to, how far it is scaled, and what is cut away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from kohyakit.dataset.buckets import BucketSettings, CannotPlace, select_bucket
from kohyakit.dataset.faults import SMALL

if TYPE_CHECKING:
    import pandas as pd

PLACEMENT = ("bucket", "scale", "cropped", "cut_left", "cut_top", "cut_right", "cut_bottom")


def placements(sizes: pd.DataFrame, settings: BucketSettings) -> pd.DataFrame:
    """Where pictures go. sizes: columns width and height in pixels as trained, missing where unknown.

    Returns, with the same index: bucket ("832x1216", missing where there is none), scale (trained over real size),
    cropped (share of the picture's area that is cut away), cut_left … cut_bottom (pixels of the unscaled picture).
    """
    import pandas as pd

    known = sizes.dropna()
    pairs = list(zip(known["width"].astype(int), known["height"].astype(int), strict=True))
    placed = {size: _place(size, settings) for size in set(pairs)}
    rows = pd.DataFrame([placed[pair] for pair in pairs], columns=list(PLACEMENT), index=known.index)
    return rows.reindex(sizes.index)


def _place(size: tuple[int, int], settings: BucketSettings) -> tuple[Any, ...]:
    try:
        found = select_bucket(size, settings)
    except CannotPlace:
        return (None, *[np.nan] * 6)
    width, height = found.resized
    across, down = max(0, width - found.bucket.width), max(0, height - found.bucket.height)
    kept = (width - across) * (height - down) / (width * height)
    x, y = size[0] / width, size[1] / height
    cuts = (found.crop_left * x, found.crop_top * y, (across - found.crop_left) * x, (down - found.crop_top) * y)
    return str(found.bucket), (width * height / (size[0] * size[1])) ** 0.5, 1 - kept, *cuts


def bucket_table(images: pd.DataFrame) -> pd.DataFrame:
    """Buckets with images and samples (images times repeats); those trained only, most samples first."""
    import pandas as pd

    used = images[(images["repeats"] > 0) & images["bucket"].notna()]
    table = used.groupby("bucket", sort=False).agg(
        images=("path", "size"),
        samples=("repeats", "sum"),
        mean_scale=("scale", "mean"),
        mean_cropped=("cropped", "mean"),
    )
    table = table.reset_index().sort_values(["samples", "bucket"], ascending=[False, True], ignore_index=True)
    sides = table["bucket"].str.split("x", expand=True) if len(table) else pd.DataFrame({0: [], 1: []})
    table.insert(1, "width", sides[0].astype(int))
    table.insert(2, "height", sides[1].astype(int))
    return table


def what_if(images: pd.DataFrame, settings: list[BucketSettings], batch_size: int = 1) -> pd.DataFrame:
    """One row a resolution: buckets, images upscaled, images alone in a bucket, batches an epoch, mean crop.

    images: with trained_width, trained_height and repeats.
    """
    import pandas as pd

    used = images[(images["repeats"] > 0) & images["trained_width"].notna()]
    sizes = used[["trained_width", "trained_height"]].set_axis(["width", "height"], axis=1)
    rows = []
    for setting in settings:
        placed = placements(sizes, setting)
        counts = placed["bucket"].value_counts()
        samples = used["repeats"].groupby(placed["bucket"]).sum()
        area = setting.resolution[0] * setting.resolution[1]
        rows.append(
            {
                "resolution": f"{setting.resolution[0]}x{setting.resolution[1]}",
                "images": int(placed["bucket"].notna().sum()),
                "buckets": len(counts),
                "lone_images": int((counts == 1).sum()),
                "too_small": int((sizes["width"] * sizes["height"] * SMALL**2 < area).sum()),
                "batches": int(np.ceil(samples / batch_size).sum()),
                "median_scale": round(float(placed["scale"].median()), 3) if len(placed) else None,
                "mean_cropped": round(float(placed["cropped"].mean()), 4) if len(placed) else None,
                "unplaced": int(placed["bucket"].isna().sum()),
            }
        )
    return pd.DataFrame(rows)

"""About how long a LoRA file's metadata is: a fixed part, and tags, folders and buckets counted."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from kohyakit.dataset.layout import Dataset
from kohyakit.planning.plan import BucketCount

# The entries that are in every file, measured in files of sd-scripts with a short output_name.
_FIXED = 2800


def metadata_bytes(datasets: list[tuple[Dataset, tuple[BucketCount, ...]]]) -> int:
    """Bytes of the metadata as JSON, within about a tenth: dates, hashes and rates differ from run to run."""
    total = _FIXED
    for dataset, buckets in datasets:
        folders, tags = {}, {}
        for subset in dataset.subsets:
            name = subset.name
            folders[name] = {"n_repeats": subset.num_repeats, "img_count": len(subset.records)}
            counts: Counter[str] = Counter()
            for record in subset.records:
                counts.update(tag.strip().lower() for tag in record.caption.split(",") if tag.strip())
            tags[name] = dict(counts)
        shown = {
            str(place): {"resolution": [row.bucket.width, row.bucket.height], "count": row.images}
            for place, row in enumerate(buckets)
        }
        total += sum(_escaped(part) for part in (folders, tags, {"buckets": shown, "mean_img_ar_error": 0.123456789}))
    return total


def _escaped(part: dict[str, Any]) -> int:
    return len(json.dumps(json.dumps(part)))

"""Size conditions of Stable Diffusion XL: worked by hand, and against every recorded one."""

from __future__ import annotations

import json

import pytest

from kohyakit.dataset.buckets import Bucket
from kohyakit.dataset.sizes import size_condition


@pytest.mark.parametrize(
    ("original", "bucket", "flipped", "expected"),
    [
        # 1000x500 into 512x512 is 512x256, so 128 rows are left above and below.
        ((1000, 500), (512, 512), False, (500, 1000, 128, 0, 512, 512)),
        # 500x1000 is 256x512: 128 columns on the left; flipped, the right edge at 384 leaves 128 too.
        ((500, 1000), (512, 512), False, (1000, 500, 0, 128, 512, 512)),
        ((500, 1000), (512, 512), True, (1000, 500, 0, 128, 512, 512)),
        # 150x100 into 64x64 is 64x42.67: (64 - 42.67) // 2 = 10.
        ((150, 100), (64, 64), False, (100, 150, 10, 0, 64, 64)),
        # 100x301 into 64x128 is 42.52 wide: left 10.0; flipped 64 - 52.52 = 11.48, cut to 11.
        ((100, 301), (64, 128), False, (301, 100, 0, 10, 128, 64)),
        ((100, 301), (64, 128), True, (301, 100, 0, 11, 128, 64)),
    ],
)
def test_worked_by_hand(original, bucket, flipped, expected):
    assert size_condition(original, Bucket(*bucket), flipped=flipped) == expected


def test_without_buckets_the_original_is_what_is_left():
    assert size_condition((900, 700), Bucket(512, 512), bucketed=False) == (512, 512, 0, 0, 512, 512)


@pytest.mark.shared
@pytest.mark.parametrize("case", ["sdxl_basic", "sdxl_te_cache_disk"])
def test_every_recorded_one(goldens, case):
    seen = 0
    for line in (goldens / "training2" / case / "steps.jsonl").read_text(encoding="utf-8").splitlines():
        step = json.loads(line)
        bucket = Bucket(*step["bucket_reso_wh"])
        rows = zip(
            step["original_sizes_hw"], step["crop_top_lefts"], step["target_sizes_hw"], step["flipped"], strict=True
        )
        for (height, width), crop, target, flipped in rows:
            expected = (height, width, *map(int, crop), *target)
            assert size_condition((width, height), bucket, flipped=flipped) == expected
            seen += 1
    assert seen >= 20

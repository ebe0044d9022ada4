"""Buckets against sd-scripts' own answers, and what must hold for any image."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kohyakit.dataset.buckets import (
    Bucket,
    BucketSettings,
    CannotPlace,
    crop_ltrb,
    interpolation,
    resolutions,
    rounded_min_max,
    select_bucket,
)

KIND = {"none": "none", "cv2.INTER_AREA": "area", "PIL.LANCZOS": "lanczos"}


def settings_of(row: dict) -> BucketSettings:
    return BucketSettings(tuple(row["max_reso"]), True, row["min"], row["max"], row["steps"], row["no_upscale"])


@pytest.mark.shared
def test_every_row_is_sd_scripts_own(goldens: Path) -> None:
    rows = [json.loads(line) for line in (goldens / "buckets/buckets.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 300
    placed = 0
    for row in rows:
        size = tuple(row["image_size"])
        if "exception" in row or 0 in row["bucket"]:
            with pytest.raises(CannotPlace):
                select_bucket(size, settings_of(row))
            continue
        got = select_bucket(size, settings_of(row))
        assert (got.bucket, got.resized) == (Bucket(*row["bucket"]), tuple(row["resized"])), row
        assert got.ar_error == row["ar_error"], row
        assert [got.crop_left, got.crop_top] == row["pixel_crop_offset_xy"], row
        assert list(crop_ltrb(got.bucket, size)) == row["crop_ltrb_metadata"], row
        assert interpolation(size, got.resized) == KIND[row["interpolation"]], row
        placed += 1
    assert placed == 285


@pytest.mark.shared
def test_every_table_is_sd_scripts_own(goldens: Path) -> None:
    tables = json.loads((goldens / "buckets/bucket_tables.json").read_text(encoding="utf-8"))
    for name, rows in tables.items():
        reso, low, high, step = name.split("|")
        width, height = (int(n) for n in reso.split("x"))
        got = resolutions((width, height), int(low), int(high), int(step))
        assert [[b.width, b.height] for b in got] == rows, name


@pytest.mark.shared
def test_min_and_max_are_rounded_as_sd_scripts_does(goldens: Path) -> None:
    for row in json.loads((goldens / "buckets/adjust_min_max.json").read_text(encoding="utf-8")):
        settings = BucketSettings(tuple(row["resolution"]), True, row["min"], row["max"], row["steps"])
        if "assert" in row:
            with pytest.raises(CannotPlace, match=r"bucket_reso .* is (above|below) the resolution"):
                rounded_min_max(settings)
        else:
            assert list(rounded_min_max(settings)) == row["adjusted"]


def test_a_phone_photo_by_hand() -> None:
    # 4032x3024 at 512x512 without upscaling: sqrt(262144 * 4/3) = 591.2 -> 576 wide, 443.4 -> 384 high;
    # 576 wide gives 432 -> 384 high (1.5), 384 high gives 512 wide (1.3333, exact): the height is rounded.
    got = select_bucket((4032, 3024), BucketSettings((512, 512), True, bucket_no_upscale=True))
    assert (got.bucket, got.resized, got.ar_error) == (Bucket(512, 384), (512, 384), 0.0)


@pytest.mark.parametrize(
    ("size", "random_crop", "refused"),
    [
        ((512, 512), False, ""),
        ((512, 512), True, ""),
        ((700, 513), True, ""),
        ((700, 512), False, "larger than the resolution 512x512"),
        ((700, 511), True, "smaller than the resolution 512x512"),
        ((511, 512), False, "smaller than the resolution 512x512"),
    ],
)
def test_without_buckets_sd_scripts_scales_nothing(size: tuple[int, int], random_crop: bool, refused: str) -> None:
    settings = BucketSettings((512, 512), scales=False)
    if refused:
        with pytest.raises(CannotPlace, match=refused):
            select_bucket(size, settings, random_crop=random_crop)
        return
    placement = select_bucket(size, settings, random_crop=random_crop)
    assert (placement.bucket, placement.resized) == (Bucket(512, 512), size)


def test_without_buckets_the_image_covers_the_one_size() -> None:
    got = select_bucket((1000, 500), BucketSettings((512, 512)))
    assert (got.bucket, got.resized) == (Bucket(512, 512), (1024, 512))
    assert (got.crop_left, got.crop_top) == (256, 0)


@pytest.mark.parametrize(
    ("size", "settings"),
    [
        ((0, 10), BucketSettings((512, 512))),
        ((10, 10), BucketSettings((0, 512))),
        ((63, 200), BucketSettings((512, 512), True, bucket_no_upscale=True)),
        ((400, 300), BucketSettings((512, 512), True, bucket_reso_steps=0)),
        ((400, 300), BucketSettings((512, 512), True, bucket_reso_steps=0, bucket_no_upscale=True)),
        ((400, 300), BucketSettings((32, 32), True, 0, 64)),
    ],
)
def test_what_has_no_bucket_says_so(size: tuple[int, int], settings: BucketSettings) -> None:
    with pytest.raises(CannotPlace):
        select_bucket(size, settings)


side = st.integers(1, 6000)
reso = st.integers(64, 1536)
step = st.sampled_from([8, 32, 64, 128])


@given(w=side, h=side, rw=reso, rh=reso, step=step)
def test_without_upscaling_nothing_grows(w: int, h: int, rw: int, rh: int, step: int) -> None:
    settings = BucketSettings((rw, rh), True, bucket_reso_steps=step, bucket_no_upscale=True)
    try:
        got = select_bucket((w, h), settings)
    except CannotPlace:
        return
    assert got.bucket.width % step == 0 == got.bucket.height % step
    assert got.bucket.width <= got.resized[0]
    assert got.bucket.height <= got.resized[1]
    if w * h <= rw * rh:
        assert got.resized == (w, h)
        assert got.bucket.area <= rw * rh


@given(w=side, h=side, rw=reso, rh=reso, step=step)
def test_with_upscaling_every_image_has_one_bucket_of_the_table(w: int, h: int, rw: int, rh: int, step: int) -> None:
    settings = BucketSettings((rw, rh), True, min(rw, rh), max(rw, rh), step)
    low, high = rounded_min_max(settings)
    table = resolutions((rw, rh), low, high, step)
    assert len(set(table)) == len(table)
    for bucket in table:
        assert bucket.width % step == 0 == bucket.height % step
        assert bucket.area <= rw * rh
        assert Bucket(bucket.height, bucket.width) in table
    if not table:
        return
    got = select_bucket((w, h), settings)
    assert table.count(got.bucket) == 1
    assert got.resized[0] >= got.bucket.width
    assert got.resized[1] >= got.bucket.height
    assert 0 <= got.crop_left <= got.resized[0] - got.bucket.width
    assert 0 <= got.crop_top <= got.resized[1] - got.bucket.height

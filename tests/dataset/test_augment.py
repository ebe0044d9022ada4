"""Captions and draws against recorded runs of sd-scripts, replayed from the seed alone, and what must always hold."""

from __future__ import annotations

import json
import math
import random
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kohyakit.config.read import read_values
from kohyakit.dataset.augment import CaptionOptions, ImageOptions, draw_image, process_caption
from kohyakit.dataset.buckets import select_bucket
from kohyakit.dataset.layout import scan
from kohyakit.dataset.subsets import Registered


@pytest.mark.shared
@pytest.mark.parametrize("case", ["basic", "adafactor", "locon"])
def test_captions_flips_and_batches_of_a_golden_run(goldens: Path, case: str) -> None:
    """Two epochs replayed from seed 42: the order of draws is the one the reference states."""
    folder = goldens / "training" / case
    text = (folder / "config.toml").read_text(encoding="utf-8").replace("{goldens}", str(goldens / "training"))
    config, _ = read_values(tomllib.loads(text), case)
    config = config.with_values(exif_orientation="ignore", rng_order="sd-scripts")
    (dataset,) = scan(config).datasets
    buckets: dict[tuple[int, int], list[Registered]] = {}
    for image in dataset.registered():
        bucket = select_bucket(image.record.size, dataset.bucket_settings).bucket
        buckets.setdefault((bucket.width, bucket.height), []).extend([image] * image.repeats)
    lists = [buckets[size] for size in sorted(buckets)]
    batches = [None] * sum(math.ceil(len(images) / dataset.batch_size) for images in lists)

    rng = random.Random(42)
    dataset_seed = rng.randint(0, 2**31)

    def shuffle(seed: int) -> None:
        rng.seed(seed)
        rng.shuffle(batches)
        for images in lists:
            rng.shuffle(images)

    shuffle(0)
    epoch = 0
    for line in (folder / "steps.jsonl").read_text(encoding="utf-8").splitlines():
        step = json.loads(line)
        index, size, place = step["bucket_batch"]
        images = lists[index][place * size : (place + 1) * size]
        assert [image.record.path.relative_to(goldens / "training/dataset").as_posix() for image in images] == (
            step["files"]
        )
        flipped, captions = [], []
        for image in images:
            placement = select_bucket(image.record.size, dataset.bucket_settings)
            size = (placement.bucket.width, placement.bucket.height)
            flipped.append(draw_image(image.subset.augment, placement.resized, size, rng).flip)
            captions.append(process_caption(image.record.caption, image.subset.captions, rng, epoch))
        assert flipped == step["flipped"], step["batch_no"]
        assert captions == step["captions"], step["batch_no"]
        if step["dataset_epoch_at_fetch"] < step["epoch"]:  # the stale first batch; then the new order
            epoch = step["epoch"]
            shuffle(dataset_seed + epoch)
    assert epoch == 2


OFF = CaptionOptions()
TAG = st.text(st.characters(exclude_characters=",|{}\n", exclude_categories=["Cs"]), min_size=1).filter(str.strip)
TAGS = st.lists(TAG, max_size=12)


@given(text=st.text(st.characters(exclude_characters="\n")), seed=st.integers())
def test_without_options_nothing_changes_and_nothing_is_drawn(text: str, seed: int) -> None:
    rng = random.Random(seed)
    before = rng.getstate()
    assert process_caption(text, OFF, rng) == text
    assert rng.getstate() == before


@given(tags=TAGS, keep=st.integers(0, 14), seed=st.integers())
def test_shuffling_keeps_the_first_tags_and_loses_none(tags: list[str], keep: int, seed: int) -> None:
    options = CaptionOptions(shuffle_caption=True, keep_tokens=keep)
    got = process_caption(",".join(tags), options, random.Random(seed)).split(", ")
    wanted = [tag.strip() for tag in tags] or [""]
    assert sorted(got) == sorted(", ".join(wanted).split(", "))
    assert ", ".join(got).startswith(", ".join(wanted[:keep]))


@given(tags=TAGS, keep=st.integers(0, 14), rate=st.floats(0, 1, exclude_min=True), seed=st.integers())
def test_tag_dropout_spares_the_kept_and_keeps_the_order(tags, keep: int, rate: float, seed: int) -> None:
    options = CaptionOptions(caption_tag_dropout_rate=rate, keep_tokens=keep)
    got = process_caption(",".join(tags), options, random.Random(seed))
    wanted = [tag.strip() for tag in tags] or [""]
    assert got.startswith(", ".join(wanted[:keep]))
    left = iter(wanted)
    if not any(", " in tag for tag in wanted):
        assert all(tag in left for tag in got.split(", ") if tag)


def test_dropout_rates_come_out_right() -> None:
    rng = random.Random(1)
    dropped = sum(process_caption("a", CaptionOptions(caption_dropout_rate=0.25), rng) == "" for _ in range(4000))
    assert 900 < dropped < 1100
    tags = ",".join("abcdefghij")
    options = CaptionOptions(caption_tag_dropout_rate=0.3)
    kept = sum(len(process_caption(tags, options, rng).split(", ")) for _ in range(1000))
    assert 6800 < kept < 7200


def test_dropout_every_n_epochs_counts_from_0() -> None:
    options = CaptionOptions(caption_dropout_every_n_epochs=2)
    got = [process_caption("a", options, random.Random(0), epoch) for epoch in range(5)]
    assert got == ["", "a", "", "a", ""]


def test_a_dropped_caption_draws_nothing_further() -> None:
    rng, other = random.Random(3), random.Random(3)
    options = CaptionOptions(caption_dropout_rate=1.0, shuffle_caption=True, enable_wildcard=True)
    assert process_caption("{a|b}, c, d", options, rng) == ""
    other.random()
    assert rng.getstate() == other.getstate()


def test_prefix_suffix_and_secondary_separator() -> None:
    options = CaptionOptions(caption_prefix="pre", caption_suffix="post", secondary_separator=";;;")
    assert process_caption("a;;;b, c", options, random.Random(0)) == "pre a,b, c post"


def test_separator_keeps_front_and_end() -> None:
    options = CaptionOptions(shuffle_caption=True, keep_tokens_separator="|||", keep_tokens=9)
    seen = {process_caption("1, 2 ||| a, b,, c ||| x, y", options, random.Random(seed)) for seed in range(60)}
    assert len(seen) == 6
    assert all(text.startswith("1, 2, ") and text.endswith(", x, y") and len(text.split(", ")) == 7 for text in seen)


def test_token_warm_up() -> None:
    options = CaptionOptions(token_warmup_min=1, token_warmup_step=10)
    shown = {step: process_caption("a,b,c,d,e", options, random.Random(0), 0, step) for step in (0, 5, 9, 10)}
    # floor(step * (5 - 1) / 10) + 1 tags
    assert shown == {0: "a", 5: "a, b, c", 9: "a, b, c, d", 10: "a, b, c, d, e"}
    fraction = CaptionOptions(token_warmup_min=1, token_warmup_step=0.1)
    assert process_caption("a,b,c,d,e", fraction, random.Random(0), 0, 5, max_train_steps=100) == "a, b, c"


def test_wildcards() -> None:
    options = CaptionOptions(enable_wildcard=True)
    seen = {process_caption("{red|green} {{x}} dog\nsecond", options, random.Random(seed)) for seed in range(40)}
    assert seen == {"red {x} dog", "green {x} dog", "second"}
    assert process_caption("one\ntwo", OFF, random.Random(0)) == "one"


@given(
    trim=st.tuples(st.integers(0, 40), st.integers(0, 40)), flip=st.booleans(), colour=st.booleans(),
    crop=st.booleans(), seed=st.integers(),
)  # fmt: skip
def test_draws_stay_inside_the_image(trim, flip: bool, colour: bool, crop: bool, seed: int) -> None:
    rng = random.Random(seed)
    before = rng.getstate()
    got = draw_image(ImageOptions(flip, colour, crop), (64 + trim[0], 64 + trim[1]), (64, 64), rng)
    assert 0 <= got.crop_left <= trim[0]
    assert 0 <= got.crop_top <= trim[1]
    if not crop:
        assert (got.crop_left, got.crop_top) == (trim[0] // 2, trim[1] // 2)
    assert got.hue_shift is None or -8 <= got.hue_shift <= 8
    assert got.gamma is None or 0.95 <= got.gamma <= 1.05
    if not (flip or colour or (crop and any(trim))):
        assert rng.getstate() == before

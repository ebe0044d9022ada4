"""Buckets, crops and scales; the figures are worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from kohyakit.audit.resolution import placements, what_if
from kohyakit.audit.run import audit_dataset
from kohyakit.audit.settings import settings_from
from kohyakit.dataset.buckets import BucketSettings
from kohyakit.errors import ConfigError

from .conftest import found


def sizes(*pairs: tuple[int | None, int | None]) -> pd.DataFrame:
    return pd.DataFrame(pairs, columns=["width", "height"])


def test_without_buckets_the_middle_square_is_kept() -> None:
    """1024x512 for 512: height fits, so scale 1, and 256 pixels go on each side, half of the picture."""
    row = placements(sizes((1024, 512)), BucketSettings((512, 512))).iloc[0]
    assert (row["bucket"], row["scale"], row["cropped"]) == ("512x512", 1.0, 0.5)
    assert tuple(row[["cut_left", "cut_top", "cut_right", "cut_bottom"]]) == (256, 0, 256, 0)


def test_cuts_are_told_in_pixels_of_the_unscaled_picture() -> None:
    """2000x3000 for 512: scaled by 0.256 to 512x768, of which 128 above and below go: 500 of the 3000 each."""
    row = placements(sizes((2000, 3000)), BucketSettings((512, 512))).iloc[0]
    assert row["scale"] == pytest.approx(0.256)
    assert row["cropped"] == pytest.approx(1 / 3)
    assert (row["cut_top"], row["cut_bottom"]) == (500, 500)


def test_unknown_and_impossible_sizes_have_no_bucket() -> None:
    settings = BucketSettings((512, 512), enable_bucket=True, bucket_no_upscale=True)
    table = placements(sizes((None, None), (40, 4000), (512, 512)), settings)
    assert table["bucket"].isna().tolist() == [True, True, False]
    assert table.index.tolist() == [0, 1, 2]


def test_what_if_counts() -> None:
    """Three squares of 600 and one of 300: at 512 one is too small; at 1024 all are."""
    images = pd.DataFrame({"trained_width": [600, 600, 600, 300], "trained_height": [600, 600, 600, 300], "repeats": 2})
    table = what_if(images, [BucketSettings((s, s), enable_bucket=True) for s in (512, 1024)], batch_size=4)
    assert table["resolution"].tolist() == ["512x512", "1024x1024"]
    assert table["too_small"].tolist() == [1, 4]
    assert table["batches"].tolist() == [2, 2]  # 4 images x 2 repeats / 4
    assert table["buckets"].tolist() == [1, 1]


@pytest.fixture
def folder(save: Callable[..., Path]) -> Path:
    for name, size in {
        "ok": (600, 500),
        "small": (300, 200),
        "tiny": (100, 100),
        "long": (2000, 400),
        "half": (1100, 520),
    }.items():
        path = save(f"{name}.png", Image.new("RGB", size))
    return path.parent


def test_small_long_cropped(folder: Path) -> None:
    report = audit_dataset(folder, checks=("resolution",), workers=0, resolution=512)
    assert found(report, "too_small") == {"small.png", "tiny.png"}
    severity = report.issues[report.issues["issue"] == "too_small"].set_index("path")["severity"]
    assert severity.to_dict() == {str(folder / "small.png"): "warning", str(folder / "tiny.png"): "warning"}
    assert found(report, "extreme_aspect_ratio") == {"long.png"}
    small = report.issues[report.issues["issue"] == "too_small"].set_index("path")
    assert "enlarged 5.12 times" in small.loc[str(folder / "tiny.png"), "detail"]


def test_no_upscaling_says_the_size_that_is_trained(folder: Path, tmp_path: Path) -> None:
    config = tmp_path / "train.toml"
    config.write_text('resolution = "512,512"\nenable_bucket = true\nbucket_no_upscale = true\n', encoding="utf-8")
    report = audit_dataset(folder, config=config, checks=("resolution",), workers=0)
    detail = report.issues[report.issues["issue"] == "too_small"].set_index("path")["detail"]
    assert "would be trained at 256x192" in detail[str(folder / "small.png")]


def test_without_buckets_much_is_cropped(folder: Path, tmp_path: Path) -> None:
    config = tmp_path / "train.toml"
    config.write_text('resolution = "512,512"\nenable_bucket = false\n', encoding="utf-8")
    report = audit_dataset(folder, config=config, checks=("resolution",), workers=0)
    # of 600x500 a sixth, of 300x200 a third, of 2000x400 four fifths, of 1100x520 more than half; 100x100 is square
    assert found(report, "much_cropped") == {"ok.png", "small.png", "long.png", "half.png"}
    assert found(report, "lone_bucket") == set()
    # 600x500: scaled to 614x512, 102 of 614 cut
    row = report.images.set_index("path").loc[str(folder / "ok.png")]
    assert row["cropped"] == pytest.approx(102 / 614, abs=1e-3)


def test_orientation_decides_the_bucket(save: Callable[..., Path]) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save("turned.jpg", Image.new("RGB", (768, 512)), exif=exif)
    row = audit_dataset(path.parent, checks=("resolution",), workers=0).images.iloc[0]
    assert (row["width"], row["height"], row["shown_width"], row["shown_height"]) == (768, 512, 512, 768)
    assert row["bucket"] == "384x640"
    stored = audit_dataset(path.parent, checks=("resolution",), workers=0, upright=False).images.iloc[0]
    assert stored["bucket"] == "640x384"


def test_settings_say_all_problems_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        settings_from(resolution="wide", what_if="512,big")
    assert len(caught.value.problems) == 2


def test_resolutions_may_be_written_in_three_ways() -> None:
    found_sizes = settings_from(resolution="768x512", what_if="512, 1024x768").what_if
    assert found_sizes == ((512, 512), (1024, 768))
    assert settings_from(resolution=640).buckets.resolution == (640, 640)

"""Every option of a dataset_config acts, or is told: none is read and then ignored."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from kohyakit.config.train import TrainConfig
from kohyakit.dataset.layout import Scan, scan
from kohyakit.formats.dataset_toml import DatasetTable, SubsetTable

pytest.importorskip("PIL.Image")

# A value other than what counts where an option is not given.
VALUES: dict[str, Any] = {
    "is_reg": True, "class_tokens": "cat", "caption_extension": "cap", "cache_info": True, "alpha_mask": True,
    "num_repeats": 3, "shuffle_caption": True, "caption_separator": ";", "keep_tokens": 1,
    "keep_tokens_separator": "|||", "secondary_separator": ";;;", "enable_wildcard": True, "caption_prefix": "a",
    "caption_suffix": "z", "caption_dropout_rate": 0.5, "caption_dropout_every_n_epochs": 2,
    "caption_tag_dropout_rate": 0.5, "token_warmup_min": 2, "token_warmup_step": 5.0, "color_aug": True,
    "flip_aug": True, "face_crop_aug_range": [1.0, 2.0], "random_crop": True, "custom_attributes": {"x": 1},
    "resize_interpolation": "area", "resolution": 128, "batch_size": 2, "enable_bucket": True,
    "min_bucket_reso": 64, "max_bucket_reso": 256, "bucket_reso_steps": 32, "bucket_no_upscale": True,
    "network_multiplier": 0.5,
}  # fmt: skip
# What the others are options of, and what is held back from training, which has tests of its own.
PLACES = (
    "kind", "subsets", "image_dir", "metadata_file", "conditioning_data_dir", "validation_split", "validation_seed",
)  # fmt: skip
OPTIONS = [(t, f.name) for t in (SubsetTable, DatasetTable) for f in fields(t) if f.name not in PLACES]


def text(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {text(one)}" for name, one in value.items()) + "}"
    return str(value).lower() if isinstance(value, bool) else repr(value)


def scanned(tmp_path: Path, dataset: str = "", subset: str = "", **values: Any) -> Scan:
    file = tmp_path / "data.toml"
    folder = f"image_dir = {str(tmp_path / 'dog')!r}\n"
    file.write_text(f"[[datasets]]\n{dataset}\n[[datasets.subsets]]\n{folder}{subset}\n", encoding="utf-8")
    usual = {"resolution": "64", "caption_extension": ".txt", "dataset_config": str(file)}
    return scan(TrainConfig().with_values(**{**usual, **values}))


@pytest.mark.parametrize(("table", "option"), OPTIONS, ids=lambda value: getattr(value, "__name__", value))
def test_every_option_acts_or_is_told(picture, tmp_path: Path, table: type, option: str) -> None:
    picture("dog/a.png").with_suffix(".txt").write_text("dog, grass", encoding="utf-8")
    picture("dog/b.png").with_suffix(".cap").write_text("dog", encoding="utf-8")
    line = f"{option} = {text(VALUES[option])}"
    plain = scanned(tmp_path)
    asked = scanned(tmp_path, subset=line) if table is SubsetTable else scanned(tmp_path, line)
    assert asked != plain, f"{option} changes nothing, and nothing is said"


def test_what_cannot_be_kept_is_not_cached(picture, tmp_path: Path) -> None:
    picture("dog/a.png").with_suffix(".txt").write_text("dog", encoding="utf-8")

    def told(subset: str, **values: Any) -> list[str]:
        found = scanned(tmp_path, subset=subset, **values)
        return [str(problem) for problem in found.problems if problem.name == "caching_excludes_changes"]

    (one,) = told("color_aug = true\nrandom_crop = true", cache_latents=True)
    assert "data set 1: latents are cached, but color_aug and random_crop would change them each time" in one
    (one,) = told("shuffle_caption = true", cache_text_encoder_outputs=True)
    assert "switch cache_text_encoder_outputs or shuffle_caption off" in one
    assert told("color_aug = true\nshuffle_caption = true") == []
    assert told("color_aug = false", cache_latents=True, color_aug=True) == []  # the subset's own goes first


def test_what_sd_scripts_reads_and_leaves_alone(picture, tmp_path: Path) -> None:
    picture("dog/a.png").with_suffix(".txt").write_text("dog", encoding="utf-8")
    for order, strength, named in (("kohyakit", 0.5, []), ("sd-scripts", 1.0, ["multiplier_not_read"])):
        found = scanned(tmp_path, "network_multiplier = 0.5", rng_order=order)
        assert [dataset.network_multiplier for dataset in found.datasets] == [strength]
        assert [problem.name for problem in found.problems] == named
    attributes = "custom_attributes = {diff_output_preservation = true}"
    found = scanned(tmp_path, subset=attributes)
    assert [subset.preserved for subset in found.subsets()] == [True]
    assert found.problems == ()


def test_an_extension_without_its_dot_and_its_older_spelling(picture, tmp_path: Path) -> None:
    """sd-scripts adds the dot; a subset's own extension goes before the misspelt argument."""
    picture("dog/a.png").with_suffix(".cap").write_text("cap", encoding="utf-8")
    (tmp_path / "dog/a.txt").write_text("txt", encoding="utf-8")

    def caption(subset: str, **values: Any) -> str:
        (record,) = scanned(tmp_path, subset=subset, **values).records()
        return record.caption

    assert caption("caption_extension = 'cap'") == "cap"
    assert caption("", caption_extention="cap") == "cap"
    assert caption("caption_extension = '.txt'", caption_extention=".cap") == "txt"


def test_several_data_sets_each_with_their_own(picture, tmp_path: Path) -> None:
    picture("dog/a.png", (128, 128)).with_suffix(".txt").write_text("dog", encoding="utf-8")
    folder = f"[[datasets.subsets]]\nimage_dir = {str(tmp_path / 'dog')!r}\n"
    sizes = "".join(f"[[datasets]]\nresolution = {size}\n{folder}" for size in (64, 96, 128))
    file = tmp_path / "data.toml"
    file.write_text(sizes, encoding="utf-8")
    found = scan(TrainConfig().with_values(dataset_config=str(file), caption_extension=".txt"))
    assert [dataset.resolution for dataset in found.datasets] == [(64, 64), (96, 96), (128, 128)]
    alike = [replace(dataset, resolution=(0, 0)) for dataset in found.datasets]
    assert alike[0] == alike[1] == alike[2]

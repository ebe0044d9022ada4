"""Masks beside images: found by name, and what is wrong with them said before a training."""

from __future__ import annotations

from pathlib import Path

import pytest

from kohyakit.config.train import TrainConfig
from kohyakit.dataset.layout import scan
from kohyakit.planning.decoding import decoded
from kohyakit.runs.resume import made_with

pytest.importorskip("PIL.Image")


def config(**values) -> TrainConfig:
    values = {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}
    usual = {"resolution": "64", "enable_bucket": True, "bucket_no_upscale": True, "caption_extension": ".txt"}
    return TrainConfig().with_values(**{**usual, **values})


@pytest.fixture
def project(picture, tmp_path: Path) -> Path:
    """img/2_dog with three pictures, masks/ with one for each, and a dataset_config of the same."""
    for name in "abc":
        picture(f"img/2_dog/{name}.png", (80, 64)).with_suffix(".txt").write_text("dog", encoding="utf-8")
        picture(f"masks/{name}.png", (80, 64))
    return tmp_path


def tables(project: Path, extra: str = "") -> str:
    """A dataset_config with masks."""
    file = project / "data.toml"
    text = f"image_dir = {str(project / 'img/2_dog')!r}\nconditioning_data_dir = {str(project / 'masks')!r}\n{extra}\n"
    file.write_text(f"[[datasets]]\nresolution = 64\n[[datasets.subsets]]\n{text}", encoding="utf-8")
    return str(file)


def masks(found) -> dict[str, str]:
    return {r.path.name: str(r.mask.path.relative_to(r.mask.path.parents[1])) for r in found.records() if r.mask}


def named(found) -> list[tuple[str, str]]:
    """(severity, name) of what concerns masks."""
    return [(p.severity, p.name) for p in found.problems if "mask" in p.name]


def test_a_mask_has_the_name_of_its_image(project: Path, picture) -> None:
    from_table = scan(config(dataset_config=tables(project), masked_loss=True))
    from_config = scan(
        config(train_data_dir=project / "img", conditioning_data_dir=project / "masks", masked_loss=True)
    )
    for found in (from_table, from_config):
        assert masks(found) == {f"{name}.png": str(Path("masks", f"{name}.png")) for name in "abc"}
        assert named(found) == []
    picture("masks/2_dog/b.jpg", (80, 64))
    (subset,) = scan(
        config(train_data_dir=project / "img", conditioning_data_dir=project / "masks", masked_loss=True)
    ).subsets()
    assert subset.conditioning_data_dir == project / "masks/2_dog"  # a folder of the subset's own name goes first


def test_every_fault_of_masks_is_told_at_once(project: Path, picture) -> None:
    (project / "masks/a.png").unlink()
    (project / "masks/b.png").write_bytes(b"no picture")
    picture("masks/c.png", (64, 80))
    picture("masks/d.png", (80, 64))
    found = scan(config(dataset_config=tables(project), masked_loss=True))
    told = {p.name: str(p) for p in found.problems}
    assert "masks: 1 of 3 images have no mask in it: a.png; " in told["mask_missing"]
    assert "2_dog/b.png: its mask " in told["bad_mask"]
    assert "masks/c.png is 64x80 pixels and the image 80x64" in told["mask_size"]
    assert "1 mask in it without an image: d.png" in told["mask_unused"]
    severities = dict((name, severity) for severity, name in named(found))
    assert severities == {"mask_missing": "error", "bad_mask": "error", "mask_size": "error", "mask_unused": "warning"}
    as_there = scan(config(dataset_config=tables(project), masked_loss=True, rng_order="sd-scripts"))
    assert ("error", "mask_unused") in named(as_there)  # it stops at such a mask
    whole = scan(config(dataset_config=tables(project), masked_loss=True, rng_order="sd-scripts", enable_bucket=False))
    assert "mask_size" not in dict(map(reversed, named(whole)))  # without buckets it scales them


def test_a_mask_whose_pixels_do_not_decode_is_told_with_the_images(project: Path, picture) -> None:
    path = project / "masks/b.png"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))
    found = scan(config(dataset_config=tables(project), masked_loss=True))
    assert named(found) == []
    (told,) = [str(p) for p in decoded(found).problems if p.name == "bad_mask"]
    assert "2_dog/b.png: its mask" in told


def test_where_masks_are_not_looked_at_that_is_said(project: Path) -> None:
    folders = {"train_data_dir": project / "img", "conditioning_data_dir": project / "masks"}
    for values in ({}, {"masked_loss": True, "rng_order": "sd-scripts"}):
        found = scan(config(**folders, **values))
        assert named(found) == [("warning", "masks_not_read")]
        assert masks(found) == {}
    assert named(scan(config(**folders, masked_loss=True), by_sd_scripts=True)) == [("warning", "masks_not_read")]
    without = scan(config(dataset_config=tables(project)))
    assert named(without) == [("error", "masks_without_masked_loss")]
    alone = Path(tables(project))
    lines = alone.read_text(encoding="utf-8").splitlines()
    alone.write_text("\n".join(x for x in lines if "conditioning" not in x), encoding="utf-8")
    assert named(scan(config(dataset_config=alone, masked_loss=True))) == [("warning", "mask_without_source")]
    assert named(scan(config(dataset_config=alone, masked_loss=True, alpha_mask=True))) == []
    cut = {"dataset_config": tables(project, "random_crop = true"), "masked_loss": True}
    assert named(scan(config(**cut))) == []
    assert named(scan(config(**cut, rng_order="sd-scripts"))) == [("error", "masks_random_crop")]


def test_a_missing_folder_of_masks_is_told_once(project: Path, picture) -> None:
    picture("img/1_cat/c.png", (80, 64)).with_suffix(".txt").write_text("cat", encoding="utf-8")
    nowhere = {"conditioning_data_dir": project / "nowhere", "masked_loss": True}
    found = scan(config(train_data_dir=project / "img", **nowhere))
    assert [p.name for p in found.problems if p.severity == "error"] == ["folder_missing"]
    assert "nowhere: the folder does not exist; correct conditioning_data_dir" in str(found.problems[0])


def test_a_mask_that_was_painted_over_is_another_training_on_resume(project: Path, picture) -> None:
    asked = config(train_data_dir=project / "img", conditioning_data_dir=project / "masks", masked_loss=True)

    def made() -> dict:
        return made_with(asked, scan(asked).datasets, images="", captions="", seed=1)

    before = made()
    assert made() == before
    picture("masks/b.png", (80, 64), orientation=2)
    assert made() != before

"""Folders as people make them, right and wrong, and the regularisation images repeated in turn."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kohyakit.config.train import TrainConfig
from kohyakit.dataset.images import ImageRecord
from kohyakit.dataset.layout import Dataset, Scan, Subset, parse_resolution, scan
from kohyakit.dataset.walk import parse_folder_name


def config(**values: object) -> TrainConfig:
    values = {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}
    return TrainConfig().with_values(**{"resolution": "64,64", "caption_extension": ".txt", **values})


def names(found: Scan, severity: str | None = None) -> list[str]:
    return [problem.name for problem in found.problems if severity in (None, problem.severity)]


@pytest.mark.parametrize(
    ("name", "parsed"),
    [
        ("10_sks dog", (10, "sks dog")),
        ("3_a_b", (3, "a_b")),
        ("10", (10, "")),
        (" 7 _x", (7, "x")),
        ("-1_x", (-1, "x")),
        ("dog", None),
        ("x10_dog", None),
        ("2.5_dog", None),
    ],
)
def test_folder_names_as_sd_scripts_splits_them(name: str, parsed: tuple[int, str] | None) -> None:
    assert parse_folder_name(name) == parsed


def test_subsets_in_the_order_of_their_names(picture, tmp_path: Path) -> None:
    for name in ("img/2_b/b.png", "img/10_a c/a.png", "img/10_a c/B.jpg", "reg/1_c/r.png"):
        picture(name)
    (tmp_path / "img/10_a c/a.txt").write_text("a tag\n", encoding="utf-8")
    found = scan(config(train_data_dir=tmp_path / "img", reg_data_dir=tmp_path / "reg"))
    (dataset,) = found.datasets
    assert [(s.image_dir.name, s.num_repeats, s.class_tokens, s.is_reg) for s in dataset.subsets] == [
        ("10_a c", 10, "a c", False), ("2_b", 2, "b", False), ("1_c", 1, "c", True),
    ]  # fmt: skip
    assert [(r.path.name, r.caption) for r in dataset.subsets[0].records] == [("B.jpg", "a c"), ("a.png", "a tag")]
    assert names(found, "error") == []


# what people have in train_data_dir -> the finding and what it must tell them to do
MISTAKES = [
    (["img/10_dog/a.png"], "img/10_dog", "parent_of_folders", "set train_data_dir to"),
    (["img/a.png"], "img", "parent_of_folders", "10_subject"),
    (["img/dog/a.png"], "img", "no_repeat_count", "rename it to 10_dog"),
    (["img/10 dog/a.png"], "img", "no_repeat_count", "rename it to 10_dog"),
    (["img/5-dog/a.png"], "img", "no_repeat_count", "rename it to 5_dog"),
    (["img/7dog/a.png"], "img", "no_repeat_count", "rename it to 7_dog"),
    (["img/_dog/a.png"], "img", "no_repeat_count", "rename it to 10_dog"),
    (["img/2024 trip/a.png"], "img", "no_repeat_count", "rename it to 10_2024 trip"),
    (["p/img/10_dog/a.png"], "p", "parent_of_folders", "set train_data_dir to"),
    (["img/readme.png.txt"], "img", "no_images", "make one"),
    (["img/10_dog/notes.txt"], "img", "no_images", "put photos"),
    ([], "nowhere", "folder_missing", "correct train_data_dir"),
]


@pytest.mark.parametrize(("files", "given", "name", "cure"), MISTAKES)
def test_folder_mistakes_by_name(picture, tmp_path: Path, files: list[str], given: str, name: str, cure: str) -> None:
    for file in files:
        if file.endswith(".png"):
            picture(file)
        else:
            (tmp_path / file).parent.mkdir(parents=True)
            (tmp_path / file).write_text("x", encoding="utf-8")
    found = scan(config(train_data_dir=tmp_path / given))
    assert found.datasets == ()
    (problem,) = [p for p in found.problems if p.severity == "error"]
    assert problem.name == name
    assert cure in problem.cure


def test_what_the_decoder_takes_is_no_error(picture, tmp_path: Path) -> None:
    """A format under another one's name trains, and is named as the audit names it."""
    picture("img/10_dog/a.png", format="GIF")
    picture("img/10_dog/b.jpg", format="TIFF")
    picture("img/10_dog/c.jpg")
    found = scan(config(train_data_dir=tmp_path / "img"))
    assert names(found, "error") == []
    (problem,) = [p for p in found.problems if p.name == "extension_mismatch"]
    assert problem.severity == "warning"
    assert "a.png is GIF inside, and 1 more" in problem.what


def test_a_file_where_a_folder_was_wanted(picture) -> None:
    found = scan(config(train_data_dir=picture("a.png")))
    assert [p.what for p in found.problems] == ["it is a file; a folder was wanted"]


def test_what_lies_beside_good_folders_is_named_and_ignored(picture, tmp_path: Path) -> None:
    for name in ("1_a/a.png", "loose.png", "b/b.png", "1_a/deep/c.png", "0_z/z.png", "2_empty/n.png", "1_a/x.gif"):
        picture(f"img/{name}")
    (tmp_path / "img/2_empty/n.png").unlink()
    found = scan(config(train_data_dir=tmp_path / "img"))
    assert names(found, "error") == []
    assert sorted(names(found, "warning")) == [
        "empty_subset", "images_beside_subsets", "nested_in_subset", "no_repeat_count", "no_repeats", "not_trained",
    ]  # fmt: skip
    assert [len(s.records) for d in found.datasets for s in d.subsets] == [1]


def test_no_folder_at_all() -> None:
    assert names(scan(config())) == ["no_folder"]


@pytest.mark.parametrize(
    ("data", "name", "severity"),
    [
        (b"", "empty_caption", "error"),
        ("Caf\u00e9".encode("latin-1"), "caption_not_utf8", "error"),
        (b"\n", "empty_caption", "warning"),
    ],
)
def test_caption_problems_name_the_file(picture, tmp_path: Path, data: bytes, name: str, severity: str) -> None:
    picture("img/1_a/a.png").with_suffix(".txt").write_bytes(data)
    (problem,) = scan(config(train_data_dir=tmp_path / "img")).problems
    assert problem.where.endswith("a.txt")
    assert (problem.name, problem.severity) == (name, severity)


def test_captions_under_another_extension(picture, tmp_path: Path) -> None:
    for letter in "abc":
        picture(f"img/1_x/{letter}.png").with_suffix(".txt").write_text("tag", encoding="utf-8")
    (problem,) = scan(config(train_data_dir=tmp_path / "img", caption_extension=".caption")).problems
    assert problem.name == "caption_wrong_extension"
    assert problem.cure == "set caption_extension to .txt"


def test_unreadable_images_are_named_and_kept_apart(picture, tmp_path: Path) -> None:
    picture("img/1_x/good.png")
    picture("img/1_x/cut.jpg", (200, 200)).write_bytes(picture("tmp.jpg", (200, 200)).read_bytes()[:9000])
    (tmp_path / "img/1_x/html.jpg").write_text("<html>", encoding="utf-8")
    found = scan(config(train_data_dir=tmp_path / "img"))
    assert [p.name for p in found.problems if p.severity == "error"] == ["damaged", "undecodable"]
    (subset,) = found.subsets()
    assert [path.name for path in subset.unreadable] == ["html.jpg"]
    assert [record.path.name for record in subset.records] == ["cut.jpg", "good.png"]


@pytest.mark.skipif(os.name == "nt", reason="Windows does not tell case apart")
def test_extensions_in_mixed_case(picture, tmp_path: Path) -> None:
    path = picture("img/1_x/a.jpg")
    path.rename(path.with_suffix(".Jpg"))
    found = scan(config(train_data_dir=tmp_path / "img"))
    assert (len(list(found.records())), names(found)) == (1, ["extension_case"])
    found = scan(config(train_data_dir=tmp_path / "img", rng_order="sd-scripts"))
    assert found.datasets == ()
    assert "extension_case" in names(found)


def subset(count: int, repeats: int, *, is_reg: bool = False, name: str = "a") -> Subset:
    records = tuple(ImageRecord(Path(f"{name}{n}.png"), 64, 64) for n in range(count))
    return Subset(Path(name), repeats, is_reg=is_reg, records=records)


def sd_scripts_turns(wanted: int, reg: list[int]) -> list[int]:
    """The reference's rule, written as the loop it describes."""
    have, times, first = 0, [0] * len(reg), True
    while have < wanted and reg:
        for place, repeats in enumerate(reg):
            more = repeats if first else 1
            times[place] += more
            have += more
            if have >= wanted:
                break
        first = False
    return [n for n in times if n]


@pytest.mark.parametrize("train", [1, 3, 26, 100])
@pytest.mark.parametrize("reg", [[1, 1, 1], [2, 2], [5] * 7, [1] * 40, [200], []])
def test_regularisation_images_in_turn(train: int, reg: list[int]) -> None:
    regs = tuple(subset(1, repeats, is_reg=True, name=f"r{n}") for n, repeats in enumerate(reg))
    got = Dataset((64, 64), subsets=(subset(train, 1), *regs)).registered()
    assert [image.repeats for image in got[train:]] == sd_scripts_turns(train, reg)
    assert all(not image.subset.is_reg for image in got[:train])


def test_26_training_images_and_3_regularisation_images_as_measured() -> None:
    got = Dataset((64, 64), subsets=(subset(26, 1), subset(3, 1, is_reg=True, name="r"))).registered()
    assert [image.repeats for image in got[26:]] == [9, 9, 8]


TOML = """
[general]
shuffle_caption = true
caption_extension = ".cap"
[[datasets]]
resolution = 128
batch_size = 3
enable_bucket = true
  [[datasets.subsets]]
  image_dir = {a!r}
  num_repeats = 4
  class_tokens = "sks"
  keep_tokens = 2
  [[datasets.subsets]]
  image_dir = {a!r}
[[datasets]]
resolution = [96, 64]
  [[datasets.subsets]]
  image_dir = {b!r}
  flip_aug = true
  shuffle_caption = false
  is_reg = false
  [[datasets.subsets]]
  image_dir = {b!r}
  num_repeats = 0
"""


def test_whatever_a_dataset_config_asks_for_the_trainer_can_do(picture, tmp_path: Path) -> None:
    picture("a/a.png").with_suffix(".cap").write_text("tag", encoding="utf-8")
    file = tmp_path / "data.toml"

    def found(subset: str, dataset: str = "", **backend: bool) -> list[str]:
        text = f"[[datasets]]\nresolution = 64\n{dataset}\n[[datasets.subsets]]\nimage_dir = {str(tmp_path / 'a')!r}\n"
        file.write_text(text + subset, encoding="utf-8")
        return [str(p) for p in scan(config(dataset_config=file), **backend).problems if p.name == "not_built_in"]

    assert found("alpha_mask = true", "validation_split = 0.2\nnetwork_multiplier = 0.5") == []
    assert found("resize_interpolation = 'nearest'", "resize_interpolation = 'cubic'") == []
    (dataset,) = scan(config(dataset_config=file)).datasets
    assert (dataset.resize_interpolation, dataset.subsets[0].resize_interpolation) == ("cubic", "nearest")


def test_a_dataset_config_with_several_data_sets(picture, tmp_path: Path) -> None:
    picture("a/a.png").with_suffix(".cap").write_text("tag", encoding="utf-8")
    picture("b/b.png")
    file = tmp_path / "data.toml"
    file.write_text(TOML.format(a=(tmp_path / "a").as_posix(), b=(tmp_path / "b").as_posix()), encoding="utf-8")
    found = scan(config(dataset_config=file, train_data_dir=tmp_path / "unused", train_batch_size=5, keep_tokens=1))
    assert names(found, "error") == []
    assert sorted(names(found, "warning")) == [
        "duplicate_subset", "folder_beside_dataset_config", "missing_caption", "no_repeats",
    ]  # fmt: skip
    first, second = found.datasets
    assert (first.resolution, first.batch_size, first.enable_bucket) == ((128, 128), 3, True)
    assert (second.resolution, second.batch_size, second.enable_bucket) == ((96, 64), 5, False)
    (a,), (b,) = first.subsets, second.subsets
    assert (a.num_repeats, a.class_tokens, a.captions.keep_tokens, a.captions.shuffle_caption) == (4, "sks", 2, True)
    assert (b.num_repeats, b.class_tokens, b.captions.keep_tokens, b.captions.shuffle_caption) == (1, None, 1, False)
    assert (a.augment.flip_aug, b.augment.flip_aug) == (False, True)
    assert (a.records[0].caption, b.records[0].caption) == ("tag", "")


@pytest.mark.parametrize(
    ("value", "wanted"),
    [("512", (512, 512)), ("768, 512", (768, 512)), (640, (640, 640)), ((96, 64), (96, 64))],
)
def test_resolutions(value: object, wanted: tuple[int, int]) -> None:
    assert parse_resolution(value, "x", []) == wanted


@pytest.mark.parametrize("value", [None, "", "a,b", "1,2,3", 0, "-5"])
def test_bad_resolutions_are_findings(value: object) -> None:
    problems: list = []
    assert parse_resolution(value, "x", problems) is None
    assert len(problems) == 1

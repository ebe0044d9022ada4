"""Metadata files in place of caption files: keys, captions with tags, and what is wrong in them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kohyakit.config.train import TrainConfig
from kohyakit.dataset.layout import Scan, scan
from kohyakit.dataset.sources.metadata import joined
from kohyakit.planning.make import check_plan, make_plan

pytest.importorskip("PIL.Image")


def config(**values: object) -> TrainConfig:
    values = {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}
    usual = {"resolution": "128", "enable_bucket": True, "bucket_no_upscale": True, "min_bucket_reso": 64}
    return TrainConfig().with_values(**{**usual, **values})


@pytest.fixture
def written(picture, tmp_path: Path):
    """written({"a.png": {...}}, name="meta.json") -> the file; the pictures of its names lie in photos/."""

    def write(entries: dict[str, object], called: str = "meta.json", missing: tuple[str, ...] = ()) -> Path:
        for key in entries:
            if key not in missing and not (tmp_path / "photos" / key).exists():
                name = Path(key).name
                picture(f"photos/{name}" if Path(key).suffix else f"photos/{name}.JPG", (80, 64), format="PNG")
        file = tmp_path / called
        if called.endswith(".jsonl"):
            lines = [json.dumps({"image_path": key, **dict(entry)}) for key, entry in entries.items()]
            file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        else:
            file.write_text(json.dumps(entries), encoding="utf-8")
        return file

    return write


def captions(found: Scan) -> list[tuple[str, str]]:
    return [(record.path.name, record.caption) for record in found.records()]


@pytest.mark.parametrize("name", ["meta.json", "meta.jsonl"])
def test_keys_captions_and_tags_from_in_json_and_from_a_dataset_config(written, tmp_path: Path, name: str) -> None:
    whole = tmp_path / "photos" / "longest of all.png"
    entries = {
        "a.png": {"caption": "a dog", "tags": "dog, grass", "train_resolution": [64, 64]}, "bb.png": {"caption": "b"},
        str(whole): {"tags": "whole"}, "c.png": {"tags": "cat"},
    }  # fmt: skip
    file = written(entries, name)
    found = scan(config(train_data_dir=tmp_path / "photos", in_json=file, dataset_repeats=3))
    # the longest keys first, as sd-scripts takes them, and those of one length in the file's order
    expected = [("longest of all.png", "whole"), ("bb.png", "b"), ("a.png", "a dog,dog, grass"), ("c.png", "cat")]
    assert captions(found) == expected
    assert found.problems == ()
    (dataset,) = found.datasets
    (subset,) = dataset.subsets
    assert (dataset.kind, subset.name, subset.num_repeats, dataset.train_images) == ("finetuning", name, 3, 12)
    assert sorted(subset.tags) == ["cat", "dog, grass", "whole"]
    tables = tmp_path / "data.toml"
    tables.write_text(
        f"[[datasets]]\n[[datasets.subsets]]\nmetadata_file = {str(file)!r}\nimage_dir = {str(tmp_path / 'photos')!r}\n"
        "num_repeats = 2\ncaption_separator = ' | '\nalpha_mask = true\n",
        encoding="utf-8",
    )
    found = scan(config(dataset_config=tables))
    assert ("a.png", "a dog | dog, grass") in captions(found)
    (subset,) = found.subsets()
    assert (subset.num_repeats, subset.alpha_mask, found.problems) == (2, True, ())
    plan = make_plan(config(dataset_config=tables))
    assert plan.batches_per_epoch == 8


@pytest.mark.parametrize(
    ("caption", "tags", "wildcards", "here", "there"),
    [
        ("a", "b, c", False, "a,b, c", "a,b, c"),
        ("a", None, True, "a", "a"),
        ("", "b\nc", False, "b,c", "b\nc"),
        ("one\n\ntwo", "b\nc", True, "one,b,c\ntwo,b,c", "one,b,c\ntwo,b,c"),
        ("one\ntwo", "b", False, "one,b", "one\ntwo,b"),  # only the first line is trained
        ("", "b", True, "b", ""),
        ("a", "", True, "a", "a,"),
    ],
)
def test_tags_follow_every_line_that_may_be_trained(
    caption: str, tags: str | None, wildcards: bool, here: str, there: str
) -> None:
    for as_there, expected in ((False, here), (True, there)):
        assert joined(caption, tags, ",", enable_wildcard=wildcards, as_there=as_there)[0] == expected


def test_a_name_without_extension_is_found_here_and_stops_sd_scripts(written, tmp_path: Path) -> None:
    """As sd-scripts' own tools write them without full_path."""
    values = {"in_json": written({"a": {"caption": "x"}}), "train_data_dir": tmp_path / "photos"}
    found = scan(config(**values))
    assert (captions(found), found.problems) == ([("a.JPG", "x")], ())
    (told, *_) = scan(config(**values, rng_order="sd-scripts")).problems
    assert (told.name, told.severity) == ("metadata_image_missing", "error")


def test_every_fault_of_the_entries_is_told_at_once(written, picture, tmp_path: Path) -> None:
    entries = {
        "good.png": {"caption": "x", "image_size": [80, 64]}, "gone.png": {"caption": "x"}, "silent.png": {},
        "odd.png": {"caption": ["x"]}, "list.png": [], "half.png": {"tags": "\ud83d"},
        "size.png": {"caption": "x", "image_size": [160, 64]},
        "hurt.png": {"caption": "x"},
    }  # fmt: skip
    file = written(entries, missing=("gone.png",))
    (tmp_path / "photos/hurt.png").write_bytes(b"no picture")
    found = scan(config(train_data_dir=tmp_path / "photos", in_json=file))
    told = {problem.name: problem for problem in found.problems}
    assert set(told) == {"bad_metadata", "metadata_image_missing", "missing_caption", "image_size", "undecodable"}
    assert "meta.json: 3 of 8 entries hold no caption or tags as text: list.png, half.png, odd.png" in str(
        told["bad_metadata"]
    )
    assert "1 of 8 entries name an image that is not there: gone.png" in str(told["metadata_image_missing"])
    assert told["undecodable"].where.endswith("hurt.png")
    assert "their own size is taken: size.png" in str(told["image_size"])
    assert [told[name].severity for name in ("missing_caption", "image_size")] == ["warning", "warning"]
    by_size = {record.path.name: record.size for record in found.records()}
    assert by_size["size.png"] == (80, 64)
    there = scan(config(train_data_dir=tmp_path / "photos", in_json=file, rng_order="sd-scripts"))
    assert {record.path.name: record.size for record in there.records()}["size.png"] == (160, 64)
    homeless = {problem.name: str(problem) for problem in scan(config(in_json=file)).problems}
    assert "lie below a folder that is not given" in homeless["metadata_without_folder"]


@pytest.mark.parametrize(
    ("content", "name", "told"),
    [
        (b"{", "bad_json", "line 1, column 2"),
        (b"[1]", "bad_metadata", "a metadata file is a table of images"),
        (b"\xff{}", "not_utf8", "is not UTF-8"),
        (b"{}", "empty_subset", "it holds no images"),
        (None, "no_such_file", "there is no such metadata file"),
    ],
)
def test_a_file_that_is_none_is_one_sentence(tmp_path: Path, content: bytes | None, name: str, told: str) -> None:
    file = tmp_path / "meta.json"
    if content is not None:
        file.write_bytes(content)
    problem = scan(config(train_data_dir=tmp_path, in_json=file)).problems[0]
    assert problem.name == name
    assert told in str(problem)


def test_check_reads_in_json_and_says_what_is_not_used_beside_it(written, tmp_path: Path) -> None:
    file = written({"a.png": {"caption": "x"}})
    plan = check_plan(config(train_data_dir=tmp_path / "photos", in_json=file, reg_data_dir=tmp_path / "reg"))
    named = {finding.name: finding.where for finding in plan.findings}
    assert named["folder_beside_in_json"] == "reg_data_dir"
    assert not {"not_built_in", "data_set_kind", "images_missing", "no_folder"} & set(named)
    whole = check_plan(config(in_json=written({str(tmp_path / "photos/a.png"): {"caption": "x"}})))
    assert not {"images_missing", "no_folder"} & {finding.name for finding in whole.findings}
    assert whole.batches_per_epoch == 1

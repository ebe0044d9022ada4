"""dataset_config: inheritance, the three kinds of subsets, and every problem at once."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import pytest

from kohyakit.errors import DatasetError
from kohyakit.formats import dataset_toml
from kohyakit.formats.convert import dataset as dataset_convert
from kohyakit.formats.dataset_toml import DatasetTable, SubsetTable, loads

TREE = """
[general]  # for all
caption_extension = ".txt"
keep_tokens = 1
resolution = 512

[[datasets]]
batch_size = 2
keep_tokens = 3

  [[datasets.subsets]]
  image_dir = 'C:\\photos\\rose'
  num_repeats = 10

  [[datasets.subsets]]
  image_dir = 'reg'
  is_reg = true
  keep_tokens = 0

[[datasets]]
resolution = [768, 512]

  [[datasets.subsets]]
  image_dir = 'tulip'
"""


def told(text: str) -> list[str]:
    with pytest.raises(DatasetError) as caught:
        loads(text, "set.toml")
    return [str(problem) for problem in caught.value.problems if problem.severity == "error"]


def test_the_nearest_table_goes_before_the_farther() -> None:
    one, two = loads(TREE, "set.toml").datasets
    assert (one.resolution, one.batch_size, two.resolution, two.batch_size) == ((512, 512), 2, (768, 512), None)
    assert [(s.image_dir, s.num_repeats, s.keep_tokens, s.is_reg) for s in one.subsets] == [
        ("C:\\photos\\rose", 10, 3, None),
        ("reg", None, 0, True),
    ]
    assert [(s.keep_tokens, s.caption_extension) for s in two.subsets] == [(1, ".txt")]


def test_what_all_leave_open_stays_open() -> None:
    (table,) = loads("[[datasets]]\n[[datasets.subsets]]\nimage_dir = 'x'\n", "set.toml").datasets
    assert table == DatasetTable(subsets=(SubsetTable(image_dir="x"),))


@pytest.mark.parametrize(
    ("subset", "kind"),
    [
        ("image_dir = 'x'", "dreambooth"),
        ("metadata_file = 'x.json'", "finetuning"),
        ("image_dir = 'x'\nconditioning_data_dir = 'y'", "controlnet"),
    ],
)
def test_the_kind_follows_the_subsets(subset: str, kind: str) -> None:
    (table,) = loads(f"[[datasets]]\n[[datasets.subsets]]\n{subset}\n", "set.toml").datasets
    assert (table.kind, table.subsets[0].kind) == (kind, kind)


def test_every_option_of_sd_scripts_is_taken() -> None:
    samples = {
        "bool": True,
        "int": 3,
        "float": 0.5,
        "str": "x",
        "tuple[float, float]": [1.0, 2.0],
        "tuple[int, int]": [8, 8],
    }
    for table, level in ((SubsetTable, "subset"), (DatasetTable, "data set")):
        for field in fields(table):
            kind = str(field.type).removesuffix(" | None")
            if field.name in ("kind", "subsets", "metadata_file", "conditioning_data_dir", "image_dir"):
                continue
            value = samples.get(kind, {"a": 1})
            subset = {"image_dir": "x"} | ({field.name: value} if level == "subset" else {})
            tables = {"datasets": [{"subsets": [subset], **({field.name: value} if level == "data set" else {})}]}
            tree = dataset_toml.from_tables(tables, "set")
            holder = tree.datasets[0].subsets[0] if level == "subset" else tree.datasets[0]
            assert getattr(holder, field.name) == (tuple(value) if isinstance(value, list) else value)


def test_every_problem_at_once() -> None:
    text = """
[general]
shufle_caption = true
is_reg = true
[[datasets]]
train_batch_size = 3
[[datasets.subsets]]
image_dir = 'x'
resolution = 3
num_repeats = 'ten'
[[datasets.subsets]]
color_aug = 1
[[dataset]]
"""
    assert told(text) == [
        "set.toml: unknown table or option 'dataset' at the top; did you mean 'datasets'?",
        "set.toml: [general]: unknown option 'shufle_caption'; did you mean 'shuffle_caption'?",
        "set.toml: [general]: unknown option 'is_reg'; it belongs into [[datasets.subsets]]",
        "set.toml: data set 1: unknown option 'train_batch_size'; write batch_size",
        "set.toml: data set 1, subset 1: unknown option 'resolution'; it belongs into [[datasets]] or [general]",
        "set.toml: data set 1, subset 1: num_repeats is 'ten', but a whole number was wanted",
        "set.toml: data set 1, subset 2: color_aug is 1, but true or false was wanted",
        "set.toml: data set 1, subset 2: image_dir is missing; write image_dir = 'the folder'",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a = 1", "names no data set"),
        ("[[datasets]]\n", "has no subset"),
        ("datasets = 3", "names no data set"),
        ("[[datasets]]\nsubsets = [1]\n", "is 1, but a table was wanted"),
        (
            "[[datasets]]\n[[datasets.subsets]]\nimage_dir='a'\n[[datasets.subsets]]\nmetadata_file='b'\n",
            "1 of 2 subsets have a metadata_file",
        ),
        (
            "[[datasets]]\n[[datasets.subsets]]\nmetadata_file='b'\nis_reg=true\n",
            "is_reg does not go with a finetuning subset",
        ),
    ],
)
def test_trees_that_cannot_be_used(text: str, problem: str) -> None:
    assert any(problem in line for line in told(text))


@pytest.mark.parametrize(
    ("option", "value", "read"),
    [
        ("resolution", '"768,512"', (768, 512)),
        ("batch_size", "2.0", 2),
        ("batch_size", '"2"', 2),
        ("enable_bucket", '"true"', True),
    ],
)
def test_what_sd_scripts_would_refuse_is_read_with_a_warning(option: str, value: str, read: object) -> None:
    tree = loads(f"[[datasets]]\n{option} = {value}\n[[datasets.subsets]]\nimage_dir = 'x'\n", "set.toml")
    assert getattr(tree.datasets[0], option) == read
    assert [problem.severity for problem in tree.problems] == ["warning"]
    assert "sd-scripts refuses that" in tree.problems[0].what


def test_files_toml_and_json_read_alike(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(TREE, encoding="utf-8")
    text, _ = dataset_convert.convert(TREE, "a.toml", "json")
    (tmp_path / "a.json").write_text(text, encoding="utf-8")
    one, two = dataset_toml.read(tmp_path / "a.toml").datasets, dataset_toml.read(tmp_path / "a.json").datasets
    assert [t.resolution for t in one] == [t.resolution for t in two]
    assert [s.image_dir for t in one for s in t.subsets] == [s.image_dir for t in two for s in t.subsets]
    with pytest.raises(DatasetError, match="there is no such file"):
        dataset_toml.read(tmp_path / "none.toml")


def test_both_ways_give_the_same_file() -> None:
    as_json, _ = dataset_convert.convert(TREE, "a.toml", "json")
    assert dataset_convert.convert(as_json, "a.json", "toml")[0] == TREE
    source = json.dumps({"datasets": [{"batch_size": 2, "subsets": [{"image_dir": "x\\y"}]}]})
    as_toml, _ = dataset_convert.convert(source, "a.json", "toml")
    assert dataset_convert.convert(as_toml, "a.toml", "json")[0] == source


def test_an_edit_in_between_wins() -> None:
    as_json, _ = dataset_convert.convert(TREE, "a.toml", "json")
    edited = dataset_convert.convert(as_json.replace('"num_repeats": 10', '"num_repeats": 12'), "a.json", "toml")[0]
    assert loads(edited, "a.toml").datasets[0].subsets[0].num_repeats == 12

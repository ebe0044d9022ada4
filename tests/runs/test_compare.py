"""Settings side by side and what changed, in words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kohyakit.runs.comparison.compare import NOT_RECORDED, changes, lineage, not_default, settings_table, show, story
from kohyakit.runs.run import Record, Run


def run(version: str, settings: dict[str, object], *, partial: bool = False, **record: object) -> Run:
    made = Run(Path("p/runs") / version, Record(version=version, imported={"partial": partial}, **record))  # type: ignore[arg-type]
    made.settings = settings
    return made


def rows(*runs: Run) -> dict[str, tuple[str, ...]]:
    return {row.name: row.texts for row in settings_table(runs)}


def test_defaults_are_filled_in() -> None:
    """keep_tokens is 0 in sd-scripts unless it is given, so giving 0 is no difference."""
    a, b = run("1a", {"keep_tokens": 0, "seed": 1}), run("1b", {"network_dim": 32, "seed": 1})
    assert rows(a, b) == {"network_dim": ("none", "32")}


def test_a_setting_that_only_one_record_tells_is_no_difference() -> None:
    a = run("1a", {"network_dim": 16}, partial=True)
    b = run("1b", {"network_dim": 16, "flip_aug": True})
    assert rows(a, b) == {}
    c = run("1c", {"network_dim": 16, "flip_aug": False})
    table = {row.name: row.values for row in settings_table((a, b, c))}
    assert table == {"flip_aug": (NOT_RECORDED, True, False)}


@pytest.mark.parametrize(
    ("old", "new"), [(1, 1.0), ([1, 2], (1, 2)), ("", None), ([], None), (0.0001, 1e-4), ("512", "512,512")]
)
def test_the_same_written_otherwise_is_no_difference(old: object, new: object) -> None:
    assert rows(run("1a", {"network_args": old}), run("1b", {"network_args": new})) == {}


def test_true_is_not_one() -> None:
    assert rows(run("1a", {"extra": True}), run("1b", {"extra": 1})) == {"extra": ("on", "1")}


def test_all_rows_where_asked_for() -> None:
    table = settings_table([run("1a", {"seed": 3})], only_differences=False)
    assert len(table) > 200
    assert next(row for row in table if row.name == "seed").section == "training"


def test_bookkeeping_is_marked_and_left_out_of_the_words() -> None:
    a = run("1a", {"output_name": "a", "log_trackio": False, "seed": 1})
    b = run("1b", {"output_name": "b", "log_trackio": True, "seed": 2})
    told = {row.name: row.bookkeeping for row in settings_table((a, b))}
    assert told == {"output_name": True, "log_trackio": True, "seed": False}
    assert changes(a, b) == ("seed 1 → 2",)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "none"), ("", "none"), (True, "on"), (False, "off"), (16, "16"), (1e-4, "0.0001"), (5e-06, "5e-06"),
        (0.1 + 0.2, "0.30000000000000004"), (1.0, "1"), (("a=1", "b=2"), "a=1 b=2"), ([], "none"), ("AdamW", "AdamW"),
    ],
)  # fmt: skip
def test_values_as_people_read_them(value: object, text: str) -> None:
    assert show(value) == text


def test_data_sets_known_only_by_their_marks() -> None:
    a = run("1a", {}, images_by_name="x", image_count=20, captions="m")
    assert changes(a, run("2a", {}, images_by_name="y", image_count=34)) == ("photos 20 → 34",)
    assert changes(a, run("2a", {}, images_by_name="y", image_count=20)) == ("other photos",)
    assert changes(a, run("1b", {}, images_by_name="x", image_count=20, captions="n")) == ("other captions",)


def test_a_family_that_runs_in_a_circle_ends() -> None:
    a, b = run("1a", {}, parent="1b"), run("1b", {}, parent="1a")
    assert [str(r.version) for r in lineage(a, (a, b))] == ["1b", "1a"]


def test_the_story_tells_each_step() -> None:
    a = run("1c", {})
    b = run("2a", {}, parent="1c", changes=("14 photos added", "2 removed"))
    c = run("2b", {}, parent="2a", changes=("network_dim 16 → 32",))
    assert story(c, (a, b, c)) == "1c → 2a: 14 photos added, 2 removed; 2a → 2b: network_dim 16 → 32"


def test_what_is_not_the_default() -> None:
    assert not_default(run("1a", {"keep_tokens": 0, "network_dim": 8, "mine": 1})) == {"network_dim": 8, "mine": 1}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"dynamo_mode": None}, {"dynamo_mode": "default"}),
        ({"optimizer_type": ""}, {"optimizer_type": "AdamW"}),
        ({"network_dim": None}, {"network_dim": 4}),
        ({"noise_offset": None}, {"noise_offset": 0.0}),
        ({"learning_rate": 1e-4, "unet_lr": None}, {"learning_rate": 1e-4, "unet_lr": 1e-4}),
        ({"learning_rate": 1e-4}, {"learning_rate": 1e-4, "text_encoder_lr": [1e-4]}),
        ({"seed": 3}, {"seed": 3, "validation_seed": 3}),
        ({"train_data_dir": "img"}, {"train_data_dir": "/home/me/dog/img"}),
        ({"train_data_dir": "../img/"}, {"train_data_dir": "/home/me/dog/img"}),
        ({"pretrained_model_name_or_path": "models\\sd.safetensors"},
         {"pretrained_model_name_or_path": "D:/Kohya/models/sd.safetensors"}),
        ({"base_weights": ["a.safetensors"]}, {"base_weights": ["./a.safetensors"]}),
    ],
)  # fmt: skip
def test_what_is_the_same_thing_is_no_change(old: dict, new: dict) -> None:
    for one, other in ((old, new), (new, old)):
        assert changes(run("1a", one), run("1b", other)) == ()
        assert settings_table((run("1a", one), run("1b", other))) == ()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"noise_offset": None}, {"noise_offset": 0.05}),
        ({"learning_rate": 1e-4, "unet_lr": None}, {"learning_rate": 1e-4, "unet_lr": 2e-4}),
        ({"learning_rate": 1e-4}, {"learning_rate": 2e-4}),
        ({"train_data_dir": "img"}, {"train_data_dir": "/home/me/dog/img2"}),
        ({"train_data_dir": "og/img"}, {"train_data_dir": "/home/me/dog/img"}),
        ({"train_data_dir": "/a/img"}, {"train_data_dir": "/b/img"}),
        ({"sample_prompts": "a dog\na cat"}, {"sample_prompts": "a dog"}),
    ],
)
def test_what_is_another_thing_is_a_change(old: dict, new: dict) -> None:
    assert len(changes(run("1a", old), run("1b", new))) == 1


def test_relative_paths_start_where_their_run_was_started() -> None:
    old, new = run("1a", {"train_data_dir": "img"}), run("1b", {"train_data_dir": "/x/dog/img"})
    old.record = replace(old.record, cwd="/x/dog")
    assert changes(old, new) == ()
    old.record = replace(old.record, cwd="/y/dog")
    assert changes(old, new) == ("train_data_dir img → /x/dog/img",)

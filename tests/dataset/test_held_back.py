"""Which photos are held back: as sd-scripts cuts its lists, and as we do."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from kohyakit.config.train import TrainConfig
from kohyakit.dataset.held_back import Choice
from kohyakit.dataset.layout import _part, scan
from kohyakit.dataset.subsets import Dataset, Subset

PHOTOS = tuple("abcdefghij")


@pytest.mark.parametrize(
    ("photos", "share", "trained", "held"),
    [  # sd-scripts trains ceil(n * (1 - share)) and measures round(n * share), halves to even
        (5, 0.2, 4, 1),
        (4, 0.2, 4, 1),
        (6, 0.2, 5, 1),
        (10, 0.25, 8, 2),
        (6, 0.25, 5, 2),
        (2, 0.25, 2, 0),
        (3, 1.0, 0, 3),
    ],
)
def test_as_sd_scripts_both_cuts_are_rounded(photos: int, share: float, trained: int, held: int) -> None:
    choice = Choice(1, as_sd_scripts=True)
    first = choice.part(PHOTOS[:photos], "x", share, 7, held=False)
    second = choice.part(PHOTOS[:photos], "x", share, 7, held=True)
    assert (len(first), len(second)) == (trained, held)
    assert len({*first, *second}) == photos
    assert len({*first} & {*second}) == trained + held - photos


def test_as_sd_scripts_the_trainings_own_stream_shuffles_anew_for_each_list() -> None:
    stream = random.Random(42)
    lists = [list(PHOTOS[:5]), list(PHOTOS), list(PHOTOS[:5]), list(PHOTOS)]
    for photos in lists:
        stream.shuffle(photos)
    choice = Choice(42, as_sd_scripts=True)
    asked = ((5, False), (10, False), (5, True), (10, True))
    parts = [choice.part(PHOTOS[:count], "x", 0.2, None, held=held) for count, held in asked]
    assert parts == [tuple(lists[0][:4]), tuple(lists[1][:8]), tuple(lists[2][4:]), tuple(lists[3][8:])]


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5, 0.99, 1.0])
def test_else_each_photo_stands_in_one_part_and_in_its_order(share: float) -> None:
    choice = Choice(1, as_sd_scripts=False)
    parts = [choice.part(PHOTOS, "x", share, None, held=held) for held in (False, True)]
    assert sorted((*parts[0], *parts[1])) == list(PHOTOS)
    assert [list(part) for part in parts] == [sorted(part) for part in parts]
    assert len(parts[1]) == {0.05: 1, 0.2: 2, 0.5: 5, 0.99: 9, 1.0: 10}[share]
    assert parts[1] == choice.part(PHOTOS, "x", share, 1, held=True)  # the seed of the training is what counts then


def of_config(tmp_path: Path, text: str, **values: object):
    file = tmp_path / "data.toml"
    file.write_text(text.format(**{name: repr(str(tmp_path / name)) for name in "abr"}), encoding="utf-8")
    asked = {"dataset_config": str(file), "resolution": "64,64", "caption_extension": ".txt", "validation_seed": 3}
    return scan(TrainConfig().with_values(**{**asked, **values}))


TWO = """
[[datasets]]
validation_split = 0.5
[[datasets.subsets]]
image_dir = {a}
num_repeats = 3
[[datasets.subsets]]
image_dir = {r}
is_reg = true
[[datasets]]
[[datasets.subsets]]
image_dir = {b}
"""


@pytest.fixture
def photos(picture, tmp_path: Path) -> Path:
    for folder, count in (("a", 4), ("b", 3), ("r", 2)):
        for number in range(count):
            picture(f"{folder}/{number}.png").with_suffix(".txt").write_text("tag", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("order", ["kohyakit", "sd-scripts"])
def test_a_data_set_has_a_share_of_its_own_and_regularisation_images_stay(photos: Path, order: str) -> None:
    found = of_config(photos, TWO, rng_order=order)
    assert [[len(s.records) for s in dataset.subsets] for dataset in found.datasets] == [[2, 2], [3]]
    assert [[(len(s.records), s.num_repeats) for s in dataset.subsets] for dataset in found.held_back] == [[(2, 1)]]
    assert found.datasets[0].train_images == 6  # two photos three times; as many regularisation images stand beside
    assert sum(1 for _ in found.records()) == 4 + 3 + 2


def test_a_whole_data_set_is_held_back(photos: Path) -> None:
    found = of_config(photos, TWO.replace("0.5", "1.0"))
    assert [dataset.train_images for dataset in found.datasets] == [0, 3]
    assert [dataset.train_images for dataset in found.held_back] == [4]


def test_where_all_is_held_back_there_is_nothing_to_train(photos: Path) -> None:
    found = of_config(photos, TWO, validation_split=1.0, rng_order="sd-scripts")
    assert [len(dataset.subsets) for dataset in found.datasets] == [2, 0]  # the first says 0.5 itself
    found = of_config(photos, TWO.replace("0.5", "1"), validation_split=1.0)
    assert [problem.name for problem in found.problems] == ["no_images"]


def test_a_share_beyond_one_is_refused(photos: Path) -> None:
    (problem,) = [p for p in of_config(photos, TWO.replace("0.5", "1.5")).problems if p.severity == "error"]
    assert "validation_split is 1.5" in problem.what


@pytest.mark.parametrize(
    ("kind", "order", "trained", "held"),
    [("finetuning", "sd-scripts", (5, 3), (5, 3)), ("controlnet", "sd-scripts", (3, 3), (3, 3)),
     ("dreambooth", "sd-scripts", (3, 3), (2, 1)), ("finetuning", "kohyakit", (3, 3), (2, 1)),
     ("controlnet", "kohyakit", (3, 3), (2, 1))],
)  # fmt: skip
def test_what_sd_scripts_makes_of_a_share_of_another_kind_of_data_set(kind, order, trained, held) -> None:
    """It splits in the class of plain folders only, which that of control pictures builds anew, always for training."""
    records = tuple(SimpleNamespace(path=Path(name)) for name in "abcde")
    data = Dataset((64, 64), kind=kind, validation_split=0.4, validation_seed=1)
    data = replace(data, subsets=(Subset(Path("x"), num_repeats=3, records=records),))
    parts = [_part(data, Choice(1, as_sd_scripts=order == "sd-scripts"), held=part) for part in (False, True)]
    assert [(len(s.records), s.num_repeats) for part in parts for s in part.subsets] == [trained, held]

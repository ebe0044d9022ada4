"""When the loss is measured on photos that are held back, and what is told of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from kohyakit.config.train import TrainConfig
from kohyakit.dataset.layout import scan
from kohyakit.planning.as_json import plan_data
from kohyakit.planning.make import make_plan
from kohyakit.planning.plan import Length, Plan, Validation, ValidationPoint
from kohyakit.planning.validation import timesteps


@pytest.fixture
def planned(picture, tmp_path: Path):
    """planned(**values) -> the plan for ten photos in one folder and one in another, all of one size."""
    for name in [*(f"1_dog/{i}" for i in range(10)), "2_cat/0"]:
        picture(f"img/{name}.png", (64, 64)).with_suffix(".txt").write_text("tag", encoding="utf-8")

    def plan(backend: str = "", **values: object) -> Plan:
        asked = {
            "train_data_dir": str(tmp_path / "img"), "resolution": "64,64", "caption_extension": ".txt",
            "max_train_epochs": 3, "validation_split": 0.2, "validation_seed": 1, "seed": 5,
        }  # fmt: skip
        config = TrainConfig().with_values(**asked | values)
        return make_plan(config, scan(config, by_sd_scripts=backend == "sd-scripts"), backend=backend)

    return plan


def steps(plan: Plan) -> list[tuple[int, int | None]]:
    assert plan.validation is not None
    return [(point.step, point.epoch) for point in plan.validation.in_order]


def test_what_is_held_back_is_not_trained(planned) -> None:
    plan = planned()
    assert plan.validation is not None
    assert (plan.steps_per_epoch, plan.validation.images, plan.validation.batches) == (8 + 2, 2, 2)
    assert plan.validation.overlap == 0
    told = plan_data(plan)["validation"]
    assert (told["images"], told["trained_too"], told["noises"], told["held_back"]) == (2, 0, 4, True)


def test_sd_scripts_rounds_and_trains_some_of_it_too(planned) -> None:
    plan = planned(rng_order="sd-scripts", validation_split=0.26)  # ceil(7.4) and round(2.6) of ten
    assert plan.validation is not None
    assert (plan.steps_per_epoch, plan.validation.images, plan.validation.overlap) == (8 + 2, 3, 1)
    (told,) = [problem for problem in plan.findings if problem.name == "validation_trained_too"]
    assert told.what.startswith("1 of the 3 photos held back are trained on too")
    assert not [p for p in planned(validation_split=0.26).findings if p.name == "validation_trained_too"]


def test_a_share_too_small_for_any_photo_is_told(planned) -> None:
    plan = planned(validation_split=0.01)
    assert plan.validation is None
    (told,) = [problem for problem in plan.findings if problem.name == "nothing_held_back"]
    assert told.what == "0.01 of each folder holds back none of 11 photos, so nothing is measured"


EPOCHS = [(10, 1), (20, 2), (30, 3)]


@pytest.mark.parametrize(
    ("values", "there", "here"),
    [
        ({}, EPOCHS, EPOCHS),
        ({"validate_every_n_epochs": 2}, [(20, 2)], [(20, 2)]),
        (
            {"validate_every_n_steps": 15},
            [(10, 1), (15, None), (20, 2), (30, None), (30, 3)],
            [(15, None), (30, None)],
        ),
        (
            {"validate_every_n_steps": 15, "validate_every_n_epochs": 3},
            [(15, None), (30, None), (30, 3)],
            [(15, None), (30, 3)],
        ),
        ({"max_train_epochs": None, "max_train_steps": 13}, [(10, 1), (13, 2)], [(10, 1), (13, 2)]),
    ],
)
def test_after_which_steps(planned, values: dict, there: list, here: list) -> None:
    assert sorted(steps(planned(rng_order="sd-scripts", **values)), key=str) == sorted(there, key=str)
    assert sorted(steps(planned(**values)), key=str) == sorted(here, key=str)


def test_at_most_so_many_batches(planned) -> None:
    assert planned(max_validation_steps=1).validation.batches == 1
    assert planned(max_validation_steps=9).validation.batches == 2


@pytest.mark.parametrize(
    ("low", "high", "expected"),  # numpy's linspace(low, high, 6, dtype=int) without its ends
    [(0, 1000, (200, 400, 600, 800)), (100, 900, (260, 420, 580, 740)), (0, 7, (1, 2, 4, 5)), (5, 6, (5, 5, 5, 5))],
)
def test_the_timesteps_of_sd_scripts(low: int, high: int, expected: tuple[int, ...]) -> None:
    assert timesteps(low, high) == expected


def test_which_micro_batch_a_validation_follows() -> None:
    length = Length(5, 3, 2, 6, "epoch", accumulation=2)  # steps end with the 2nd, 4th and 5th batch of an epoch
    points = frozenset({ValidationPoint(2), ValidationPoint(3, 1), ValidationPoint(4)})
    measured = Validation((), 1, 4, points)
    assert [batch for batch in range(10) if measured.follows(batch, length)] == [3, 4, 6]


def test_the_trainings_own_photos_are_measured_each_once(planned) -> None:
    plan = planned(validation_split=0.0, fixed_noises=3, train_batch_size=2, keep_best=True, early_stop_patience=2)
    measured = plan.validation
    assert measured is not None
    assert (measured.images, measured.batches, measured.noises, measured.patience) == (11, 6, 3, 2)
    assert (measured.held_back, measured.overlap, measured.tag) == (False, 0, "loss/fixed_noise")
    assert plan.best == "last-best.safetensors"
    assert plan.steps_per_epoch == 6  # twelve with repeats, all of them trained


def test_what_only_the_trainer_here_does_is_said_where_sd_scripts_trains(planned) -> None:
    values = {"validation_split": 0.0, "fixed_noises": 3, "keep_best": True, "log_trackio": True, "joined_qkv": True}
    plan = planned(**values, backend="sd-scripts")
    assert (plan.validation, plan.best) == (None, None)
    (told,) = [p for p in plan.findings if p.name == "without_effect" and p.severity == "warning"]
    assert told.where == "fixed_noises and keep_best and log_trackio and joined_qkv"
    there = planned(validate_every_n_steps=15, backend="sd-scripts").validation
    assert there is not None
    assert (there.as_sd_scripts, len(there.points)) == (True, 5)

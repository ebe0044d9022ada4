"""What is written when, under sd-scripts' names, and what is deleted again."""

from __future__ import annotations

import pytest

from kohyakit.config.train import TrainConfig
from kohyakit.planning.plan import Course, Length, SavePoint, Start
from kohyakit.planning.saves import draw_points, save_points


def course(steps: int, epochs: int, per_epoch: int) -> Course:
    return Course(Length(per_epoch, per_epoch, epochs, steps, "max_train_steps"))


def all_points(config: TrainConfig, steps: int, epochs: int, per_epoch: int) -> tuple[SavePoint, ...]:
    return save_points(config, course(steps, epochs, per_epoch))


def points(steps: int, epochs: int, per_epoch: int, **values: object) -> list[tuple]:
    config = TrainConfig().with_values(**{"output_name": "n", **values})
    return [(p.step, p.file, p.deleted_at) for p in all_points(config, steps, epochs, per_epoch)]


def test_epochs_but_the_last() -> None:
    assert points(40, 4, 10, save_every_n_epochs=1) == [
        (10, "n-000001.safetensors", None), (20, "n-000002.safetensors", None), (30, "n-000003.safetensors", None),
        (40, "n.safetensors", None),
    ]  # fmt: skip
    assert [p[0] for p in points(40, 4, 10, save_every_n_epochs=2)] == [20, 40]
    assert [p[0] for p in points(40, 4, 10)] == [40]


def test_the_last_n_epochs_stay() -> None:
    # sd-scripts: saving epoch e deletes epoch e - every * last
    got = points(50, 5, 10, save_every_n_epochs=1, save_last_n_epochs=2)
    assert [(step, deleted) for step, _, deleted in got] == [(10, 30), (20, 40), (30, None), (40, None), (50, None)]


def test_from_an_epoch_on_and_chosen_ones() -> None:
    late = points(60, 6, 10, save_every_n_epochs=1, save_from_epoch=4)
    assert [step for step, _, _ in late] == [40, 50, 60]
    assert [p[0] for p in points(60, 6, 10, save_at_epochs=(5, 2, 6, 9))] == [20, 50, 60]  # the 6th is the last of all
    both = {"save_every_n_epochs": 2, "save_at_epochs": (1,), "save_from_epoch": 3, "save_last_n_epochs": 1}
    assert points(80, 8, 10, **both) == [
        (10, "n-000001.safetensors", None), (40, "n-000004.safetensors", 60), (60, "n-000006.safetensors", None),
        (80, "n.safetensors", None),
    ]  # fmt: skip


def test_a_ratio_is_at_least_so_many_files() -> None:
    assert [p[0] for p in points(100, 10, 10, save_n_epoch_ratio=3)] == [30, 60, 90, 100]
    assert [p[0] for p in points(20, 2, 10, save_n_epoch_ratio=5)] == [10, 20]


def sd_scripts_deletes(steps: int, every: int, last: int) -> dict[int, int]:
    """get_remove_step_no as the reference describes it, walked step by step: {deleted step: at step}."""
    gone = {}
    for step in range(every, steps + 1, every):
        number = step - last - 1
        number -= number % every
        if number >= every:
            gone.setdefault(number, step)
    return gone


@pytest.mark.parametrize("every", [1, 10, 7])
@pytest.mark.parametrize("last", [5, 10, 30, 33])
def test_steps_and_the_last_n_steps(every: int, last: int) -> None:
    got = points(100, 4, 25, save_every_n_steps=every, save_last_n_steps=last)[:-1]
    assert [step for step, _, _ in got] == list(range(every, 101, every))
    gone = sd_scripts_deletes(100, every, last)
    assert {step: deleted for step, _, deleted in got if deleted} == gone
    assert got[0][1] == f"n-step{every:08d}.safetensors"


def test_states_are_folders_beside() -> None:
    config = TrainConfig().with_values(
        output_name="n", save_every_n_epochs=1, save_every_n_steps=15, save_state=True, save_last_n_epochs_state=1
    )
    got = [(p.step, p.state, p.state_deleted_at) for p in all_points(config, 30, 3, 10)]
    assert got == [
        (10, "n-000001-state", 20), (15, "n-step00000015-state", None), (20, "n-000002-state", None),
        (30, "n-step00000030-state", None), (30, "n-state", None),
    ]  # fmt: skip
    ends = TrainConfig().with_values(save_state_on_train_end=True, save_every_n_epochs=1)
    assert [p.state for p in all_points(ends, 20, 2, 10)] == [None, "last-state"]


def test_names_without_a_name() -> None:
    config = TrainConfig().with_values(save_every_n_epochs=1, save_every_n_steps=15, save_model_as="ckpt")
    files = [p.file for p in all_points(config, 20, 2, 10)]
    assert files == ["epoch-000001.ckpt", "at-step00000015.ckpt", "last.ckpt"]


@pytest.mark.parametrize(
    ("start", "length", "ends", "last"),
    [
        # from the middle of the third epoch of ten: 20 + the rest of it, and so on
        (Start(25, 3, 5), Length(10, 10, 10, 100, ""), {3: 30, 4: 40, 10: 100}, (10, 100)),
        # two batches a step: five batches make three steps, and two are done
        (Start(5, 2, 4), Length(5, 3, 4, 12, "", accumulation=2), {2: 6, 3: 9, 4: 12}, (4, 12)),
        # five times as many photos since: epochs of 50 steps, the sixth begun anew, and trained to the end all the same
        (Start(55, 6, anew=True), Length(50, 50, 2, 100, ""), {6: 100}, (6, 100)),
        # a fifth of the photos: epochs of 10 steps from step 55 on
        (Start(55, 2, anew=True), Length(10, 10, 10, 100, ""), {2: 65, 3: 75, 5: 95, 6: 100}, (6, 100)),
        # as sd-scripts goes on after the first of two epochs: steps count from 0, and the last epoch ends it
        (Start(0, 2, as_sd_scripts=True), Length(10, 10, 2, 20, ""), {2: 10}, (2, 10)),
        (Start(4, 2, 4, as_sd_scripts=True), Length(10, 10, 2, 20, ""), {2: 10}, (2, 10)),
    ],
)
def test_where_epochs_end_from_a_state_on(start, length, ends, last) -> None:
    way = Course(length, start)
    assert {epoch: way.end_of(epoch) for epoch in ends} == ends
    assert (way.last_epoch, way.last_step) == last
    for epoch, step in ends.items():
        assert way.epoch_of(step) == epoch


def test_nothing_to_train_writes_nothing() -> None:
    assert points(0, 0, 10, save_every_n_epochs=1) == []
    assert points(1600, 0, 0) == []


@pytest.mark.parametrize(
    ("values", "steps"),
    [
        ({}, ()),
        ({"sample_every_n_steps": 5}, (5, 10, 15, 20)),
        ({"sample_every_n_steps": 5, "sample_at_first": True}, (0, 5, 10, 15, 20)),
        ({"sample_every_n_steps": 5, "sample_every_n_epochs": 1}, (8, 16, 20)),
        ({"sample_every_n_epochs": 2}, (16,)),
    ],
)
def test_samples(values: dict, steps: tuple[int, ...]) -> None:
    drawn = draw_points(TrainConfig().with_values(**values), course(20, 3, 8))
    assert tuple(point.step for point in drawn) == steps

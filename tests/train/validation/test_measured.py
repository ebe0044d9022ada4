"""Trainings that are measured on their way: unchanged by it, their best kept, ended early, gone on with."""

from __future__ import annotations

import statistics
from itertools import pairwise
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from safetensors import safe_open
from safetensors.torch import load_file

from kohyakit.config.train import TrainConfig
from kohyakit.runs.logs.metrics import read_scalars
from kohyakit.runs.run import Run, open_run
from kohyakit.train import start
from kohyakit.train.callbacks import Quiet, Validated
from kohyakit.train.validation.measure import fixed_timestep, standard_error
from tests.train.observers import Batches, Losses, stop_at

MOVING = {"max_train_epochs": None, "max_train_steps": 6, "network_dropout": 0.2, "shuffle_caption": True}
MEASURED = {"fixed_noises": 2, "validate_every_n_steps": 2, "keep_best": True, "early_stop_patience": 9}


class Heard(Quiet):
    def __init__(self) -> None:
        self.told: list[Validated] = []

    def validated(self, told: Validated) -> None:
        self.told.append(told)


def train(config: TrainConfig, *watching: Quiet) -> Run:
    return start.train_network(config, progress=False, echo=lambda text: None, callbacks=watching)


@pytest.fixture(scope="module")
def plain(config_into, tmp_path_factory) -> tuple[Path, list[float]]:
    folder, losses = tmp_path_factory.mktemp("plain"), Losses()
    train(config_into(folder, **MOVING), losses)
    return folder / "out", losses.heard


@pytest.fixture(scope="module")
def measured(config_into, tmp_path_factory) -> tuple[Path, list[float], list[Validated], Run]:
    folder, losses, heard = tmp_path_factory.mktemp("measured"), Losses(), Heard()
    run = train(config_into(folder, logging_dir=str(folder / "tb"), **MOVING, **MEASURED), losses, heard)
    return folder / "out", losses.heard, heard.told, run


def weights(file: Path) -> dict[str, list[float]]:
    return {name: tensor.tolist() for name, tensor in load_file(file).items()}


def test_a_training_is_the_same_bit_for_bit_with_and_without(plain, measured) -> None:
    assert plain[1] == measured[1]
    assert weights(plain[0] / "tiny.safetensors") == weights(measured[0] / "tiny.safetensors")


def test_each_measurement_has_a_mean_and_its_error(measured) -> None:
    _, _, told, run = measured
    assert [(one.step, one.epoch) for one in told] == [(2, None), (4, None), (6, None)]
    assert all(0 < (one.error or 0) < one.average for one in told)
    frame = read_scalars(run.logs[0])
    for name, values in (
        ("average", [one.average for one in told]),
        ("error", [one.error for one in told]),
    ):
        rows = frame[frame["tag"] == f"loss/fixed_noise/step_{name}"]
        assert rows["step"].tolist() == [2, 4, 6]
        assert rows["value"].tolist() == pytest.approx(values)
    assert not [tag for tag in frame["tag"].unique() if "validation" in tag]  # these photos are trained on


def test_the_best_is_kept_as_a_file_of_its_own_and_in_the_record(measured) -> None:
    folder, _, told, run = measured
    best = min(told, key=lambda one: one.average)
    assert [one.best for one in told] == [one.average < min([9.0, *(e.average for e in told[:i])])
                                          for i, one in enumerate(told)]  # fmt: skip
    record = open_run(run.folder).record
    assert record.best == {
        "tag": "loss/fixed_noise", "loss": best.average, "error": best.error, "step": best.step, "epoch": 1,
        "file": "tiny-best.safetensors",
    }  # fmt: skip
    with safe_open(folder / "tiny-best.safetensors", "pt") as file:
        assert file.metadata()["ss_steps"] == str(best.step)
    files = [(c.file, c.step) for c in record.checkpoints]
    assert sorted(files) == [("tiny-best.safetensors", best.step), ("tiny.safetensors", 6)]


def test_gone_on_with_it_measures_the_same_and_knows_the_best(measured, config_into, tmp_path) -> None:
    values = {**MOVING, **MEASURED}
    train(config_into(tmp_path, **values), stop_at(3, tmp_path / "out"))
    heard = Heard()
    state = tmp_path / "out" / "tiny-step00000003-state"
    train(config_into(tmp_path, **values, resume=str(state)), heard)
    assert heard.told == measured[2][1:]


def test_with_weights_that_stand_still_every_measurement_is_the_same_and_it_ends_early(config_into, tmp_path) -> None:
    heard = Heard()
    still = {"learning_rate": 1e-30, "fixed_noises": 1, "validate_every_n_steps": 1, "early_stop_patience": 2}
    run = train(config_into(tmp_path, **{**MOVING, **still}, save_every_n_steps=2), heard)
    assert [one.average for one in heard.told] == [heard.told[0].average] * 3
    assert (run.status, [one.best for one in heard.told]) == ("finished", [True, False, False])
    assert run.record.outcome.startswith("stopped early after step 3 of 6: 2 times no loss below ")
    assert (run.record.best["step"], run.record.best["file"]) == (1, "")
    assert sorted(path.name for path in (tmp_path / "out").glob("*.safetensors")) == [
        "tiny-step00000002.safetensors", "tiny.safetensors",
    ]  # fmt: skip
    with safe_open(tmp_path / "out" / "tiny.safetensors", "pt") as file:
        assert (file.metadata()["ss_steps"], file.metadata()["ss_epoch"]) == ("3", "1")


def test_photos_held_back_are_measured_and_never_trained(config_into, tmp_path) -> None:
    seen, heard = Batches(), Heard()
    run = train(config_into(tmp_path, validation_split=0.4, max_train_epochs=1, cache_latents=True), seen, heard)
    shown = {name for _, names, _ in seen.held for name in names}
    assert len(shown) == 5  # round(2) of five and round(1.2) of three are held back
    assert [(one.step, one.epoch) for one in heard.told] == [(run.record.steps, 1)]
    tags = ("average", "divergence", "error")
    assert sorted(heard.told[0].scalars) == [f"loss/validation/epoch_{name}" for name in tags]
    assert run.record.image_count == 8
    with safe_open(tmp_path / "out" / "tiny.safetensors", "pt") as file:
        assert file.metadata()["ss_num_validation_images"] == "3"


def test_timesteps_are_spread_over_the_range_for_each_photo_and_over_all_photos() -> None:
    each = [[fixed_timestep(photo, number, 4, 100, 900) for number in range(4)] for photo in range(50)]
    for places in each:
        assert [(place - 100) // 200 for place in places] == [0, 1, 2, 3]
    every = sorted(place for places in each for place in places)
    assert every[0] >= 100
    assert every[-1] < 900
    assert max(b - a for a, b in pairwise(every)) <= 12  # 4 apart, were they even


def test_the_error_of_a_mean() -> None:
    values = [0.2, 0.5, 0.1, 0.4, 0.4]
    assert standard_error(values) == pytest.approx(statistics.stdev(values) / 5**0.5)
    assert standard_error([1.0]) is None

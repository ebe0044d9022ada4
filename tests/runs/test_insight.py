"""Statements where the data carry them, with the right numbers; silence where they do not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest

from kohyakit.runs.comparison.insight import Curves, Statement, statements

STEPS = np.arange(1, 2001)
VALIDATION = "loss/validation/epoch_average"


Lines = dict[str, tuple[Sequence[float] | np.ndarray, Sequence[float] | np.ndarray]]


def frame(lines: Lines, seconds: float = 0.5) -> pd.DataFrame:
    parts = []
    for tag, (steps, values) in lines.items():
        step = np.asarray(steps)
        columns = {"tag": tag, "step": step, "value": np.asarray(values, float), "wall_time": step * seconds}
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True).astype({"tag": "category"})


def told(lines: Lines) -> dict[str, Statement]:
    return {statement.name: statement for statement in statements(frame(lines))}


def noise(seed: int = 0, spread: float = 0.6, count: int = 2000) -> np.ndarray:
    """Losses as diffusion gives them: much spread, a long tail."""
    return np.random.default_rng(seed).gamma(1 / spread**2, 0.12 * spread**2, count)


def test_noise_alone_says_nothing() -> None:
    """200 runs that learn nothing, with a validation loss of noise: fewer than 1 in 50 may say something false."""
    false = 0
    for seed in range(200):
        wobble = 0.12 + 0.002 * np.random.default_rng(seed + 1000).normal(size=10)
        false += len(told({"loss/current": (STEPS, noise(seed)), VALIDATION: (range(1, 11), wobble)}))
    assert false <= 4


def test_a_falling_loss_is_seen_through_the_noise() -> None:
    ratios = []
    for seed in range(20):
        found = told({"loss/current": (STEPS, noise(seed) * (1 + np.exp(-STEPS / 300)))})
        assert list(found) == ["training_falls"]
        ratios.append(found["training_falls"].numbers["first"] / found["training_falls"].numbers["last"])
    # by integration: the mean of 1 + exp(-t/300) over the first quarter is 1.487, over the last 1.003
    assert np.mean(ratios) == pytest.approx(1.487 / 1.003, abs=0.05)


def test_over_fitting_is_named_with_both_lines() -> None:
    epochs = np.arange(1, 13)
    validation = 0.12 + 0.001 * (epochs - 4) ** 2
    found = told({"loss/current": (STEPS, noise() * (1 + np.exp(-STEPS / 300))), VALIDATION: (epochs, validation)})
    text = found["over_fit"].what
    assert text.startswith(f"{VALIDATION} rises since epoch 4 (0.12 → 0.184, +53.3 %) while loss/current still falls")
    assert text.endswith("later epochs over-fit")
    assert found["over_fit"].numbers["lowest_step"] == 4


def test_flat_training_with_rising_validation() -> None:
    quiet = np.random.default_rng(0).normal(0.1, 0.01, 2000) + 0.1 * np.exp(-STEPS / 150)
    epochs = np.arange(1, 13)
    found = told({"loss/current": (STEPS, quiet), VALIDATION: (epochs, 0.12 + 0.001 * (epochs - 4) ** 2)})
    assert "while loss/current is flat: later epochs over-fit" in found["over_fit"].what
    assert 400 <= found["training_flat"].numbers["since"] <= 1000


def test_validation_that_still_falls() -> None:
    epochs = np.arange(1, 13)
    found = told({VALIDATION: (epochs, 0.2 - 0.005 * epochs), "loss/current": (STEPS, noise())})
    assert found["validation_falls"].what.endswith("more steps may help")


def test_three_points_of_validation_say_nothing() -> None:
    assert told({VALIDATION: ([1, 2, 3], [0.1, 0.2, 0.3]), "loss/current": (STEPS[:100], noise()[:100])}) == {}


def test_not_a_number_from_some_step_on() -> None:
    values = noise()
    values[1203:] = np.nan
    found = told({"loss/current": (STEPS, values), "loss/average": (STEPS, values)})
    assert found["not_a_number"].what == "loss/current is not a number from step 1,204 on: nothing was learned after it"
    assert found["not_a_number"].severity == "error"


def test_not_a_number_here_and_there() -> None:
    values = noise()
    values[[99, 500]] = np.inf
    text = told({"loss/current": (STEPS, values)})["not_a_number"].what
    assert text == "loss/current is not a number at 2 of 2,000 steps, first at step 100"


def test_a_learning_rate_of_zero() -> None:
    rate = np.linspace(1e-4, 0, 2000)
    assert "learning_rate_zero" not in told({"lr/unet": (STEPS, rate)})  # only the very end is 0
    assert told({"lr/unet": (STEPS, rate * 0)})["learning_rate_zero"].what == (
        "lr/unet is 0 in all 2,000 steps: that part was not trained"
    )
    rate[1500:] = 0
    assert told({"lr/unet": (STEPS, rate)})["learning_rate_zero"].what == (
        "lr/unet is 0 from step 1,501 on: the last 500 steps changed nothing"
    )


def test_spikes() -> None:
    values = noise()
    values[[300, 900]] = [9.0, 30.0]
    statement = told({"loss/current": (STEPS, values)})["spikes"]
    assert "has 2 values above" in statement.what
    assert "the highest 30 at step 901" in statement.what
    assert (statement.numbers["count"], statement.numbers["max"]) == (2, 30.0)


def test_steps_that_slow_down() -> None:
    log = frame({"loss/current": (STEPS, noise())})
    log["wall_time"] = np.cumsum(np.where(STEPS < 1000, 1.2, 3.8))
    (statement,) = statements(log)
    assert statement.what.startswith("steps took 1.2 s at first and 3.8 s in the end")


def test_epochs_are_told_from_the_log_itself() -> None:
    """sd-scripts logs epoch lines by epoch and the others by step; their times tie them together."""
    lines = {"loss/current": (STEPS, noise()), "loss/epoch_average": (np.arange(1, 21), np.full(20, 0.1))}
    log = frame(lines)
    epochs = log["tag"] == "loss/epoch_average"
    log.loc[epochs, "wall_time"] = log.loc[epochs, "step"] * 100 * 0.5 + 0.1
    curves = Curves(log)
    assert curves.steps_per_epoch == 100
    assert curves.at("loss/current", 350) == "epoch 4 (step 350)"
    assert curves.at("loss/current", 30) == "step 30"
    assert curves.at("loss/epoch_average", 3) == "epoch 3"


def test_the_gravest_stands_first() -> None:
    values = noise()
    values[1900:] = np.nan
    found = statements(frame({"loss/current": (STEPS, values), "lr/unet": (STEPS, STEPS * 0.0)}))
    assert [statement.severity for statement in found][:2] == ["error", "warning"]


def test_an_empty_log_says_nothing() -> None:
    assert statements(frame({"loss/current": ([], [])})) == ()

"""Axes, smoothing and thinning, against values worked out otherwise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kohyakit.dashboard.draw.curves import Line, Pace, active_hours, axis_values, drawn, smoothed, tag_group, thin


def by_hand(values: list[float], weight: float) -> list[float]:
    """The debiased average as its definition says, a value at a time."""
    running, result = 0.0, []
    for number, value in enumerate(values, start=1):
        running = weight * running + (1 - weight) * value
        result.append(running / (1 - weight**number))
    return result


@pytest.mark.parametrize("weight", [0.001, 0.5, 0.9, 0.99, 0.9999])
def test_smoothing_equals_its_definition(weight: float) -> None:
    values = np.random.default_rng(1).normal(size=4000).tolist()
    np.testing.assert_allclose(smoothed(np.array(values), weight), by_hand(values, weight), rtol=1e-9, atol=1e-12)


def test_smoothing_starts_at_the_first_value_and_keeps_a_constant() -> None:
    assert smoothed(np.array([3.0, 9.0]), 0.9)[0] == pytest.approx(3.0)
    np.testing.assert_allclose(smoothed(np.full(100, 0.25), 0.97), 0.25)


def test_a_nan_is_a_gap_and_does_not_spread() -> None:
    result = smoothed(np.array([1.0, np.nan, 3.0, np.inf, 5.0]), 0.5)
    assert np.isnan(result[[1, 3]]).all()
    np.testing.assert_allclose(result[[0, 2, 4]], by_hand([1.0, 3.0, 5.0], 0.5))


def test_smoothing_refuses_a_weight_of_one() -> None:
    with pytest.raises(ValueError, match="below 1"):
        smoothed(np.array([1.0]), 1.0)


@given(
    st.lists(st.floats(-1e6, 1e6, allow_nan=False) | st.just(float("nan")), min_size=1, max_size=500),
    st.integers(10, 60),
)
def test_thinning_keeps_every_columns_extremes(values: list[float], most: int) -> None:
    y = np.array(values)
    x = np.arange(len(y), dtype=float)
    kept = thin(x, y, most)
    assert (np.diff(kept) > 0).all()
    assert kept[0] == 0
    assert kept[-1] == len(y) - 1
    if len(y) <= most:
        assert len(kept) == len(y)
        return
    columns = (most - 2) // 2
    width = (x[-1] - x[0]) / columns
    for column in range(columns):
        low = x[0] + column * width
        inside = (x >= low + 1e-9) & (x < low + width - 1e-9) & np.isfinite(y)
        if inside.any():
            assert y[inside].min() >= np.nanmin(y[kept][(x[kept] >= low - 1e-9) & (x[kept] <= low + width + 1e-9)])
            assert y[inside].max() <= np.nanmax(y[kept][(x[kept] >= low - 1e-9) & (x[kept] <= low + width + 1e-9)])
    assert len(kept) <= 3 * columns + 2


def test_one_spike_among_a_million_points_is_drawn() -> None:
    y = np.zeros(1_000_000)
    y[654_321] = 7.0
    y[123_456] = -3.0
    kept = thin(np.arange(1_000_000, dtype=float), y, 1000)
    assert {654_321, 123_456} <= set(kept.tolist())
    assert len(kept) <= 1500


def test_a_gap_stays_a_gap() -> None:
    y = np.ones(10_000)
    y[4000:4100] = np.nan
    kept = thin(np.arange(10_000, dtype=float), y, 500)
    assert np.isnan(y[kept]).any()


def test_drawn_smooths_before_it_thins() -> None:
    y = np.random.default_rng(2).normal(size=50_000)
    x = np.arange(50_000, dtype=float)
    (line,) = drawn([Line("1a", "loss", x, y, "#000")], smoothing=0.9)
    assert line.smooth is not None
    assert len(line.x) <= 3000
    full = smoothed(y, 0.9)
    np.testing.assert_allclose(line.smooth, full[line.x.astype(int)])
    assert line.y.max() == y.max()
    assert line.y.min() == y.min()


def test_many_lines_are_drawn_smooth_alone() -> None:
    """Of nine lines the raw ones would hide everything; the smooth ones keep their own lowest and highest point."""
    y = np.random.default_rng(3).normal(size=20_000)
    lines = [Line(str(i), "loss", np.arange(20_000.0), y + i, "#000") for i in range(9)]
    assert all(line.smooth is not None for line in drawn(lines[:8], smoothing=0.9))
    for number, line in enumerate(drawn(lines, smoothing=0.9)):
        full = smoothed(y + number, 0.9)
        assert line.smooth is None
        assert (line.y.min(), line.y.max()) == (full.min(), full.max())
        np.testing.assert_array_equal(line.y, full[line.x.astype(int)])
    assert drawn(lines)[0].y.max() == y.max()  # smoothing 0 shows the raw lines of any number of runs


def test_a_window_is_thinned_anew() -> None:
    x = np.arange(100_000, dtype=float)
    (line,) = drawn([Line("1a", "loss", x, np.sin(x), "#000")], window=(500, 900))
    assert line.x[0] == 500
    assert line.x[-1] == 900
    assert len(line.x) == 401


def test_axes_by_hand() -> None:
    step, wall = np.array([0, 10, 20]), np.array([100.0, 3700.0, 7300.0])
    pace = Pace(steps_per_epoch=10, images_per_step=4)
    assert axis_values("epoch", step, wall, pace).tolist() == [0, 1, 2]
    assert axis_values("images", step, wall, pace).tolist() == [0, 40, 80]
    assert axis_values("time", step, wall, pace).tolist() == [0, 1, 2]
    assert axis_values("epoch", step, wall, Pace()) is None
    with pytest.raises(KeyError):
        axis_values("moons", step, wall, pace)


def test_a_night_between_stop_and_resume_is_no_training_time() -> None:
    wall = np.array([0.0, 60, 120, 120 + 36_000, 120 + 36_060])
    assert active_hours(wall)[-1] * 3600 == pytest.approx(180)


def test_a_slow_log_is_not_taken_for_a_pause() -> None:
    """Validation once in half an hour: every gap is longer than ten minutes and every one is training."""
    assert active_hours(np.arange(5) * 1800.0)[-1] == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("tag", "group"),
    [
        ("loss/average", "loss"),
        ("loss/validation/epoch_average", "validation"),
        ("lr/unet", "lr"),
        ("lr/d*lr/unet", "lr"),
        ("grad_norm", "other"),
    ],
)
def test_groups_of_kohyas_tags(tag: str, group: str) -> None:
    assert tag_group(tag) == group


@pytest.mark.parametrize(("lines", "most"), [(1, 2000), (8, 1000), (9, 444), (20, 200)])
def test_many_lines_share_half_the_points(lines: int, most: int) -> None:
    x = np.arange(50_000.0)
    made = drawn([Line(str(n), "loss/average", x, np.sin(x * n), "#111") for n in range(lines)])
    assert all(most - 4 <= len(line.x) <= most + 2 for line in made[1:])

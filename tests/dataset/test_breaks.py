"""The arithmetic behind the search for breaks, each beside the plain loop that says what it means."""

from __future__ import annotations

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("cv2")
from hypothesis import given, settings
from hypothesis import strategies as st

from kohyakit.dataset.decode import breaks


@pytest.mark.parametrize(("height", "width"), [(2, 2), (4, 4), (5, 5), (8, 16), (10, 10), (16, 16)])
def test_steps_across_the_edges_of_units(height: int, width: int) -> None:
    """Difference over the edge less the mean of the two beside it; of a unit of 8 and more, every second column."""
    rgb = np.random.default_rng(width).integers(0, 256, (5 * height, 6 * width + 1, 3), dtype=np.uint8)
    found = breaks._steps(rgb, height, width)
    assert found.shape == (3, 4, 6)
    for row in range(4):
        for column in range(6):
            y, columns = (row + 1) * height, range(column * width, (column + 1) * width, 2 if width >= 8 else 1)
            lines = (rgb[y + offset, list(columns)].astype(float).mean(axis=0) for offset in (-2, -1, 0, 1))
            above2, above, below, below2 = lines
            red, green, blue = (below - above) - ((below2 - below) + (above - above2)) / 2
            luma = 0.299 * red + 0.587 * green + 0.114 * blue
            wanted = (luma, 0.564 * (blue - luma), 0.713 * (red - luma))
            assert found[:, row, column] == pytest.approx(wanted, abs=1e-3)


@pytest.mark.parametrize("width", [1, 2, 4, 5, 8, 10, 16])
@given(data=st.data())
def test_runs_of_equal_units(width: int, data: st.DataObject) -> None:
    seed = data.draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    units = rng.choice([10, 12, 13, 200], size=(3, 25), p=[0.6, 0.37, 0.015, 0.015]).astype(np.uint8)
    line = np.repeat(units, width, axis=1)
    line[:, ::width] += rng.integers(0, 2, units.shape).astype(np.uint8)
    found = breaks._equal_runs(line, width)
    assert found.shape == (3, 25 - breaks._REPEATS)
    for row in range(3):
        parts = line[row].reshape(25, width).astype(int)
        alike = [bool((np.abs(parts[i + 1] - parts[i]) <= 2).all()) for i in range(24)]
        wanted = [all(alike[start : start + breaks._REPEATS]) for start in range(25 - breaks._REPEATS)]
        assert found[row].tolist() == wanted


@settings(max_examples=2 * settings().max_examples)
@given(st.integers(0, 2**32 - 1), st.integers(2, 6), st.integers(8, 40), st.floats(0, 2))
def test_no_path_is_ruled_out_that_could_be_a_break(seed: int, rows: int, columns: int, shift: float) -> None:
    rng = np.random.default_rng(seed)
    steps = rng.normal(0, 1, (rows, columns)).astype(np.float32)
    row, column = rng.integers(rows - 1), rng.integers(columns)
    steps[row, column:] += shift
    steps[row + 1, :column] += shift
    steps = np.clip(steps, -breaks._CAP, breaks._CAP)
    strongest = [
        max(abs(steps[r, c:].sum() + steps[r + 1, :c].sum()) / columns for c in range(columns + 1))
        for r in range(rows - 1)
    ]
    could = breaks._could_break(steps[None])[0]
    assert all(may for may, score in zip(could, strongest, strict=True) if score >= breaks.SHIFT)


def test_most_noise_is_ruled_out_at_once() -> None:
    steps = np.random.default_rng(0).normal(0, 1, (3, 200, 250)).astype(np.float32)
    assert not breaks._could_break(steps).any()
    steps[1, 7] += 3
    could = breaks._could_break(steps)
    assert could.any(axis=1).tolist() == [False, True, False]
    assert set(np.flatnonzero(could[1])) <= {6, 7}  # the paths that the row is a half of
    assert could[1, 7]

"""Hashes and the comparison of sketches; expected values come from numpy's own flips and Pillow's own crops."""

from __future__ import annotations

import numpy as np
import pytest

from kohyakit.audit.alike import likeness, neighbours
from kohyakit.audit.alike.likeness import POSITIONS, WINDOWS, agreement, hashes, sketch, turn, turned_hashes
from kohyakit.audit.alike.neighbours import same_picture_groups

from .conftest import scene


def grey(seed: int, size: tuple[int, int] = (320, 240)) -> np.ndarray:
    return np.asarray(scene(seed, size).convert("L"))


def apart(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.array([bin(int(x) ^ int(y)).count("1") for x, y in zip(a, b, strict=True)])


SKETCHES = np.stack([sketch(grey(seed)) for seed in range(24)])


@pytest.mark.parametrize("position", range(8))
def test_turned_hash_is_the_hash_of_the_turned_picture(position: int) -> None:
    transposed, down, across = POSITIONS[position]
    moved = SKETCHES.transpose(0, 2, 1) if transposed else SKETCHES
    moved = moved[:, ::-1] if down else moved
    moved = moved[:, :, ::-1] if across else moved
    assert (turn(SKETCHES, position) == moved).all()
    # floating-point sums in another order may flip a coefficient that is nearly 0
    assert apart(turned_hashes(SKETCHES, position), hashes(np.ascontiguousarray(moved))).max() <= 1


def test_unrelated_pictures_differ_in_about_half_of_the_bits() -> None:
    found = hashes(SKETCHES)
    distances = [apart(found[[i]], found[[j]])[0] for i in range(24) for j in range(i)]
    assert 28 < np.mean(distances) < 35
    assert min(distances) > 14


@pytest.mark.parametrize("window", range(1, len(WINDOWS)))
def test_a_window_has_the_hash_of_that_crop(window: int) -> None:
    (top, tall), (left, wide) = WINDOWS[window]
    crops = []
    for seed in range(24):
        whole = grey(seed)
        h, w = whole.shape
        crops.append(
            sketch(whole[round(top * h) : round((top + tall) * h), round(left * w) : round((left + wide) * w)])
        )
    distances = apart(hashes(SKETCHES, window), hashes(np.stack(crops)))
    assert np.median(distances) <= 6
    assert distances.max() <= 14


def test_agreement_is_high_for_a_shifted_crop_and_low_for_another_picture() -> None:
    whole = grey(3)
    crop = sketch(whole[10:226, 21:309])  # 90 % of each side, at no window's place
    pair = SKETCHES[[3, 3]]
    other = np.stack([crop, SKETCHES[4]])
    same, different = agreement(pair, other, np.array([5, 0]))
    assert same > 0.85
    assert different < 0.5
    assert agreement(SKETCHES[:1], SKETCHES[:1], np.array([0]))[0] == pytest.approx(1, abs=1e-4)


def test_flat_pictures_have_no_contrast() -> None:
    ramp = np.tile(np.linspace(0, 255, 32), (32, 1)).astype(np.uint8)
    flat = np.full((32, 32), 90, np.uint8)
    found = likeness.contrast_of(np.stack([flat, ramp, SKETCHES[0]]))
    assert found[0] < 0.1
    assert found[1] < 3 < found[2]


def noisy(pictures: np.ndarray, seed: int) -> np.ndarray:
    return np.clip(pictures + np.random.default_rng(seed).normal(0, 4, pictures.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("exhaustive", [10_000, 0], ids=["every pair", "bands"])
def test_planted_copies_are_found_among_many(exhaustive: int) -> None:
    """1,500 random sketches, 60 copies: as they are, mirrored or turned, with noise; nothing else is named."""
    rng = np.random.default_rng(5)
    coarse = rng.integers(0, 255, (1500, 8, 8), dtype=np.uint8)
    many = np.stack([sketch(np.kron(c, np.ones((8, 8), np.uint8))) for c in coarse])
    copies = [noisy(turn(many[k : k + 1], k % 8), k)[0] for k in range(60)]
    found = same_picture_groups(np.concatenate([many, copies]), 14, 0.75, exhaustive=exhaustive)
    assert [group.tolist() for group in found] == [[k, 1500 + k] for k in range(60)]


def test_copies_of_copies_come_into_one_group() -> None:
    rows = np.concatenate([SKETCHES[:3], noisy(SKETCHES[:1], 1), noisy(SKETCHES[:1], 2), SKETCHES[:1]])
    assert [g.tolist() for g in same_picture_groups(rows, 14, 0.75)] == [[0, 3, 4, 5]]


def test_of_many_copies_few_pairs_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty copies of each of three pictures: 2,340 pairs agree, and less than 40 - 1 of each cannot do."""
    rng = np.random.default_rng(3)
    noise = rng.integers(-6, 7, (3, 40, 32, 32))
    copies = np.clip(SKETCHES[:3, None].astype(int) + noise, 0, 255).astype(np.uint8).reshape(-1, 32, 32)
    order = rng.permutation(len(copies))
    compared = 0

    def counted(whole: np.ndarray, part: np.ndarray, windows: np.ndarray, **options: object) -> np.ndarray:
        nonlocal compared
        compared += len(whole)
        return agreement(whole, part, windows, **options)

    monkeypatch.setattr(neighbours, "agreement", counted)
    groups = same_picture_groups(copies[order], 14, 0.75)
    assert [set(order[group] // 40) for group in sorted(groups, key=lambda g: order[g[0]])] == [{0}, {1}, {2}]
    assert [len(group) for group in groups] == [40, 40, 40]
    assert 3 * 39 <= compared < 5 * 120


def test_one_picture_or_none_has_no_groups() -> None:
    assert same_picture_groups(SKETCHES[:1], 14, 0.75) == []
    assert same_picture_groups(SKETCHES[:0], 14, 0.75) == []


def test_the_least_certain_bits_are_the_coefficients_nearest_to_zero() -> None:
    """By the transform written out: cosines by hand, their sizes sorted, the bits placed as the hash places them."""
    sketches = np.random.default_rng(3).integers(0, 256, (5, 32, 32), dtype=np.uint8)
    k = np.arange(32)
    cosines = np.cos(np.pi * (2 * k[None] + 1) * np.arange(8)[:, None] / 64)
    for transposed in (False, True):
        order = likeness.doubtful_bits(sketches, transposed)
        for one, of_bands in zip(sketches, order, strict=True):
            low = cosines @ one.astype(float) @ cosines.T
            sizes = np.abs(low.T if transposed else low).ravel()
            sizes[0] = np.inf  # the mean is no bit
            for band, places in enumerate(of_bands):
                here = [(sizes[i], bit % 16) for i, bit in enumerate(likeness._BIT_ORDER.tolist()) if bit // 16 == band]
                assert places[:8].tolist() == [bit for _, bit in sorted(here)[:8]]


def test_no_photo_at_all_has_no_hash() -> None:
    nothing = np.zeros((0, 32, 32), np.uint8)
    assert likeness.hashes(nothing).shape == likeness.turned_hashes(nothing, 5).shape == (0,)
    assert likeness.doubtful_bits(nothing, True).shape == (0, 4, 16)

"""Crops around faces that file names tell of: what is read from a name, and how one is drawn."""

from __future__ import annotations

from pathlib import Path

import pytest

from kohyakit.config.train import TrainConfig
from kohyakit.dataset.layout import scan
from kohyakit.dataset.sources.faces import Face, crop_around, face_in, face_range
from kohyakit.planning.make import make_plan


class Told:
    """Draws what it is told, and remembers between which limits it was asked."""

    def __init__(self, *values: float) -> None:
        self.values, self.asked = list(values), []

    def uniform(self, low: float, high: float) -> float:
        self.asked.append((round(low, 4), round(high, 4)))
        return self.values.pop(0)

    def randint(self, low: int, high: int) -> int:
        self.asked.append((low, high))
        return self.values.pop(0)


@pytest.mark.parametrize(
    ("stem", "face"),
    [
        ("photo_120_80_40_50", Face(120, 80, 40, 50)),
        ("a_b_c_120_80_40_50", Face(120, 80, 40, 50)),
        ("120_80_40_50", None),  # five parts are wanted
        ("photo_of_my_old_dog", None),
        ("photo_0_80_40_50", None),
        ("photo_120_80_0_0", None),
    ],
)
def test_a_face_in_a_name(stem: str, face: Face | None) -> None:
    assert face_in(stem) == face


@pytest.mark.parametrize(
    ("value", "limits"),
    [("2.0,4.0", (2.0, 4.0)), ((1, 3), (1.0, 3.0)), ("2", None), ("a,b", None), (None, None), ((0.0, 2.0), None)],
)
def test_a_range(value: object, limits: tuple[float, float] | None) -> None:
    assert face_range(value) == limits


def test_without_chance_the_face_is_in_the_middle() -> None:
    """128 / (70 * 2) = 0.9143: 300 x 220 becomes 274 x 201, the face's middle (137, 82)."""
    drawn = crop_around(Face(150, 90, 60, 70), (300, 220), (128, 128), (2.0, 2.0), Told(), at_random=False)
    assert (drawn.resized, drawn.left, drawn.top) == ((274, 201), 137 - 64, 82 - 64)


def test_the_scale_is_drawn_first_then_the_top_then_the_left() -> None:
    """From what covers (128 / 220) and 128 / (70 * 4) to 128 / (70 * 2); then a twentieth of the face's size."""
    rng = Told(0.8, 3, -4)
    drawn = crop_around(Face(150, 90, 60, 70), (300, 220), (128, 128), (2.0, 4.0), rng, at_random=False)
    assert rng.asked == [(0.5818, 0.9143), (-4, 3), (-4, 3)]  # -70 // 20 is rounded down
    assert (drawn.resized, drawn.left, drawn.top) == ((240, 176), 120 - 64 - 4, min(72 - 64 + 3, 176 - 128))


def test_a_random_crop_keeps_near_the_face_and_inside_the_picture() -> None:
    rng = Told(10, 20, 160, 160)
    drawn = crop_around(Face(280, 30, 10, 10), (300, 150), (128, 128), (30.0, 30.0), rng, at_random=True)
    assert drawn.resized == (256, 128)  # 128 / 150 covers, and puts the face at (239, 26)
    assert rng.asked == [(0, 102), (0, 102), (0, 239), (0, 239)]
    assert (drawn.left, drawn.top) == (128, 0)  # 239 - 64 + 320 - 239 lies beyond the edge


def test_a_smaller_picture_is_enlarged_to_cover_and_a_fitting_one_left_alone() -> None:
    face = Face(20, 30, 10, 10)
    drawn = crop_around(face, (50, 60), (100, 100), (1.0, 1.0), Told(), at_random=False)
    assert (drawn.resized, drawn.left, drawn.top) == ((100, 120), 0, 10)
    drawn = crop_around(face, (100, 100), (100, 100), (1.0, 4.0), Told(), at_random=True)
    assert (drawn.resized, drawn.left, drawn.top) == ((100, 100), 0, 0)


def config(folder: Path, **values: object) -> TrainConfig:
    usual = {"resolution": "64", "caption_extension": ".txt", "train_data_dir": str(folder)}
    return TrainConfig().with_values(**{**usual, "face_crop_aug_range": "2.0,4.0", **values})


def test_where_faces_are_not_looked_at_that_is_said(picture, tmp_path: Path) -> None:
    picture("img/2_me/me_40_40_20_20.png", (96, 80)).with_name("me.txt").write_text("me", encoding="utf-8")

    def named(**values: object) -> dict[str, str]:
        found = scan(config(tmp_path / "img", **values))
        assert (next(found.subsets()).face_crop_aug_range is None) == ("face_crop_ignored" in str(found.problems))
        return {p.name: p.severity for p in found.problems}

    assert named() == {}
    assert named(rng_order="sd-scripts") == {}
    assert make_plan(config(tmp_path / "img", rng_order="sd-scripts")).misfits == ()  # the face says where to cut
    for values in ({"enable_bucket": True}, {"cache_latents": True}):
        assert named(**values) == {"face_crop_ignored": "warning"}
    picture("img/2_me/one_of_my_old_ones.png", (96, 80)).with_suffix(".txt").write_text("me", encoding="utf-8")
    assert named() == {}
    assert named(rng_order="sd-scripts") == {"face_name": "error"}  # which reads "my" as a number
    (tmp_path / "img/2_me/me_40_40_20_20.png").unlink()
    assert named() == {"no_faces": "warning"}

"""A small project: six made photos with captions, a config that trains on them, a clock that is set by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from PIL import Image

from kohyakit.config.train import TrainConfig


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads or writes the user's cache."""
    monkeypatch.setenv("KOHYAKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "img" / "10_sks dog"
    folder.mkdir(parents=True)
    for number in range(6):
        Image.new("RGB", (96, 64), (number * 40, 10, 10)).save(folder / f"dog{number}.png")
        (folder / f"dog{number}.txt").write_text(f"a dog, number {number}", encoding="utf-8")
    return folder


@pytest.fixture
def config(tmp_path: Path, photos: Path) -> TrainConfig:
    return TrainConfig().with_values(
        train_data_dir=str(photos.parent),
        output_dir=str(tmp_path / "model"),
        output_name="dog",
        resolution="64",
        caption_extension=".txt",
        network_dim=16,
        seed=42,
    )


class Clock:
    """Stands until it is moved."""

    def __init__(self) -> None:
        self.moment = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.moment

    def forward(self, **amount: float) -> None:
        self.moment += timedelta(**amount)


@pytest.fixture
def clock() -> Clock:
    return Clock()

"""Small pictures and folders made on the spot."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def picture(tmp_path: Path) -> Callable[..., Path]:
    """picture("img/10_dog/a.jpg", (64, 48), orientation=6): draws and saves an image below tmp_path."""
    image = pytest.importorskip("PIL.Image")

    def draw(name: str, size: tuple[int, int] = (64, 48), orientation: int = 1, **options: object) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        exif = image.Exif()
        if orientation != 1:
            exif[0x0112] = orientation
        canvas = image.frombytes("RGB", size, random.Random(0).randbytes(size[0] * size[1] * 3))
        canvas.save(path, exif=exif, **options)
        return path

    return draw

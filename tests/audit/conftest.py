"""Pictures made on the spot: sharp edges, texture, light from above; each seed another scene."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("PIL")
from PIL import Image, ImageDraw


def scene(seed: int, size: tuple[int, int] = (640, 480)) -> Image.Image:
    """A picture with shapes at all scales over rough ground, as different from the next seed as two photos are."""
    return _drawn(seed, size).copy()


@functools.lru_cache(maxsize=32)
def _drawn(seed: int, size: tuple[int, int]) -> Image.Image:
    rng = np.random.default_rng(seed)
    width, height = size
    layers = np.zeros((height, width, 3))
    for cells, strength in ((3, 70), (7, 50), (19, 25), (61, 12)):
        coarse = Image.fromarray(rng.integers(0, 255, (cells, cells, 3), dtype=np.uint8))
        layers += strength * (np.asarray(coarse.resize(size, Image.BICUBIC), float) / 255 - 0.5)
    picture = Image.fromarray(np.clip(layers + 128, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    for _ in range(40):
        x, y, w, h = rng.integers(0, width), rng.integers(0, height), *rng.integers(8, max(16, width // 5), 2)
        colour = tuple(int(c) for c in rng.integers(0, 255, 3))
        draw.rectangle((x, y, x + w, y + h), fill=colour) if rng.random() < 0.5 else draw.ellipse(
            (x, y, x + w, y + h), fill=colour
        )
    noise = rng.normal(0, 3, (height, width, 1))
    return Image.fromarray(np.clip(np.asarray(picture, float) + noise, 0, 255).astype(np.uint8))


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """save("10_dog/a.jpg", image, caption="sks dog", quality=90): writes it below tmp_path."""

    def write(
        name: str, image: Image.Image | bytes | None = None, caption: str | None = None, **options: object
    ) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(image, bytes):
            path.write_bytes(image)
        else:
            (image or scene(len(name) + sum(name.encode()))).save(path, **options)
        if caption is not None:
            path.with_suffix(".txt").write_text(caption, encoding="utf-8")
        return path

    return write


def found(report: object, issue: str) -> set[str]:
    """The names of the files with an issue."""
    rows = report.issues[report.issues["issue"] == issue]
    return {Path(path).name for path in rows["path"]}

"""Masks: the same from a picture, from a cache in memory, on disk and in sd-scripts' own files, flipped and cropped."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
cv2 = pytest.importorskip("cv2")

from PIL import Image

from kohyakit.dataset.augment import ImageDraw
from kohyakit.models import load_model
from kohyakit.planning.make import make_plan
from kohyakit.train.step.batches import Batch, Example, TrainDataset, build_datasets, load_picture, prefetch
from kohyakit.train.step.latents import LatentSource
from kohyakit.train.step.rng import KohyakitOrder


@pytest.fixture(scope="module")
def vae(tiny_model):
    return load_model(tiny_model).vae


@pytest.fixture
def cut_out(photos, tmp_path) -> Path:
    """The photos, of which all but town0 and statue0 are transparent towards their right side."""
    folder = Path(shutil.copytree(photos, tmp_path / "img", ignore=shutil.ignore_patterns(".kohyakit*", "*.npz")))
    for path in folder.rglob("*[1-9].png"):
        with Image.open(path) as image:
            cut = image.convert("RGBA")
        slope = np.linspace(255, 0, cut.width).astype(np.uint8)
        cut.putalpha(Image.fromarray(np.tile(slope, (cut.height, 1))))
        cut.save(path)
    return folder


def by_hand(path: Path, resized: tuple[int, int], draw: ImageDraw, bucket: tuple[int, int]) -> np.ndarray:
    """Alpha scaled, cut and turned with its picture; then the mean of each 8 x 8 pixels."""
    with Image.open(path) as image:
        if "A" not in image.mode:
            return np.ones((bucket[1] // 8, bucket[0] // 8))
        pixels = np.asarray(image)
    alpha = cv2.resize(pixels, resized, interpolation=cv2.INTER_AREA)[..., 3] / 255
    alpha = alpha[draw.crop_top :, draw.crop_left :][: bucket[1], : bucket[0]]
    alpha = alpha[:, ::-1] if draw.flip else alpha
    return alpha.reshape(bucket[1] // 8, 8, bucket[0] // 8, 8).mean(axis=(1, 3))


def every_example(datasets: list[TrainDataset]) -> list[Batch]:
    """Each image alone in a batch, as it is and flipped."""
    batches = []
    for d, dataset in enumerate(datasets):
        for i, image in enumerate(dataset.images):
            for flip in (False, True):
                draw = ImageDraw(flip, image.placement.crop_left, image.placement.crop_top)
                batches.append(Batch(d, image.placement.bucket, [Example(i, image, draw, "")], 0))
    return batches


def masks_of(source: LatentSource, batches: list[Batch]) -> list:
    loaded = prefetch(batches, None if source.cached else lambda e: load_picture(e.image, e.draw), 0, 0)
    return [source.masks_of(batch, source(batch)) for batch in loaded]


def test_a_mask_is_the_same_uncached_and_in_every_cache(vae, make_config, cut_out) -> None:
    config = make_config(train_data_dir=str(cut_out), flip_aug=True, alpha_mask=True)
    datasets = build_datasets(make_plan(config).datasets, 1.0)
    batches = every_example(datasets)

    def source(**options) -> LatentSource:
        return LatentSource(vae, KohyakitOrder(5), scale=1.0, latent_dtype=torch.float32, **options)

    def cached(to_disk: bool, **options) -> LatentSource:
        found = source(**options)
        found.cache(datasets, to_disk=to_disk, progress=lambda: None)
        return found

    plain = masks_of(source(), batches)
    for batch, mask in zip(batches, plain, strict=True):
        (example,) = batch.examples
        size = (batch.bucket.width, batch.bucket.height)
        expected = by_hand(example.image.record.path, example.image.placement.resized, example.draw, size)
        assert mask[0, 0].numpy() == pytest.approx(expected, abs=1e-6)
    assert min(float(mask.min()) for mask in plain) < 0.1
    for kept in (
        cached(False), cached(True), cached(True),  # made, and read again
        cached(True, as_npz=True), cached(True, as_npz=True),
    ):  # fmt: skip
        assert all(torch.equal(*pair) for pair in zip(masks_of(kept, batches), plain, strict=True))


def test_a_kept_latent_without_its_mask_is_made_anew(vae, make_config, cut_out) -> None:
    plain, masked = (
        build_datasets(make_plan(make_config(train_data_dir=str(cut_out), alpha_mask=on)).datasets, 1.0)
        for on in (False, True)
    )
    for as_npz in (True, False):
        for datasets in (plain, masked):
            source = LatentSource(vae, KohyakitOrder(5), scale=1.0, latent_dtype=torch.float32, as_npz=as_npz)
            source.cache(datasets, to_disk=True, progress=lambda: None)
            assert len(source.kept_masks) == (8 if datasets is masked else 0)
    with np.load(cut_out / "2_town/town2_0130x0065_sd.npz") as file:
        assert file["alpha_mask"].shape == (64, 128)
        assert file["alpha_mask"].dtype == np.float32


def test_an_image_without_a_mask_counts_whole_beside_one_that_has_one(vae) -> None:
    from kohyakit.train.step.masks import stacked

    latents, half = torch.zeros(2, 4, 3, 5), torch.full((3, 5), 0.5)
    assert stacked([None, None], latents) is None
    found = stacked([None, half], latents)
    assert found.shape == (2, 1, 3, 5)
    assert (found[0] == 1).all()
    assert (found[1] == 0.5).all()


@pytest.fixture
def painted(photos, tmp_path) -> Path:
    """A mask for each photo, brighter towards its right side."""
    folder = tmp_path / "masks"
    for path in photos.rglob("*.png"):
        with Image.open(path) as image:
            width, height = image.size
        mask = Image.fromarray(np.tile(np.linspace(0, 255, width).astype(np.uint8), (height, 1)))
        (folder / path.parent.name).mkdir(parents=True, exist_ok=True)
        mask.save(folder / path.parent.name / path.name)
    return folder


@pytest.mark.parametrize("order", ["kohyakit", "sd-scripts"])
def test_a_picture_as_a_mask_goes_the_way_of_its_photo(vae, make_config, photos, painted, tmp_path, order) -> None:
    """With sd-scripts' order it is squeezed into the bucket whole, though its photo is cropped."""
    tables = "".join(
        f"[[datasets.subsets]]\nimage_dir = {str(photos / name)!r}\nconditioning_data_dir = {str(painted / name)!r}\n"
        for name in ("2_town", "1_statue")
    )
    (tmp_path / "data.toml").write_text(f"[[datasets]]\n{tables}", encoding="utf-8")
    config = make_config(
        train_data_dir=None, dataset_config=str(tmp_path / "data.toml"), masked_loss=True, rng_order=order
    )
    plan = make_plan(config)
    datasets = build_datasets(plan.datasets, 1.0)
    batches = every_example(datasets)
    source = LatentSource(vae, KohyakitOrder(5), scale=1.0, latent_dtype=torch.float32)
    plain = masks_of(source, batches)
    for batch, mask in zip(batches, plain, strict=True):
        (example,) = batch.examples
        red = np.asarray(Image.open(example.image.record.mask.path).convert("RGB"))[..., 0] / 255
        size, draw = (batch.bucket.width, batch.bucket.height), example.draw
        if order == "kohyakit":
            assert example.image.placement.resized == example.image.record.size  # only cropped here
            red = red[draw.crop_top :, draw.crop_left :][: size[1], : size[0]]
        else:
            red = cv2.resize(red, size, interpolation=cv2.INTER_AREA)
        red = red[:, ::-1] if draw.flip else red
        expected = red.reshape(size[1] // 8, 8, size[0] // 8, 8).mean(axis=(1, 3))
        assert mask[0, 0].numpy() == pytest.approx(expected, abs=3e-3)  # pixels are rounded to 1 / 255
    source.cache(datasets, to_disk=True, progress=lambda: None)
    flips = [batch for batch in batches if not batch.examples[0].draw.flip]
    kept = masks_of(source, flips)
    assert all(torch.equal(*pair) for pair in zip(kept, plain[::2], strict=True))

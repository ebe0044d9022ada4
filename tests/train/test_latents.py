"""Latents: how many pictures the VAE sees at once, whose random numbers they get, what is kept."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

from kohyakit.dataset.augment import ImageDraw
from kohyakit.errors import RunError
from kohyakit.models import load_model
from kohyakit.planning.make import make_plan
from kohyakit.train.step.batches import build_datasets, load_pixels
from kohyakit.train.step.latents import LatentSource
from kohyakit.train.step.rng import KohyakitOrder
from kohyakit.train.step.rng_sd_scripts import SdScriptsOrder


@pytest.fixture(scope="module")
def vae(tiny_model):
    return load_model(tiny_model).vae


def source(vae, order, vae_batch_size=1) -> LatentSource:
    return LatentSource(vae, order, scale=1.0, latent_dtype=torch.float32, vae_batch_size=vae_batch_size)


def test_the_sd_scripts_order_draws_a_whole_chunk_as_diffusers_does(vae):
    pixels = list(torch.rand((3, 3, 64, 64), generator=torch.Generator().manual_seed(1)) * 2 - 1)
    torch.manual_seed(3)
    got = source(vae, SdScriptsOrder(3), vae_batch_size=3).encode(pixels, ["a", "b", "c"])
    after = torch.randn(4)
    torch.manual_seed(3)
    with torch.no_grad():
        wanted = vae.encode(torch.stack(pixels)).latent_dist.sample()
    assert torch.equal(got, wanted)
    assert torch.equal(after, torch.randn(4))


def test_an_image_of_nan_is_named(vae):
    pixels = [torch.zeros(3, 64, 64), torch.full((3, 64, 64), torch.nan)]
    with pytest.raises(RunError, match=r"^second: .*NaN.*no_half_vae"):
        source(vae, KohyakitOrder(1), vae_batch_size=2).encode(pixels, ["first", "second"])


@pytest.mark.parametrize("to_disk", [False, True])
def test_caching_takes_vae_batch_size_pictures_of_a_bucket_at_once(vae, make_config, to_disk):
    """Of the eight pictures six lie in 64x64 and the rest alone in theirs or as a pair; flips go in batches too."""
    config = make_config(flip_aug=True)
    sizes, plain = [], vae.encode
    for at_once in (1, 4):
        datasets = build_datasets(make_plan(config).datasets, 1.0)
        members = [len(set(bucket)) for dataset in datasets for bucket in dataset.bucket_members]
        kept = source(vae, KohyakitOrder(5), at_once)
        watched = SimpleNamespace(encode=lambda x: (sizes.append(len(x)), plain(x))[1], state_dict=vae.state_dict)
        kept.vae = watched
        done = []
        kept.cache(datasets, to_disk=to_disk and at_once == 4, progress=lambda done=done: done.append(1))
        assert len(done) == 8
        chunks = [min(at_once, n - start) for n in members for start in range(0, n, at_once)]
        assert sorted(sizes) == sorted(chunks * 2)
        sizes.clear()
        if at_once == 1:
            alone = dict(kept.kept)
    assert set(kept.kept) == set(alone)
    for key, latents in kept.kept.items():
        assert torch.allclose(latents, alone[key], atol=1e-5)
        assert latents.untyped_storage().nbytes() == latents.nbytes  # not a view of the whole chunk
    if to_disk:
        again = source(vae, KohyakitOrder(5), 4)
        again.vae = watched
        again.cache(datasets, to_disk=True, progress=lambda: None)
        assert not sizes
        assert all(torch.equal(again.kept[key], kept.kept[key]) for key in kept.kept)


def test_a_subset_may_scale_its_images_in_its_own_way(make_config, tmp_path, photos):
    """In a dataset_config; a picture of 130x65 goes to 128x64, by OpenCV's exact nearest neighbours."""
    import cv2
    import numpy as np
    from PIL import Image

    folder, file = photos / "2_town", tmp_path / "data.toml"
    text = f"[[datasets]]\n[[datasets.subsets]]\nimage_dir = {str(folder)!r}\nresize_interpolation = 'nearest'\n"
    file.write_text(text, encoding="utf-8")
    config = make_config(train_data_dir=None, dataset_config=str(file), bucket_no_upscale=False)
    images = build_datasets(make_plan(config).datasets, 1.0)[0].images
    (image,) = [one for one in images if one.record.size == (130, 65)]
    width, height = image.placement.resized
    read = np.asarray(Image.open(image.record.path).convert("RGB"))
    expected = cv2.resize(read, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    bucket = image.placement.bucket
    pixels = load_pixels(image, ImageDraw(False, 0, 0))
    assert torch.equal(pixels, torch.tensor(expected[: bucket.height, : bucket.width]).permute(2, 0, 1) / 127.5 - 1)


def overflowing(model) -> torch.nn.Module:
    """A VAE whose first layer gives numbers beyond fp16's 65504, which a norm brings back in wider types."""
    vae = load_model(model).vae
    for parameter in vae.encoder.conv_in.parameters():
        parameter.data *= 1e5
    return vae


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_a_vae_that_overflows_is_found_before_the_first_step(tiny_model, make_config, half):
    """Then float32 is taken with the weights of the file, not with those that half precision has rounded."""
    vae, datasets, said = overflowing(tiny_model), build_datasets(make_plan(make_config()).datasets, 1.0), []
    pixels = [load_pixels(datasets[0].images[0], ImageDraw(False, 0, 0))]
    wanted = source(vae, KohyakitOrder(1)).encode(pixels, ["a"])
    weights = vae.state_dict()
    latents = source(vae.to(half), KohyakitOrder(1))
    before = torch.get_rng_state()
    if half is torch.float16:
        with pytest.raises(RunError, match="NaN"):
            latents.encode(pixels, ["a"])
    latents.settle(datasets, weights, said.append)
    assert torch.equal(before, torch.get_rng_state())
    assert latents.vae_dtype == (torch.float32 if half is torch.float16 else half)
    got = latents.encode(pixels, ["a"])
    if half is torch.float16:
        assert len(said) == 1
        assert "NaN in float16" in said[0]
        assert torch.equal(got, wanted)
    else:
        assert not said
        assert torch.isfinite(got).all()


def test_a_vae_in_float32_is_not_tried(tiny_model, make_config):
    latents = source(torch.nn.Linear(1, 1), KohyakitOrder(1))
    latents.settle(build_datasets(make_plan(make_config()).datasets, 1.0), {}, pytest.fail)

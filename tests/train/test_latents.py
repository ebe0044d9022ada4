"""Latents: how many pictures the VAE sees at once, whose random numbers they get, what is kept."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

from kohyakit.dataset import layout
from kohyakit.models import load_model
from kohyakit.train.data import build_datasets
from kohyakit.train.latents import LatentSource
from kohyakit.train.rng import KohyakitOrder, SdScriptsOrder


@pytest.fixture(scope="module")
def vae(tiny_model):
    return load_model(tiny_model).vae


def source(vae, order, vae_batch_size=1) -> LatentSource:
    half = torch.float32
    return LatentSource(vae, order, scale=1.0, device=torch.device("cpu"), vae_dtype=half, latent_dtype=half,
                        vae_batch_size=vae_batch_size)  # fmt: skip


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
    from kohyakit.errors import RunError

    pixels = [torch.zeros(3, 64, 64), torch.full((3, 64, 64), torch.nan)]
    with pytest.raises(RunError, match=r"^second: .*NaN.*no_half_vae"):
        source(vae, KohyakitOrder(1), vae_batch_size=2).encode(pixels, ["first", "second"])


@pytest.mark.parametrize("to_disk", [False, True])
def test_caching_takes_vae_batch_size_pictures_of_a_bucket_at_once(vae, make_config, to_disk):
    """Of the eight pictures six lie in 64x64 and the rest alone in theirs or as a pair; flips go in batches too."""
    config = make_config(flip_aug=True)
    sizes, plain = [], vae.encode
    for at_once in (1, 4):
        datasets = build_datasets(layout.scan(config), 1.0)
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
            alone = dict(kept._cache)
    assert set(kept._cache) == set(alone)
    for key, latents in kept._cache.items():
        assert torch.allclose(latents, alone[key], atol=1e-5)
        assert latents.untyped_storage().nbytes() == latents.nbytes  # not a view of the whole chunk
    if to_disk:
        again = source(vae, KohyakitOrder(5), 4)
        again.vae = watched
        again.cache(datasets, to_disk=True, progress=lambda: None)
        assert not sizes
        assert all(torch.equal(again._cache[key], kept._cache[key]) for key in kept._cache)

"""Latents: the VAE's view of an image, encoded in every step or once and kept in memory or on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from kohyakit.dataset.augment import ImageDraw
from kohyakit.errors import Problem, RunError
from kohyakit.train.data import Batch, TrainDataset, TrainImage, load_pixels
from kohyakit.train.rng import KohyakitOrder, SdScriptsOrder

CACHE_FOLDER = ".kohyakit_latents"

Order = KohyakitOrder | SdScriptsOrder


class LatentSource:
    """Gives every batch its latents, [B, 4, H / 8, W / 8], times the VAE's scale.

    One posterior sample belongs to an image and its flip, so training with and without a cache sees the same.
    """

    def __init__(
        self,
        vae: nn.Module,
        order: Order,
        *,
        scale: float,
        device: torch.device,
        vae_dtype: torch.dtype,
        latent_dtype: torch.dtype,
        vae_batch_size: int = 1,
        resize_interpolation: str | None = None,
    ) -> None:
        self.vae = vae
        self.order = order
        self.scale = scale
        self.device = device
        self.vae_dtype = vae_dtype
        self.latent_dtype = latent_dtype
        self.vae_batch_size = max(1, vae_batch_size)
        self.resize_interpolation = resize_interpolation
        self._cache: dict[tuple[int, int, bool], Tensor] = {}

    @property
    def cached(self) -> bool:
        return bool(self._cache)

    @torch.no_grad()
    def encode(self, pixels: Sequence[Tensor], keys: Sequence[str]) -> Tensor:
        """Unscaled posterior samples of images of one size, [3, H, W] in [-1, 1] each, vae_batch_size at a time.

        Raises RunError when the VAE gives NaN, which half precision does on some models.
        """
        samples = []
        for start in range(0, len(pixels), self.vae_batch_size):
            part = torch.stack(list(pixels[start : start + self.vae_batch_size]))
            posterior = self.vae.encode(part.to(self.device, self.vae_dtype)).latent_dist
            for i in range(len(part)):
                name = keys[start + i]
                generator = self.order.posterior(name)
                mean, std = posterior.mean[i : i + 1], posterior.std[i : i + 1]
                noise = torch.randn(mean.shape, generator=generator, device=None if generator else self.device,
                                    dtype=torch.float32 if generator else mean.dtype)  # fmt: skip
                sample = mean + std * noise.to(mean.device, mean.dtype)
                if bool(torch.isnan(sample).any()):
                    raise RunError(Problem(name, "the VAE gave NaN for this image", "set no_half_vae = true"))
                samples.append(sample)
        return torch.cat(samples).to(self.latent_dtype)

    def cache(self, datasets: Sequence[TrainDataset], *, to_disk: bool, progress: Callable[[], None]) -> None:
        """Encode every image (and its flip where flip_aug is on) before the first step; progress() after each."""
        work = [(d, i) for d, dataset in enumerate(datasets) for i in range(len(dataset.images))]
        areas = [datasets[d].images[i].placement.bucket.area for d, i in work]
        for place in self.order.cache_order(areas):
            d, i = work[place]
            image = datasets[d].images[i]
            for flip in (False, True) if image.subset.augment.flip_aug else (False,):
                self._cache[d, i, flip] = self._once(image, flip, to_disk=to_disk)
            progress()

    def _once(self, image: TrainImage, flip: bool, *, to_disk: bool) -> Tensor:
        path = self._cache_path(image, flip) if to_disk else None
        if path and path.exists():
            from safetensors.torch import load_file

            return load_file(path)["latents"]
        placement = image.placement
        pixels = load_pixels(image, ImageDraw(flip, placement.crop_left, placement.crop_top), self.resize_interpolation)
        latents = self.encode([pixels], [f"{image.key}/{flip}"])[0].cpu()
        if path:
            _write_latents(path, latents)
        return latents

    def _cache_path(self, image: TrainImage, flip: bool) -> Path:
        """A name that changes with the file, its bucket, the VAE and the stream, so that no stale cache is used."""
        stat = image.record.path.stat()
        facts = (
            stat.st_size, stat.st_mtime_ns, image.placement, image.record.upright, flip, self.resize_interpolation,
            str(self.vae_dtype), type(self.order).__name__, self.order.seed, self._vae_mark(),
        )  # fmt: skip
        mark = hashlib.blake2b(repr(facts).encode(), digest_size=10).hexdigest()
        return image.record.path.parent / CACHE_FOLDER / f"{image.record.path.name}-{mark}.safetensors"

    def _vae_mark(self) -> str:
        if not hasattr(self, "_mark"):
            digest = hashlib.blake2b(digest_size=10)
            for name, tensor in self.vae.state_dict().items():
                digest.update(f"{name}{float(tensor.double().sum())}".encode())
            self._mark = digest.hexdigest()
        return self._mark

    def __call__(self, batch: Batch) -> Tensor:
        if self._cache:
            parts = [self._cache[batch.dataset, e.index, e.draw.flip] for e in batch.examples]
            return torch.stack(parts).to(self.device, self.latent_dtype) * self.scale
        keys = [f"{e.image.key}/{e.draw.flip}" for e in batch.examples]
        return self.encode([future.result() for future in batch.pixels], keys) * self.scale


def _write_latents(path: Path, latents: Tensor) -> None:
    from safetensors.torch import save_file

    path.parent.mkdir(exist_ok=True)
    temporary = path.with_suffix(".tmp")
    save_file({"latents": latents.contiguous()}, temporary)
    temporary.replace(path)

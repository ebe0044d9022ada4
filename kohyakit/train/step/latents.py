"""Latents: the VAE's view of an image, encoded in every step or once and kept in memory or on disk."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kohyakit.dataset.augment import ImageDraw
from kohyakit.errors import Problem, RunError
from kohyakit.files import in_place_of, is_link
from kohyakit.train.step import masks, npz_caches
from kohyakit.train.step.batches import Batch, Picture, TrainDataset, TrainImage, load_mask, load_picture
from kohyakit.train.step.rng import Order
from kohyakit.train.step.text_outputs import weights_mark

CACHE_FOLDER = ".kohyakit_latents"


@dataclass(slots=True)
class _Loaded:
    """An image on the way into the cache: its file on disk with the latents there, or else its picture.

    mask: shrunk.
    """

    path: Path | None
    latents: Tensor | None
    mask: Tensor | None
    picture: Picture | None = None


_Place = tuple[int, list[int]]  # a data set and images of it
_Ahead = tuple[_Place, list[TrainImage], list[tuple[bool, "Future[list[_Loaded]]"]]]
_THREADS = min(4, os.cpu_count() or 1)


class LatentSource:
    """Gives every batch its latents, [B, 4, H / 8, W / 8], times the VAE's scale.

    One posterior sample belongs to an image and its flip, so training with and without a cache sees the same.
    The VAE is used on the device and in the precision that it comes in. as_npz: what is kept on disk is written as
    sd-scripts does. kept: (data set, image, flip) -> unscaled latents, once they are cached; kept_masks: the same of
    their masks, for images that have one.
    """

    def __init__(
        self,
        vae: nn.Module,
        order: Order,
        *,
        scale: float,
        latent_dtype: torch.dtype,
        vae_batch_size: int = 1,
        resize_interpolation: str | None = None,
        family: str = "sd1",
        as_npz: bool = False,
    ) -> None:
        self.family = family
        self.as_npz = as_npz
        self._fits: dict[Path, bool] = {}
        self.vae: Any = vae  # one of diffusers' autoencoders
        self.order = order
        self.scale = scale
        first = next(vae.parameters())
        self.device, self.vae_dtype = first.device, first.dtype
        self.latent_dtype = latent_dtype
        self.vae_batch_size = max(1, vae_batch_size)
        self.resize_interpolation = resize_interpolation
        self.kept: dict[tuple[int, int, bool], Tensor] = {}
        self.kept_masks: dict[tuple[int, int, bool], Tensor] = {}

    @property
    def cached(self) -> bool:
        return bool(self.kept)

    @torch.no_grad()
    def encode(self, pixels: Sequence[Tensor], keys: Sequence[str]) -> Tensor:
        """Unscaled posterior samples of images of one size, [3, H, W] in [-1, 1] each, vae_batch_size at a time.

        Raises RunError when the VAE gives NaN, which half precision does on some models.
        """
        samples = []
        for start in range(0, len(pixels), self.vae_batch_size):
            part = torch.stack(list(pixels[start : start + self.vae_batch_size]))
            names = keys[start : start + len(part)]
            posterior = self.vae.encode(part.to(self.device, self.vae_dtype)).latent_dist
            sample = posterior.mean + posterior.std * self._posterior_noise(posterior.mean, names)
            bad = torch.isnan(sample).flatten(1).any(dim=1).tolist()
            if any(bad):
                where = names[bad.index(True)]
                raise RunError(Problem(where, "the VAE gave NaN for this image", "set no_half_vae = true"))
            samples.append(sample)
        return torch.cat(samples).to(self.latent_dtype)

    @torch.no_grad()
    def settle(
        self, datasets: Sequence[TrainDataset], weights: Mapping[str, Tensor], say: Callable[[str], None]
    ) -> None:
        """Encode one photo, before the first step; where half precision gives NaN, float32 is taken, with a word.

        SDXL's own VAE overflows in fp16. weights: the VAE's as they were in its file. Draws nothing.
        """
        images = [image for dataset in datasets for image in dataset.images[:1]]
        if self.vae_dtype is torch.float32 or not images:
            return
        pixels = self._picture(images[0], False).pixels[None]
        mean = self.vae.encode(pixels.to(self.device, self.vae_dtype)).latent_dist.mean
        if not torch.isfinite(mean).all():
            name = str(self.vae_dtype).removeprefix("torch.")
            say(f"warning: the VAE gives NaN in {name} ({images[0].key}), so float32 is taken, as no_half_vae does")
            self.vae_dtype = torch.float32
            self.vae.float().load_state_dict(weights)

    def _posterior_noise(self, mean: Tensor, names: Sequence[str]) -> Tensor:
        """Each image's own stream, or one draw on the device for all, as sd-scripts (a GPU's draws do not add up)."""
        streams = [self.order.posterior(name) for name in names]
        if None in streams:
            return torch.randn(mean.shape, device=mean.device, dtype=mean.dtype)
        noise = torch.stack([torch.randn(mean.shape[1:], generator=stream) for stream in streams])
        return noise.to(mean.device, mean.dtype)

    def cache(
        self,
        datasets: Sequence[TrainDataset],
        *,
        to_disk: bool,
        progress: Callable[[], None],
        say: Callable[[str], None] = lambda text: None,
        first: int = 0,
    ) -> None:
        """Encode every image (and its flip where flip_aug is on) before the first step; progress() after each.

        first: the number of the first of these data sets.
        Images of one bucket that follow each other are encoded vae_batch_size at a time, while others are decoded.
        """
        if to_disk:
            self._vae_mark()
            self._judge_theirs(datasets, say)
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="pixels") as pool:
            try:
                for place, images, loaded in self._loaded_ahead(datasets, to_disk, pool, first):
                    for flip, cached in loaded:
                        self._keep(place, flip, cached.result(), self._encoded(images, flip, cached.result()))
                    for i, image, read in zip(place[1], images, loaded[0][1].result(), strict=True):
                        if to_disk and self.as_npz:
                            latents, flipped = self.kept[place[0], i, False], self.kept.get((place[0], i, True))
                            alpha = read.picture.mask if read.picture and image.by_alpha else None
                            self._share(image, latents, flipped, alpha)
                        progress()
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _keep(self, place: _Place, flip: bool, loaded: Sequence[_Loaded], latents: Sequence[Tensor]) -> None:
        for i, read, encoded in zip(place[1], loaded, latents, strict=True):
            self.kept[place[0], i, flip] = encoded
            if read.mask is not None:
                self.kept_masks[place[0], i, flip] = read.mask

    def _loaded_ahead(
        self, datasets: Sequence[TrainDataset], to_disk: bool, pool: ThreadPoolExecutor, first: int
    ) -> Iterator[_Ahead]:
        """The images in their order, a few of them already being read and decoded by other threads."""
        waiting: deque[_Ahead] = deque()
        ahead = max(1, 2 * _THREADS // self.vae_batch_size)
        for d, dataset in enumerate(datasets, start=first):
            order = self.order.cache_order([image.placement.bucket for image in dataset.images])
            for part in _runs_of_one_size(dataset, order, self.vae_batch_size):
                images = [dataset.images[i] for i in part]
                flips = (False, True) if images[0].subset.augment.flip_aug else (False,)
                waiting.append(((d, part), images, [(f, pool.submit(self._load, images, f, to_disk)) for f in flips]))
                if len(waiting) > ahead:
                    yield waiting.popleft()
        yield from waiting

    def _load(self, images: Sequence[TrainImage], flip: bool, to_disk: bool) -> list[_Loaded]:
        """Of each image its place on disk and what lies there, else its pixels."""
        return [self._load_one(image, flip, to_disk) for image in images]

    def _load_one(self, image: TrainImage, flip: bool, to_disk: bool) -> _Loaded:
        path = self._cache_path(image, flip) if to_disk and not self.as_npz else None
        latents, mask = _read_latents(path, mask=image.by_alpha) if path and path.exists() else (None, None)
        if latents is None and to_disk:
            latents, mask = self._theirs(image, flip)
        if latents is not None:
            painted = load_mask(image, self._drawn(image, flip), self.resize_interpolation)  # kept in no cache
            return _Loaded(path, latents, mask if painted is None else masks.shrunk(painted))
        picture = self._picture(image, flip)
        return _Loaded(path, None, None if picture.mask is None else masks.shrunk(picture.mask), picture)

    def _judge_theirs(self, datasets: Sequence[TrainDataset], say: Callable[[str], None]) -> None:
        """In which folders the latents that sd-scripts kept are this VAE's, told by the first that fits its image."""
        for image in (image for dataset in datasets for image in dataset.images):
            folder = image.record.path.parent
            if folder in self._fits or (latents := npz_caches.read_latents(image, self.family, flip=False)) is None:
                continue
            self._fits[folder] = self._encodes_to(image, latents)
            if not self._fits[folder]:
                say(npz_caches.OTHER.format("latents", folder, "VAE or other pictures"))

    @torch.no_grad()
    def _encodes_to(self, image: TrainImage, latents: Tensor) -> bool:
        pixels = self._picture(image, False).pixels[None].to(self.device, self.vae_dtype)
        posterior = self.vae.encode(pixels).latent_dist
        return npz_caches.is_sample_of(latents, posterior.mean[0].cpu(), posterior.std[0].cpu())

    def _theirs(self, image: TrainImage, flip: bool) -> tuple[Tensor | None, Tensor | None]:
        """The latents and the mask that sd-scripts kept of an image, where these and all of its flips fit."""
        if not self._fits.get(image.record.path.parent):
            return None, None
        flips = {flip, image.subset.augment.flip_aug, False}
        found = {side: npz_caches.read_latents(image, self.family, flip=side) for side in flips}
        mask = npz_caches.read_mask(image, self.family, flip=flip) if image.by_alpha else None
        if (mask is None and image.by_alpha) or any(latents is None for latents in found.values()):
            return None, None
        asked = found[flip]
        return None if asked is None else asked.to(self.latent_dtype), None if mask is None else masks.shrunk(mask)

    def _share(self, image: TrainImage, latents: Tensor, flipped: Tensor | None, mask: Tensor | None) -> None:
        """Write an image's latents as sd-scripts does, unless what is there is what was taken."""
        if npz_caches.shareable(image) and self._theirs(image, False)[0] is None:
            npz_caches.write_latents(image, self.family, latents, flipped, mask)

    def _encoded(self, images: Sequence[TrainImage], flip: bool, loaded: Sequence[_Loaded]) -> list[Tensor]:
        """The latents of images of one size; what was not on disk is encoded, and written there where wanted."""
        latents = [read.latents for read in loaded]
        missing = {i: read.picture.pixels for i, read in enumerate(loaded) if read.picture is not None}
        if missing:
            encoded = self.encode([*missing.values()], [f"{images[i].key}/{flip}" for i in missing]).cpu()
            for i, fresh in zip(missing, encoded, strict=True):
                latents[i] = fresh.clone()  # or each would keep its neighbours in memory
                if path := loaded[i].path:
                    _write_latents(path, fresh, loaded[i].mask if images[i].by_alpha else None)
        return [known for known in latents if known is not None]

    def _picture(self, image: TrainImage, flip: bool) -> Picture:
        return load_picture(image, self._drawn(image, flip), self.resize_interpolation)

    def _drawn(self, image: TrainImage, flip: bool) -> ImageDraw:
        return ImageDraw(flip, image.placement.crop_left, image.placement.crop_top)

    def _cache_path(self, image: TrainImage, flip: bool) -> Path:
        """A name that changes with the file, its bucket, the VAE and the stream, so that no stale cache is used."""
        stat = image.record.path.stat()
        facts = (
            stat.st_size, stat.st_mtime_ns, image.placement, image.record.upright, flip,
            image.subset.resize_interpolation or self.resize_interpolation,
            str(self.vae_dtype), type(self.order).__name__, self.order.seed, self._vae_mark(),
            *["alpha_mask"] * image.by_alpha,
        )  # fmt: skip
        mark = hashlib.blake2b(repr(facts).encode(), digest_size=10).hexdigest()
        return image.record.path.parent / CACHE_FOLDER / f"{image.record.path.name}-{mark}.safetensors"

    def _vae_mark(self) -> str:
        if not hasattr(self, "_mark"):
            self._mark = weights_mark([self.vae])
        return self._mark

    def __call__(self, batch: Batch) -> Tensor:
        if self.kept:
            parts = [self.kept[batch.dataset, e.index, e.draw.flip] for e in batch.examples]
            return torch.stack(parts).to(self.device, self.latent_dtype) * self.scale
        keys = [f"{e.image.key}/{e.draw.flip}" for e in batch.examples]
        return self.encode([future.result().pixels for future in batch.pictures], keys) * self.scale

    def masks_of(self, batch: Batch, latents: Tensor) -> Tensor | None:
        """What of each image counts in the loss, [B, 1, h, w] beside its latents; None where no image has a mask."""
        if self.kept:
            return masks.stacked(
                [self.kept_masks.get((batch.dataset, e.index, e.draw.flip)) for e in batch.examples], latents
            )
        drawn = [future.result().mask for future in batch.pictures]
        return masks.stacked([None if mask is None else masks.shrunk(mask) for mask in drawn], latents)


def _runs_of_one_size(dataset: TrainDataset, order: Sequence[int], most: int) -> Iterator[list[int]]:
    """The images in this order, cut where the bucket, flip_aug or alpha_mask changes and after `most`."""

    def kind(i: int) -> tuple[object, ...]:
        image = dataset.images[i]
        return image.placement.bucket, image.subset.augment.flip_aug, image.by_alpha

    for _, same in groupby(order, key=kind):
        members = list(same)
        for start in range(0, len(members), most):
            yield members[start : start + most]


def _read_latents(path: Path, *, mask: bool) -> tuple[Tensor | None, Tensor | None]:
    """The kept latents with their mask, where there is one; None where the file is damaged, so it is made anew."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        found = load_file(path) if path.is_file() else {}
    except (SafetensorError, OSError):
        found = {}
    return (None, None) if mask and "mask" not in found else (found.get("latents"), found.get("mask"))


def _write_latents(path: Path, latents: Tensor, mask: Tensor | None) -> None:
    from safetensors.torch import save_file

    if is_link(path.parent):
        return  # not our folder then; it costs time only
    path.parent.mkdir(exist_ok=True)
    tensors = {"latents": latents} if mask is None else {"latents": latents, "mask": mask}
    with in_place_of(path) as fresh:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, fresh)

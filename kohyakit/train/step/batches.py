"""From registered images to batches: which bucket, which draws, which pixels."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kohyakit.dataset.augment import ImageDraw, draw_image, process_caption
from kohyakit.dataset.buckets import Bucket, Placement, interpolation
from kohyakit.dataset.images import ImageRecord, shown
from kohyakit.dataset.layout import Subset
from kohyakit.dataset.sizes import size_condition
from kohyakit.dataset.sources.faces import FaceCrop, crop_around, face_in
from kohyakit.errors import DatasetError, Problem
from kohyakit.planning.plan import DatasetPlan
from kohyakit.train.step import masks
from kohyakit.train.step.rng import BatchSlot

if TYPE_CHECKING:
    import random

    import numpy as np


@dataclass(frozen=True, slots=True)
class TrainImage:
    """An image with its place in the plan and the weight of its loss."""

    record: ImageRecord
    subset: Subset
    placement: Placement
    weight: float
    bucketed: bool = True

    @property
    def by_alpha(self) -> bool:
        """Whether its transparency is its mask."""
        return self.subset.alpha_mask and self.record.mask is None

    def crop_around(self, bucket: tuple[int, int]) -> Callable[[random.Random], FaceCrop] | None:
        """What draws its crop, where that goes around a face."""
        limits = self.subset.face_crop_aug_range
        face = face_in(self.record.path.stem) if limits else None
        if limits is None or face is None:
            return None
        at_random, size = self.subset.augment.random_crop, self.record.size
        return lambda rng: crop_around(face, size, bucket, limits, rng, at_random=at_random)

    @property
    def key(self) -> str:
        """A name that is the same wherever the project lies."""
        return f"{self.record.path.parent.name}/{self.record.path.name}"


@dataclass(frozen=True, slots=True)
class Picture:
    """An image as drawn. pixels: [3, H, W] in [-1, 1]. mask: what of it counts, [H, W], or None for all of it."""

    pixels: Tensor
    mask: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Example:
    """One image of one batch after every draw: what the pixels and the caption will be."""

    index: int
    image: TrainImage
    draw: ImageDraw
    caption: str

    def sizes(self, bucket: Bucket, *, cached: bool = False) -> tuple[int, ...]:
        """What a family that looks at sizes is told of it; see `size_condition`.

        cached: as sd-scripts has them of cached latents, for which it never looks whether there are buckets.
        """
        image = self.image
        bucketed = image.bucketed or cached
        return size_condition(image.record.size, bucket, bucketed=bucketed, flipped=self.draw.flip)


@dataclass(slots=True)
class Batch:
    """What one step trains on. pictures come from `load`; position counts from 0 within the epoch."""

    dataset: int
    bucket: Bucket
    examples: list[Example]
    position: int
    pictures: list[Future[Picture]] = field(default_factory=list)

    def names(self) -> str:
        return ", ".join(example.image.key for example in self.examples)


class TrainDataset:
    """A data set of the plan, as a training looks into it: its images, and per bucket which of them, with repeats."""

    def __init__(self, plan: DatasetPlan, prior_loss_weight: float) -> None:
        self.source = plan.dataset
        self.batch_size = plan.dataset.batch_size
        self.images = tuple(
            TrainImage(
                placed.record, placed.subset, placed.placement, prior_loss_weight if placed.subset.is_reg else 1.0,
                plan.dataset.enable_bucket,
            )
            for placed in plan.images
        )  # fmt: skip
        self.buckets = tuple(row.bucket for row in plan.buckets)
        self.bucket_members: Sequence[Sequence[int]] = [
            array("q", (place for place in row.members for _ in range(plan.images[place].repeats)))
            for row in plan.buckets
        ]


def build_datasets(plans: Iterable[DatasetPlan], prior_loss_weight: float) -> list[TrainDataset]:
    """Every data set of a plan."""
    return [TrainDataset(plan, prior_loss_weight) for plan in plans]


def draw_batch(
    slot: BatchSlot, datasets: Sequence[TrainDataset], position: int, step: int, max_train_steps: int
) -> Batch:
    """Make every random choice of a batch, image by image, on the streams that the order gave it."""
    dataset = datasets[slot.dataset]
    examples = []
    for index, stream in zip(slot.images, slot.streams, strict=True):
        image = dataset.images[index]
        placement = image.placement
        size = (placement.bucket.width, placement.bucket.height)
        top_first = not dataset.source.enable_bucket
        draw = draw_image(
            image.subset.augment, placement.resized, size, stream, top_first=top_first, around=image.crop_around(size)
        )
        # sd-scripts does not tell a data set with control pictures which epoch and step it is
        epoch, told, most = (0, 0, 0) if image.subset.mask_squeezed else (slot.epoch, step, max_train_steps)
        caption = process_caption(
            image.record.caption, image.subset.captions, stream, epoch, told, max_train_steps=most
        )
        examples.append(Example(index, image, draw, caption))
    return Batch(slot.dataset, dataset.buckets[slot.bucket], examples, position)


def prefetch(
    batches: Iterable[Batch], load: Callable[[Example], Picture] | None, threads: int, ahead: int
) -> Iterator[Batch]:
    """The same batches, each fetched `ahead` of its turn, its pictures loaded by `threads` threads (0: in turn).

    load of None loads none (the latents are cached).
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="pixels") if threads and load else None
    waiting: deque[Batch] = deque()
    try:
        for batch in batches:
            if load:
                batch.pictures = [pool.submit(load, e) if pool else _done(load, e) for e in batch.examples]
            waiting.append(batch)
            if len(waiting) > ahead:
                yield waiting.popleft()
        yield from waiting
    finally:
        if pool:
            pool.shutdown(wait=False, cancel_futures=True)


def _done(load: Callable[[Example], Picture], example: Example) -> Future[Picture]:
    future: Future[Picture] = Future()
    try:
        future.set_result(load(example))
    except DatasetError as error:
        future.set_exception(error)
    return future


def load_pixels(image: TrainImage, draw: ImageDraw, resize_interpolation: str | None = None) -> Tensor:
    """The pixels of `load_picture`."""
    return load_picture(image, draw, resize_interpolation).pixels


def load_picture(image: TrainImage, draw: ImageDraw, resize_interpolation: str | None = None) -> Picture:
    """The image as the VAE sees it, scaled, cropped, coloured and flipped as drawn, and its mask likewise.

    Raises DatasetError naming the file when it does not decode.
    """
    import numpy as np

    pixels = fitted(read_pixels(image.record, alpha=image.by_alpha), image, draw, resize_interpolation)
    if draw.hue_shift is not None or draw.gamma is not None:
        pixels = np.concatenate((recolour(pixels[..., :3], draw), pixels[..., 3:]), axis=-1)
    if draw.flip:
        pixels = pixels[:, ::-1]
    mask = masks.of_alpha(pixels[..., 3]) if image.by_alpha else load_mask(image, draw, resize_interpolation)
    colours = torch.from_numpy(pixels[..., :3].copy()).permute(2, 0, 1)
    return Picture((colours.float() / 255.0 - 0.5) / 0.5, mask)


def load_mask(image: TrainImage, draw: ImageDraw, resize_interpolation: str | None = None) -> Tensor | None:
    """The image's mask that is a picture of its own, as drawn, [H, W]; None where it has none."""
    if image.record.mask is None:
        return None
    pixels = read_pixels(image.record.mask)
    if image.subset.mask_squeezed:
        pixels = _squeezed(pixels, image, image.subset.resize_interpolation or resize_interpolation)
    else:
        pixels = fitted(pixels, image, draw, resize_interpolation)
    return masks.of_picture(pixels[:, ::-1] if draw.flip else pixels)


def _squeezed(pixels: np.ndarray, image: TrainImage, how: str | None) -> np.ndarray:
    """Scaled to the bucket as sd-scripts does; without buckets it takes height and width for each other there."""
    size = (image.placement.bucket.width, image.placement.bucket.height)
    have = pixels.shape[1::-1] if image.bucketed else pixels.shape[:2]
    shrinks = have[0] >= size[0] and have[1] >= size[1]
    return resize(pixels, size, how or ("area" if shrinks else "lanczos"))


def fitted(pixels: np.ndarray, image: TrainImage, draw: ImageDraw, resize_interpolation: str | None) -> np.ndarray:
    """Pixels of the image's own size, scaled and cropped as drawn."""
    pixels = resize(
        pixels, draw.resized or image.placement.resized, image.subset.resize_interpolation or resize_interpolation
    )
    bucket = image.placement.bucket
    return pixels[draw.crop_top : draw.crop_top + bucket.height, draw.crop_left : draw.crop_left + bucket.width]


def read_pixels(record: ImageRecord, *, alpha: bool = False) -> np.ndarray:
    """Decode to [H, W, 3] uint8, or with alpha [H, W, 4]: 16 bits reduced to 8, upright.

    Without, transparency is dropped and not put on a background (as sd-scripts). Raises DatasetError naming the file
    when it does not decode.
    """
    import numpy as np
    from PIL import Image

    from kohyakit.dataset.decode import upright

    try:
        with Image.open(record.path) as image:
            if image.mode.startswith("I"):  # 16-bit grey: Pillow's own conversion would clip it to white
                grey = (np.asarray(image, dtype=np.int64) >> 8).clip(0, 255).astype(np.uint8)
                pixels = np.stack([grey] * 3 + [np.full_like(grey, 255)] * alpha, axis=-1)
            else:
                pixels = np.asarray(image.convert("RGBA" if alpha else "RGB"), dtype=np.uint8)
            # by the record, which its bucket was chosen by, and not by a second reading of the tag
            return np.ascontiguousarray(upright(pixels, record.orientation)) if record.upright else pixels
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        what = f"it does not decode ({error})"
        cure = "replace it, or leave it out with --skip-bad-images"
        raise DatasetError(Problem(shown(record.path), what, cure, name="undecodable")) from error


_OPENCV = {"nearest": "INTER_NEAREST_EXACT", "bilinear": "INTER_LINEAR", "linear": "INTER_LINEAR",
           "bicubic": "INTER_CUBIC", "cubic": "INTER_CUBIC", "area": "INTER_AREA"}  # fmt: skip


def resize(pixels: np.ndarray, size: tuple[int, int], how: str | None = None) -> np.ndarray:
    """Scale [H, W, channels] uint8 to (width, height): by area (OpenCV) where no side grows, else Lanczos (Pillow)."""
    have = (pixels.shape[1], pixels.shape[0])
    if have == size:
        return pixels
    how = how or interpolation(have, size)
    if how in _OPENCV:
        import cv2

        return cv2.resize(pixels, size, interpolation=getattr(cv2, _OPENCV[how]))
    import numpy as np
    from PIL import Image

    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))


def recolour(pixels: np.ndarray, draw: ImageDraw) -> np.ndarray:
    """color_aug as sd-scripts does it: a hue shift (red and blue swapped, as there) or a gamma."""
    import cv2
    import numpy as np

    if draw.gamma is not None:
        return np.clip(pixels**draw.gamma, 0, 255).astype(np.uint8)
    hsv = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_BGR2HSV)
    hsv[:, :, 0] = (hsv[:, :, 0] + (draw.hue_shift or 0.0) % 180) % 180
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)

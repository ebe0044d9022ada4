"""Data sets and their subsets: what is asked of each, as small frozen values, and how they are made of options."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from kohyakit.config.train import TrainConfig
from kohyakit.dataset.augment import CaptionOptions, ImageOptions
from kohyakit.dataset.buckets import BucketSettings
from kohyakit.dataset.images import ImageRecord
from kohyakit.dataset.sources.faces import Range, face_range
from kohyakit.dataset.sources.tables import PRESERVED, Values
from kohyakit.errors import Problem


@dataclass(frozen=True, slots=True)
class Subset:
    """A folder of images with its options.

    class_tokens: the caption of an image without a caption file, or None. records: the images whose headers read,
    by name. unreadable: the others. conditioning_data_dir: where its masks are. mask_squeezed: they are scaled to the
    bucket whole, whatever is cut off their image, as sd-scripts does. metadata_file: what names its images, below
    keys_below where not by their whole paths; image_dir is then that folder, or the file's. tags: those in the file.
    preserved: what the model says of them without the LoRA is to stay (diff_output_preservation).
    """

    image_dir: Path
    num_repeats: int = 1
    class_tokens: str | None = None
    is_reg: bool = False
    caption_extension: str = ".caption"
    captions: CaptionOptions = field(default_factory=CaptionOptions)
    augment: ImageOptions = field(default_factory=ImageOptions)
    alpha_mask: bool = False
    face_crop_aug_range: Range | None = None
    resize_interpolation: str | None = None
    conditioning_data_dir: Path | None = None
    mask_squeezed: bool = False
    metadata_file: Path | None = None
    keys_below: Path | None = None
    tags: tuple[str, ...] = ()
    preserved: bool = False
    records: tuple[ImageRecord, ...] = ()
    unreadable: tuple[Path, ...] = ()

    @property
    def name(self) -> str:
        """What it is called in the plan, in records and in files: as its folder, or as its metadata file."""
        return (self.metadata_file or self.image_dir).name


@dataclass(frozen=True, slots=True)
class Registered:
    """An image as one epoch uses it: `repeats` times."""

    record: ImageRecord
    subset: Subset
    repeats: int


@dataclass(frozen=True, slots=True)
class Dataset:
    """Subsets that share a resolution (width, height in pixels), a batch size and buckets.

    kind: what sd-scripts takes it for: dreambooth, finetuning where metadata files name its images, or controlnet
    where masks are its control pictures. network_multiplier: the LoRA's strength while it is trained.
    scales: without buckets, images of another size are scaled to cover the resolution. validation_split,
    validation_seed: the share of its photos that is held back, and what chooses them. shuffled: how many photos each
    of its subsets had when sd-scripts' own stream shuffled them, to choose those (see dataset.held_back).
    """

    resolution: tuple[int, int]
    batch_size: int = 1
    enable_bucket: bool = False
    min_bucket_reso: int = 256
    max_bucket_reso: int = 1024
    bucket_reso_steps: int = 64
    bucket_no_upscale: bool = False
    resize_interpolation: str | None = None
    scales: bool = True
    kind: str = "dreambooth"
    network_multiplier: float = 1.0
    validation_split: float = 0.0
    validation_seed: int | None = None
    shuffled: tuple[int, ...] = ()
    subsets: tuple[Subset, ...] = ()

    @property
    def bucket_settings(self) -> BucketSettings:
        return BucketSettings(
            self.resolution,
            self.enable_bucket,
            self.min_bucket_reso,
            self.max_bucket_reso,
            self.bucket_reso_steps,
            self.bucket_no_upscale,
            self.scales,
        )

    @property
    def train_images(self) -> int:
        """Training images times their repeats."""
        return sum(len(s.records) * s.num_repeats for s in self.subsets if not s.is_reg)

    def registered(self) -> tuple[Registered, ...]:
        """The images of an epoch in sd-scripts' order of registration: training images, then regularisation images.

        Regularisation images are repeated in turn until there are as many as training images times repeats; those
        not needed are left out.
        """
        found = [Registered(r, s, s.num_repeats) for s in self.subsets if not s.is_reg for r in s.records]
        return (*found, *_in_turn([(r, s) for s in self.subsets if s.is_reg for r in s.records], self.train_images))


def _in_turn(images: list[tuple[ImageRecord, Subset]], wanted: int) -> Iterator[Registered]:
    """Each image its own repeats in the first round, once more in every further one, until `wanted` are there."""
    have, times = 0, []
    for _, subset in images:
        if have >= wanted:
            break
        times.append(subset.num_repeats)
        have += subset.num_repeats
    if times and have < wanted:
        rounds, rest = divmod(wanted - have, len(times))
        times = [n + rounds + (place < rest) for place, n in enumerate(times)]
    for (record, subset), repeats in zip(images, times, strict=False):
        yield Registered(record, subset, repeats)


Get = Callable[[str], Any]


def getter(values: Values, config: TrainConfig) -> Get:
    """Options by name: the data set's own, else the config's."""

    def get(name: str) -> Any:
        value = values.get(name)
        if value is None and name == "caption_extension" and config.dataset.caption_extention:
            return config.dataset.caption_extention  # its older spelling goes first
        return config[name] if value is None and name not in _ONLY_IN_SUBSETS else value

    return get


_ONLY_IN_SUBSETS = {
    "num_repeats", "class_tokens", "is_reg", "image_dir", "batch_size", "conditioning_data_dir", "network_multiplier",
    "custom_attributes",
}  # fmt: skip


def dataset_of(resolution: tuple[int, int], subsets: Iterable[Subset], get: Get, kind: str = "dreambooth") -> Dataset:
    return Dataset(
        resolution,
        get("batch_size") or get("train_batch_size"),
        get("enable_bucket"),
        get("min_bucket_reso"),
        get("max_bucket_reso"),
        get("bucket_reso_steps"),
        get("bucket_no_upscale"),
        get("resize_interpolation"),
        kind=kind,
        network_multiplier=1.0 if (strength := get("network_multiplier")) is None else strength,
        validation_split=get("validation_split"),
        validation_seed=get("validation_seed"),
        subsets=tuple(subsets),
    )


def subset_of(folder: Path, get: Get) -> Subset:
    def options(kind: Any) -> Any:
        return kind(**{one.name: get(one.name) for one in fields(kind)})

    repeats = get("num_repeats")
    return Subset(
        folder,
        get("dataset_repeats") if repeats is None else repeats,
        get("class_tokens"),
        bool(get("is_reg")),
        _dotted(get("caption_extension")),
        options(CaptionOptions),
        options(ImageOptions),
        get("alpha_mask"),
        face_range(get("face_crop_aug_range")),
        get("resize_interpolation"),
        Path(beside) if (beside := get("conditioning_data_dir")) else None,
        preserved=bool((get("custom_attributes") or {}).get(PRESERVED)),
    )


def _dotted(extension: str) -> str:
    return f".{extension}" if extension and not extension.startswith(".") else extension


def parse_resolution(value: Any, where: str, problems: list[Problem]) -> tuple[int, int] | None:
    """`512`, `"512"`, `"768,512"` or `[768, 512]` as (width, height); None and a problem for anything else."""
    if value is None:
        problems.append(
            Problem(where, "the training resolution is not set", 'write resolution = "512,512"', "no_resolution")
        )
        return None
    parts = value.split(",") if isinstance(value, str) else value if isinstance(value, (list, tuple)) else [value]
    try:
        numbers = [int(part) for part in parts]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) not in (1, 2) or min(numbers) < 1:
        problems.append(
            Problem(where, f"resolution is {value!r}", 'write one size or two, such as "768,512"', "bad_resolution")
        )
        return None
    return numbers[0], numbers[-1]

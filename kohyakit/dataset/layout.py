"""What a config trains on, as it lies on disk: data sets, subsets, images, and everything wrong with the folders.

Folders and files are taken in the order of their names' code points on every system (`10_x` before `2_y`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from kohyakit.config.train import TrainConfig
from kohyakit.dataset import faults
from kohyakit.dataset.augment import CaptionOptions, ImageOptions
from kohyakit.dataset.buckets import BucketSettings
from kohyakit.dataset.folders import as_shown, subset_folders
from kohyakit.dataset.images import ImageRecord, shown
from kohyakit.dataset.sources import faces, masks
from kohyakit.dataset.sources.faces import Range, face_range
from kohyakit.dataset.sources.metadata import read_metadata
from kohyakit.dataset.sources.tables import PRESERVED, Tables, Values, read_tables
from kohyakit.dataset.subset_files import read_subset_files
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
    scales: without buckets, images of another size are scaled to cover the resolution.
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


@dataclass(frozen=True, slots=True)
class Scan:
    """What is there to train on, and what is wrong with it.

    unused: folders of regularisation images in data sets without training images, which nothing ever shows.
    """

    datasets: tuple[Dataset, ...]
    problems: tuple[Problem, ...] = ()
    unused: tuple[Subset, ...] = ()

    def subsets(self) -> Iterator[Subset]:
        for dataset in self.datasets:
            yield from dataset.subsets

    def records(self) -> Iterator[ImageRecord]:
        for subset in self.subsets():
            yield from subset.records


Get = Callable[[str], Any]


def scan(config: TrainConfig, *, by_sd_scripts: bool = False) -> Scan:
    """Look at everything the config trains on: headers and captions are read, no pixel is decoded. Never raises.

    by_sd_scripts: a checkout of sd-scripts is to train.
    """
    problems: list[Problem] = []
    datasets: Iterable[Dataset]
    as_there = by_sd_scripts or config.training.rng_order == "sd-scripts"
    if config.dataset.dataset_config:
        datasets = _from_file(config, problems, as_there=as_there, in_process=not by_sd_scripts)
    else:
        datasets = _from_folders(config, problems, as_there=as_there)
    # Without buckets sd-scripts scales only while it caches latents; here all are, unless its order is asked for.
    scales = not as_there or config.dataset.cache_latents or config.dataset.cache_latents_to_disk
    kept = [replace(_without_duplicates(dataset, problems), scales=scales) for dataset in datasets]
    filled = [_fill(dataset, config, problems, as_there=as_there) for dataset in kept]
    used = tuple(dataset for dataset in filled if any(s.records for s in dataset.subsets if not s.is_reg))
    alone = [
        (place, dataset)
        for place, dataset in enumerate(filled, start=1)
        if dataset.subsets and all(subset.is_reg for subset in dataset.subsets)
    ]
    problems += [_regularisation_alone(config, place, dataset) for place, dataset in alone]
    if not used and not any(p.severity == "error" for p in problems):
        problems.append(_nothing_to_train(config, only_regularisation=bool(alone)))
    return Scan(used, tuple(problems), tuple(subset for _, dataset in alone for subset in dataset.subsets))


def _regularisation_alone(config: TrainConfig, place: int, dataset: Dataset) -> Problem:
    """sd-scripts shows regularisation images only while there are training images in the same data set."""
    names = ", ".join(shown(subset.image_dir.name) for subset in dataset.subsets[:3])
    count = sum(len(subset.records) for subset in dataset.subsets)
    where = f"{shown(config.dataset.dataset_config)}: data set {place}" if config.dataset.dataset_config else names
    return Problem(
        where,
        f"the {count} regularisation images of {names} are not used, as no training image stands in that data set",
        "put the subset under the [[datasets]] that holds the training images"
        if config.dataset.dataset_config
        else "put training images into train_data_dir",
        "regularisation_alone",
        "warning",
    )


def _nothing_to_train(config: TrainConfig, *, only_regularisation: bool) -> Problem:
    if only_regularisation:
        what = "there are regularisation images only, and nothing is trained on these alone"
        return Problem("is_reg", what, "take is_reg out of the folder that is to be learned", "no_images")
    where = config.dataset.dataset_config or config.dataset.train_data_dir or "train_data_dir"
    return Problem(
        where,
        "there are no images to train on",
        "put photos (png, jpg, jpeg, webp, bmp) into folders such as 10_subject below it",
        "no_images",
    )


def _from_folders(config: TrainConfig, problems: list[Problem], *, as_there: bool) -> list[Dataset]:
    resolution = parse_resolution(config.dataset.resolution, "resolution", problems)
    if config.dataset.in_json:
        subsets = [_of_in_json(config, problems, as_there=as_there)]
        return [_dataset(resolution, subsets, _getter({}, config), "finetuning")] if resolution else []
    beside = _mask_folder(config, problems, as_there=as_there)
    subsets = []
    for option, is_reg in (("train_data_dir", False), ("reg_data_dir", True)):
        for folder in subset_folders(config[option], option, problems):
            values = {"num_repeats": folder.repeats, "class_tokens": folder.name, "is_reg": is_reg}
            if beside and not is_reg:
                values["conditioning_data_dir"] = masks.folder_of(beside, folder.path.name)
            subsets.append(_subset(folder.path, _getter(values, config)))
    return [_dataset(resolution, subsets, _getter({}, config))] if resolution else []


def _of_in_json(config: TrainConfig, problems: list[Problem], *, as_there: bool) -> Subset:
    for option in ("reg_data_dir", "conditioning_data_dir"):
        if config[option]:
            what = "it is not used, because in_json names the images"
            problems.append(Problem(option, what, "remove one of the two", "folder_beside_in_json", "warning"))
    folder = config.dataset.train_data_dir
    if as_there and not folder:
        what = "sd-scripts wants it beside in_json, even for whole paths"
        problems.append(Problem("train_data_dir", what, "name the folder of the images", "no_folder"))
    return _of_metadata(config.dataset.in_json or "", folder, _getter({}, config))


def _of_metadata(file: str, image_dir: str | None, get: Get) -> Subset:
    below = Path(image_dir) if image_dir else None
    subset = _subset(below or Path(file).parent, get)
    return replace(subset, metadata_file=Path(file), keys_below=below, class_tokens=None)


def _mask_folder(config: TrainConfig, problems: list[Problem], *, as_there: bool) -> str | None:
    """Where the masks of train_data_dir are, if they are looked at."""
    folder = config.dataset.conditioning_data_dir
    if folder and as_there:
        what, cure = "sd-scripts reads masks in a dataset_config only", "write one, with conditioning_data_dir in it"
    elif folder and not config.noise_loss.masked_loss:
        what, cure = "its masks are not looked at", "set masked_loss to true"
    else:
        return folder
    problems.append(Problem("conditioning_data_dir", what, cure, "masks_not_read", "warning"))
    return None


def _getter(values: Values, config: TrainConfig) -> Get:
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


def _dataset(resolution: tuple[int, int], subsets: Iterable[Subset], get: Get, kind: str = "dreambooth") -> Dataset:
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
        subsets=tuple(subsets),
    )


def _subset(folder: Path, get: Get) -> Subset:
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


def _without_duplicates(dataset: Dataset, problems: list[Problem]) -> Dataset:
    """A folder counts once in a data set, and only with at least one repeat."""
    seen: set[Path] = set()
    kept = []
    for subset in dataset.subsets:
        if subset.num_repeats < 1:
            problems.append(
                as_shown(faults.no_repeats(str(subset.metadata_file or subset.image_dir), subset.num_repeats))
            )
        elif (place := subset.metadata_file or subset.image_dir) in seen:
            problems.append(
                Problem(
                    shown(place),
                    "it is named twice in one data set; the second is ignored",
                    "raise num_repeats instead",
                    "duplicate_subset",
                    "warning",
                )
            )
        else:
            seen.add(place)
            kept.append(subset)
    return replace(dataset, subsets=tuple(kept))


def _fill(dataset: Dataset, config: TrainConfig, problems: list[Problem], *, as_there: bool) -> Dataset:
    odd_case, upright = config.training.rng_order != "sd-scripts", config.dataset.exif_orientation == "apply"
    filled, masked = [], dict[Path, list[Path]]()
    for subset in dataset.subsets:
        if subset.metadata_file:
            subset = _of_entries(subset, subset.metadata_file, problems, upright=upright, as_there=as_there)
        else:
            subset = _of_folder(subset, problems, upright=upright, odd_case=odd_case)
        if beside := subset.conditioning_data_dir:
            masked.setdefault(beside, []).extend((*(r.path for r in subset.records), *subset.unreadable))
            any_size = as_there and not dataset.enable_bucket
            records = masks.with_masks(
                subset.records, beside, problems, upright=upright, odd_case=odd_case, any_size=any_size
            )
            subset = replace(subset, records=records, mask_squeezed=as_there)
        if subset.face_crop_aug_range:
            subset = _of_faces(subset, dataset, config, problems, as_there=as_there)
        if subset.records or subset.unreadable:
            filled.append(subset)
    for folder, images in masked.items():
        problems.extend(masks.without_image(folder, images, odd_case=odd_case, stops=as_there))
    return replace(dataset, subsets=tuple(filled))


def _of_faces(
    subset: Subset, dataset: Dataset, config: TrainConfig, problems: list[Problem], *, as_there: bool
) -> Subset:
    """Without face_crop_aug_range where it does not act."""
    cached = config.dataset.cache_latents or config.dataset.cache_latents_to_disk
    ignored_for = "enable_bucket" if dataset.enable_bucket else "cache_latents" if cached else ""
    found = faces.told(subset.records, shown(subset.name), ignored_for=ignored_for, stops=as_there)
    problems += [problem for problem in found if problem not in problems]
    return replace(subset, face_crop_aug_range=None) if ignored_for else subset


def _of_folder(subset: Subset, problems: list[Problem], *, upright: bool, odd_case: bool) -> Subset:
    files = read_subset_files(
        subset.image_dir,
        subset.caption_extension,
        class_tokens=subset.class_tokens,
        enable_wildcard=subset.captions.enable_wildcard,
        upright=upright,
        odd_case=odd_case,
        is_reg=subset.is_reg,
    )
    problems.extend(files.problems)
    return replace(subset, records=files.records, unreadable=files.unreadable)


def _of_entries(subset: Subset, file: Path, problems: list[Problem], *, upright: bool, as_there: bool) -> Subset:
    found = read_metadata(
        file,
        subset.keys_below,
        separator=subset.captions.caption_separator,
        enable_wildcard=subset.captions.enable_wildcard,
        upright=upright,
        as_there=as_there,
    )
    problems.extend(found.problems)
    return replace(subset, records=found.records, unreadable=found.unreadable, tags=found.tags)


def _from_file(config: TrainConfig, problems: list[Problem], *, as_there: bool, in_process: bool) -> Iterator[Dataset]:
    """The data sets of a `dataset_config` file; what a table leaves open comes from the config."""
    for tables in read_tables(config, problems, as_there=as_there):
        get = _getter(tables.values, config)
        if in_process:
            problems.extend(_not_built_in(tables))
        resolution = parse_resolution(get("resolution"), tables.where, problems)
        subsets = [_of_table(values, config) for values in tables.subsets]
        if resolution:
            dataset = _dataset(resolution, subsets, get, tables.kind)
            yield replace(dataset, network_multiplier=1.0) if as_there else dataset


def _of_table(values: Values, config: TrainConfig) -> Subset:
    if values.get("metadata_file"):
        return _of_metadata(values["metadata_file"], values.get("image_dir"), _getter(values, config))
    return _subset(Path(values["image_dir"]), _getter(values, config))


# Options of a dataset_config that change the result and that the built-in trainer has no code for, and what is off.
_NOT_BUILT_IN = {"validation_split": 0}


def _not_built_in(tables: Tables) -> Iterator[Problem]:
    for name, off in _NOT_BUILT_IN.items():
        if any(values.get(name, off) != off for values in (tables.values, *tables.subsets)):
            what = f"the built-in trainer cannot do {name}"
            yield Problem(tables.where, what, "train with --backend sd-scripts", "not_built_in")

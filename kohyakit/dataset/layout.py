"""What a config trains on, as it lies on disk: data sets, subsets, images, and everything wrong with the folders.

Folders and files are taken in the order of their names' code points on every system (`10_x` before `2_y`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from kohyakit.config.train import TrainConfig
from kohyakit.dataset import faults
from kohyakit.dataset.folders import as_shown, subset_folders
from kohyakit.dataset.held_back import Choice
from kohyakit.dataset.images import ImageRecord, shown
from kohyakit.dataset.sources import masks
from kohyakit.dataset.sources.fill import fill
from kohyakit.dataset.sources.tables import Values, read_tables
from kohyakit.dataset.subsets import Dataset, Get, Subset, dataset_of, getter, parse_resolution, subset_of
from kohyakit.errors import Problem


@dataclass(frozen=True, slots=True)
class Scan:
    """What is there to train on, and what is wrong with it.

    unused: folders of regularisation images in data sets without training images, which nothing ever shows.
    held_back: photos that are not trained but measured, a data set for each that holds some back.
    """

    datasets: tuple[Dataset, ...]
    problems: tuple[Problem, ...] = ()
    unused: tuple[Subset, ...] = ()
    held_back: tuple[Dataset, ...] = ()

    def subsets(self) -> Iterator[Subset]:
        for dataset in self.datasets:
            yield from dataset.subsets

    def records(self) -> Iterator[ImageRecord]:
        """Every image that is opened: those of the training, and what it holds back."""
        for subset in self.subsets():
            yield from subset.records
        if self.held_back:
            trained = {record.path for subset in self.subsets() for record in subset.records}
            held = (record for dataset in self.held_back for subset in dataset.subsets for record in subset.records)
            yield from (record for record in held if record.path not in trained)


def scan(config: TrainConfig, *, by_sd_scripts: bool = False) -> Scan:
    """Look at everything the config trains on: headers and captions are read, no pixel is decoded. Never raises.

    by_sd_scripts: a checkout of sd-scripts is to train.
    """
    problems: list[Problem] = []
    datasets: Iterable[Dataset]
    as_there = by_sd_scripts or config.training.rng_order == "sd-scripts"
    if config.dataset.dataset_config:
        datasets = _from_file(config, problems, as_there=as_there)
    else:
        datasets = _from_folders(config, problems, as_there=as_there)
    # Without buckets sd-scripts scales only while it caches latents; here all are, unless its order is asked for.
    scales = not as_there or config.dataset.cache_latents or config.dataset.cache_latents_to_disk
    kept = [replace(_without_duplicates(dataset, problems), scales=scales) for dataset in datasets]
    filled = [fill(dataset, config, problems, as_there=as_there) for dataset in kept]
    choice = Choice(config.training.seed, as_sd_scripts=as_there)
    split = [_part(dataset, choice, held=False) for dataset in filled]
    held = tuple(_part(dataset, choice, held=True) for dataset in filled if dataset.validation_split)
    photos = [any(s.records for s in dataset.subsets if not s.is_reg) for dataset in split]
    # sd-scripts keeps a data set that is held back as a whole among the trained ones, empty
    used = tuple(d for d, own in zip(split, photos, strict=True) if own or (any(photos) and d.validation_split == 1))
    alone = [
        (place, dataset)
        for place, dataset in enumerate(filled, start=1)
        if dataset.subsets and all(subset.is_reg for subset in dataset.subsets)
    ]
    problems += [_regularisation_alone(config, place, dataset) for place, dataset in alone]
    if not used and not any(p.severity == "error" for p in problems):
        problems.append(_nothing_to_train(config, only_regularisation=bool(alone)))
    unused = tuple(subset for _, dataset in alone for subset in dataset.subsets)
    return Scan(used, tuple(problems), unused, held if used else ())


def _part(dataset: Dataset, choice: Choice, *, held: bool) -> Dataset:
    """The trained part of a data set, with all its regularisation images, or what it holds back, each photo once.

    sd-scripts takes photos out of plain folders only: of those with masks it measures the trained part, drawn again,
    and of those that metadata files name it trains and measures all.
    """
    share, seed = dataset.validation_split, dataset.validation_seed
    whole = choice.as_sd_scripts and dataset.kind != "dreambooth"
    if choice.as_sd_scripts and dataset.kind == "finetuning":
        share = 0.0
    subsets = []
    for subset in dataset.subsets:
        if not subset.is_reg:
            records = choice.part(subset.records, subset.name, share, seed, held=held and not whole)
            subset = replace(subset, records=records, num_repeats=subset.num_repeats if whole or not held else 1)
        elif held:
            continue
        if subset.records or (subset.unreadable and not held):
            subsets.append(subset)
    photos = (len(subset.records) for subset in dataset.subsets if not subset.is_reg)
    return replace(dataset, subsets=tuple(subsets), shuffled=tuple(photos) if choice.shuffles(share, seed) else ())


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
        return [dataset_of(resolution, subsets, getter({}, config), "finetuning")] if resolution else []
    beside = _mask_folder(config, problems, as_there=as_there)
    subsets = []
    for option, is_reg in (("train_data_dir", False), ("reg_data_dir", True)):
        for folder in subset_folders(config[option], option, problems):
            values = {"num_repeats": folder.repeats, "class_tokens": folder.name, "is_reg": is_reg}
            if beside and not is_reg:
                values["conditioning_data_dir"] = masks.folder_of(beside, folder.path.name)
            subsets.append(subset_of(folder.path, getter(values, config)))
    return [dataset_of(resolution, subsets, getter({}, config))] if resolution else []


def _of_in_json(config: TrainConfig, problems: list[Problem], *, as_there: bool) -> Subset:
    for option in ("reg_data_dir", "conditioning_data_dir"):
        if config[option]:
            what = "it is not used, because in_json names the images"
            problems.append(Problem(option, what, "remove one of the two", "folder_beside_in_json", "warning"))
    folder = config.dataset.train_data_dir
    if as_there and not folder:
        what = "sd-scripts wants it beside in_json, even for whole paths"
        problems.append(Problem("train_data_dir", what, "name the folder of the images", "no_folder"))
    return _of_metadata(config.dataset.in_json or "", folder, getter({}, config))


def _of_metadata(file: str, image_dir: str | None, get: Get) -> Subset:
    below = Path(image_dir) if image_dir else None
    subset = subset_of(below or Path(file).parent, get)
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


def _from_file(config: TrainConfig, problems: list[Problem], *, as_there: bool) -> Iterator[Dataset]:
    """The data sets of a `dataset_config` file; what a table leaves open comes from the config."""
    for tables in read_tables(config, problems, as_there=as_there):
        get = getter(tables.values, config)
        resolution = parse_resolution(get("resolution"), tables.where, problems)
        subsets = [_of_table(values, config) for values in tables.subsets]
        if resolution:
            dataset = dataset_of(resolution, subsets, get, tables.kind)
            yield replace(dataset, network_multiplier=1.0) if as_there else dataset


def _of_table(values: Values, config: TrainConfig) -> Subset:
    if values.get("metadata_file"):
        return _of_metadata(values["metadata_file"], values.get("image_dir"), getter(values, config))
    return subset_of(Path(values["image_dir"]), getter(values, config))

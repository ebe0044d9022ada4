"""The images of a data set, with their captions and masks, from folders or metadata files, and what is wrong there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from kohyakit.config.train import TrainConfig
from kohyakit.dataset.images import shown
from kohyakit.dataset.sources import faces, masks
from kohyakit.dataset.sources.metadata import read_metadata
from kohyakit.dataset.subset_files import read_subset_files
from kohyakit.dataset.subsets import Dataset, Subset
from kohyakit.errors import Problem


def fill(dataset: Dataset, config: TrainConfig, problems: list[Problem], *, as_there: bool) -> Dataset:
    """The data set with its images. What is wrong is added to problems. as_there: sd-scripts trains, or is repeated."""
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

"""The metadata of a LoRA file: Kohya's ss_* record of the training, and modelspec.* (SAI model spec 1.0.1)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from kohyakit import __version__
from kohyakit.config.rules.reading import resolution
from kohyakit.config.scripts import model_family
from kohyakit.config.train import TrainConfig
from kohyakit.dataset.layout import Subset
from kohyakit.dataset.sources.faces import face_range
from kohyakit.registry.families import MODELS, Record
from kohyakit.train.step.batches import TrainDataset

# What sd-scripts keeps with no_metadata.
MINIMUM = (
    "ss_v2",
    "ss_base_model_version",
    "ss_network_module",
    "ss_network_dim",
    "ss_network_alpha",
    "ss_network_args",
)

# ss_<name> of these is the parameter of that name, as it was written.
_AS_WRITTEN = (
    "output_name", "learning_rate", "unet_lr", "gradient_checkpointing", "gradient_accumulation_steps",
    "lr_warmup_steps", "lr_scheduler", "network_module", "network_dim", "network_alpha", "network_dropout",
    "mixed_precision", "full_fp16", "v2", "clip_skip", "max_token_length", "cache_latents", "lowram", "noise_offset",
    "multires_noise_iterations", "multires_noise_discount", "adaptive_noise_scale", "zero_terminal_snr",
    "training_comment", "max_grad_norm", "caption_dropout_rate", "caption_dropout_every_n_epochs",
    "caption_tag_dropout_rate", "prior_loss_weight", "min_snr_gamma", "scale_weight_norms",
    "ip_noise_gamma", "debiased_estimation_loss", "noise_offset_random_strength", "ip_noise_gamma_random_strength",
    "loss_type", "huber_schedule", "huber_scale", "huber_c", "fp8_base", "fp8_base_unet", "validation_seed",
    "validation_split", "max_validation_steps", "validate_every_n_epochs", "validate_every_n_steps",
    "resize_interpolation",
)  # fmt: skip
_RENAMED = {"debiased_estimation_loss": "debiased_estimation"}
# What sd-scripts writes of a data set with masks of its own, whose insides it does not see.
_NOTHING_KNOWN: dict[str, Any] = {
    "enable_bucket": False, "min_bucket_reso": None, "max_bucket_reso": None, "tag_frequency": {}, "bucket_info": None,
    "subsets": [],
}  # fmt: skip
_SINGLE_DATASET = ("color_aug", "flip_aug", "random_crop", "shuffle_caption", "keep_tokens")


def training_metadata(
    config: TrainConfig, datasets: Sequence[TrainDataset], facts: Mapping[str, Any], *, held: int = 0
) -> dict[str, str]:
    """Every ss_* entry known before the first step. facts: what was computed (seed, steps, optimizer …) by ss_ name.

    facts go before what was written; ss_total_batch_size is kept where there is one batch size only. held: photos
    that are held back.
    """
    found: dict[str, Any] = {f"ss_{_RENAMED.get(name, name)}": config[name] for name in _AS_WRITTEN}
    found["ss_face_crop_aug_range"] = face_range(config.dataset.face_crop_aug_range)
    found["ss_text_encoder_lr"] = next(iter(config.optimizer.text_encoder_lr or ()), None)  # networks.lora's own choice
    found["ss_cache_latents"] = config.dataset.cache_latents or config.dataset.cache_latents_to_disk
    found["ss_base_model_version"] = _base(config).version
    found["ss_sd_scripts_commit_hash"] = "(unknown)"
    found["ss_num_train_images"] = sum(_image_count(d, reg=False) for d in datasets)
    found["ss_num_reg_images"] = sum(_image_count(d, reg=True) for d in datasets)
    found["ss_num_validation_images"] = held
    found.update(facts)
    if config.dataset.dataset_config:
        del found["ss_total_batch_size"]
        found.update(_many_datasets(datasets, as_sd_scripts=config.training.rng_order == "sd-scripts"))
    else:
        found.update(_one_dataset(config, datasets[0]))
    if config.network.network_args:
        arguments: dict[str, Any] = dict(argument.split("=", 1) for argument in config.network.network_args)
        if not config.network.dim_from_weights:  # which takes nothing but the file
            arguments.setdefault("dropout", config.network.network_dropout)
        found["ss_network_args"] = json.dumps(arguments)
    return {name: str(value) for name, value in found.items()}


def _image_count(dataset: TrainDataset, *, reg: bool) -> int:
    """Training images times repeats; regularisation images are counted once each, as sd-scripts does."""
    if reg:
        return sum(len(s.records) * s.num_repeats for s in dataset.source.subsets if s.is_reg)
    return dataset.source.train_images


def _directories(subsets: Sequence[Subset]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for subset in subsets:
        name, n = subset.name, 2
        while name in found:
            name, n = f"{subset.name} ({n})", n + 1
        found[name] = {"n_repeats": subset.num_repeats, "img_count": len(subset.records)}
    return found


def _one_dataset(config: TrainConfig, dataset: TrainDataset) -> dict[str, Any]:
    source = dataset.source
    settings = source.bucket_settings
    low, high = _bucket_bounds(dataset)
    return {
        "ss_batch_size_per_device": config.dataset.train_batch_size,
        "ss_resolution": source.resolution,
        **{f"ss_{name}": config[name] for name in _SINGLE_DATASET},
        "ss_enable_bucket": settings.enable_bucket,
        "ss_bucket_no_upscale": settings.bucket_no_upscale,
        "ss_min_bucket_reso": low,
        "ss_max_bucket_reso": high,
        "ss_dataset_dirs": json.dumps(_directories([s for s in source.subsets if not s.is_reg])),
        "ss_reg_dataset_dirs": json.dumps(_directories([s for s in source.subsets if s.is_reg])),
        "ss_tag_frequency": json.dumps(tag_frequency(source.subsets)),
        "ss_bucket_info": json.dumps(bucket_info(dataset)),
    }


def _bucket_bounds(dataset: TrainDataset) -> tuple[int | None, int | None]:
    from kohyakit.dataset.buckets import CannotPlace, rounded_min_max

    settings = dataset.source.bucket_settings
    if not settings.enable_bucket:
        return None, None
    try:
        return rounded_min_max(settings)
    except CannotPlace:  # without upscaling the bounds are not used, and need not fit
        return settings.min_bucket_reso, settings.max_bucket_reso


def _many_datasets(datasets: Sequence[TrainDataset], *, as_sd_scripts: bool) -> dict[str, Any]:
    described, subsets = [], list[Subset]()
    tags: dict[str, dict[str, int]] = {}
    for dataset in datasets:
        source = dataset.source
        low, high = _bucket_bounds(dataset)
        frequency = tag_frequency(source.subsets)
        described.append(
            {
                "is_dreambooth": source.kind == "dreambooth",
                "batch_size_per_device": source.batch_size,
                "num_train_images": _image_count(dataset, reg=False),
                "num_reg_images": _image_count(dataset, reg=True),
                "resolution": source.resolution,
                "enable_bucket": source.enable_bucket,
                "min_bucket_reso": low,
                "max_bucket_reso": high,
                "tag_frequency": frequency,
                "bucket_info": bucket_info(dataset),
                "resize_interpolation": source.resize_interpolation,
                "subsets": [_describe(subset) for subset in source.subsets],
            }
        )
        if source.kind == "controlnet" and as_sd_scripts:
            described[-1] |= _NOTHING_KNOWN
            continue
        subsets += [subset for subset in source.subsets if not subset.is_reg]
        for name, counts in frequency.items():  # a folder in several data sets counts once
            tags.setdefault(name, counts)
    return {
        "ss_datasets": json.dumps(described),
        "ss_tag_frequency": json.dumps(tags),
        "ss_dataset_dirs": json.dumps(_directories(subsets)),
    }


def _describe(subset: Subset) -> dict[str, Any]:
    captions, augment = subset.captions, subset.augment
    return {
        "img_count": len(subset.records),
        "num_repeats": subset.num_repeats,
        "color_aug": augment.color_aug,
        "flip_aug": augment.flip_aug,
        "random_crop": augment.random_crop,
        "shuffle_caption": captions.shuffle_caption,
        "keep_tokens": captions.keep_tokens,
        "keep_tokens_separator": captions.keep_tokens_separator,
        "secondary_separator": captions.secondary_separator,
        "enable_wildcard": captions.enable_wildcard,
        "caption_prefix": captions.caption_prefix,
        "caption_suffix": captions.caption_suffix,
        "resize_interpolation": subset.resize_interpolation,
        **_place(subset),
    }


def _place(subset: Subset) -> dict[str, Any]:
    if subset.metadata_file is None:
        return {"image_dir": subset.name, "class_tokens": subset.class_tokens, "is_reg": subset.is_reg}
    folder = {"image_dir": subset.keys_below.name} if subset.keys_below else {}
    return {**folder, "metadata_file": subset.name}


def tag_frequency(subsets: Sequence[Subset]) -> dict[str, dict[str, int]]:
    """Per folder how often each comma-separated tag stands in a caption, lower-cased; the folder's name counts too.

    Of a metadata file its tags alone count, as in sd-scripts.
    """
    found: dict[str, dict[str, int]] = {}
    for subset in subsets:
        counts = found.setdefault(subset.name, {})
        texts = subset.tags if subset.metadata_file else [record.caption for record in subset.records]
        for text in texts:
            for tag in text.split(","):
                tag = tag.strip().lower()
                if tag:
                    counts[tag] = counts.get(tag, 0) + 1
    return found


def bucket_info(dataset: TrainDataset) -> dict[str, Any] | None:
    """Buckets with their counts (repeats included) and the mean aspect-ratio error; None without buckets."""
    if not dataset.source.enable_bucket:
        return None
    import numpy as np

    buckets = {
        str(i): {"resolution": [bucket.width, bucket.height], "count": len(members)}
        for i, (bucket, members) in enumerate(zip(dataset.buckets, dataset.bucket_members, strict=True))
    }
    errors = np.abs(np.array([image.placement.ar_error for image in dataset.images]))
    return {"buckets": buckets, "mean_img_ar_error": float(np.mean(errors))}


def model_facts(path: str | None, prefix: str) -> dict[str, Any]:
    """ss_<prefix>_name and, for a file that is there, both hashes (the old one reads 64 KiB at 1 MiB).

    prefix: `sd_model` or `vae`. A folder's hashes read IsADirectory, as in sd-scripts.
    """
    if path is None:
        return {}
    place = Path(path)
    old, new = f"ss_{prefix}_hash", f"ss_new_{prefix}_hash"
    if place.is_dir():
        return {old: "IsADirectory", new: "IsADirectory", f"ss_{prefix}_name": place.name}
    if not place.is_file():
        return {f"ss_{prefix}_name": path}
    digest = hashlib.sha256()
    with open(place, "rb") as file:
        file.seek(0x100000)
        short = hashlib.sha256(file.read(0x10000)).hexdigest()[:8]
        file.seek(0)
        for block in iter(lambda: file.read(1 << 22), b""):
            digest.update(block)
    return {old: short, new: digest.hexdigest(), f"ss_{prefix}_name": place.name}


def _base(config: TrainConfig) -> Record:
    """What the records call the base model."""
    family = MODELS[model_family(config.launch.script, v2=config.model.v2)]
    return family.record(v=config.model.v_parameterization)


def model_spec(config: TrainConfig, now: datetime) -> dict[str, str]:
    """The modelspec.* entries (SAI model spec 1.0.1) of a LoRA written now.

    Their resolution is the option's; a dataset_config may have several, and then it is the base model's own.
    """
    saving, model, noise = config.saving, config.model, config.noise_loss
    base = _base(config)
    width, height = resolution(config) or (base.side, base.side)
    found: dict[str, Any] = {
        "sai_model_spec": "1.0.1",
        "architecture": f"{base.architecture}/lora",
        "implementation": base.implementation,
        "implementation_version": f"kohyakit/{__version__}",
        "title": saving.metadata_title or saving.output_name or f"LoRA@{now.timestamp()}",
        "date": now.replace(microsecond=0, tzinfo=None).isoformat(),
        "resolution": f"{width}x{height}",
        "prediction_type": "v" if model.v_parameterization else "epsilon",
    }
    for name in ("author", "description", "license", "tags", "usage_hint", "thumbnail", "merged_from",
                 "trigger_phrase", "preprocessor", "is_negative_embedding"):  # fmt: skip
        found[name] = config[f"metadata_{name}"]
    if noise.min_timestep is not None or noise.max_timestep is not None:
        found["timestep_range"] = ",".join(map(str, noise.timesteps))
    found["encoder_layer"] = model.clip_skip
    return {f"modelspec.{name}": str(value) for name, value in found.items() if value is not None}

"""What is trained on: folders, captions, augmentation, caching."""

from __future__ import annotations

from dataclasses import dataclass

from kohyakit.config.param import param


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetConfig:
    """What is trained on: folders, captions, augmentation, caching."""

    train_data_dir: str | None = param(None, blank=("",))
    cache_info: bool = param(False)
    shuffle_caption: bool = param(False)
    caption_separator: str = param(",")
    caption_extension: str = param(".caption")
    caption_extention: str | None = param(None, blank=("",))
    keep_tokens: int = param(0)
    keep_tokens_separator: str = param("")
    secondary_separator: str | None = param(None, blank=("",))
    enable_wildcard: bool = param(False)
    caption_prefix: str | None = param(None, blank=("",))
    caption_suffix: str | None = param(None, blank=("",))
    color_aug: bool = param(False)
    flip_aug: bool = param(False)
    face_crop_aug_range: str | None = param(None, blank=("",))
    random_crop: bool = param(False)
    debug_dataset: bool = param(False)
    resolution: str | None = param(None, blank=("",), gui=("max_resolution",))
    cache_latents: bool = param(False)
    vae_batch_size: int = param(1)
    cache_latents_to_disk: bool = param(False)
    skip_cache_check: bool = param(False)
    resize_interpolation: str | None = param(None, choices=("lanczos", "nearest", "bilinear", "linear", "bicubic", "cubic", "area"), blank=("",))
    token_warmup_min: int = param(1)
    token_warmup_step: float = param(0.0)
    alpha_mask: bool = param(False)
    dataset_class: str | None = param(None, blank=("",))
    caption_dropout_rate: float = param(0.0)
    caption_dropout_every_n_epochs: int = param(0)
    caption_tag_dropout_rate: float = param(0.0)
    reg_data_dir: str | None = param(None, blank=("",))
    in_json: str | None = param(None, blank=("",))
    dataset_repeats: int = param(1)
    train_batch_size: int = param(1)
    conditioning_data_dir: str | None = param(None, blank=("",))
    dataset_config: str | None = param(None, blank=("",))
    validation_seed: int | None = param(None)
    validation_split: float = param(0.0)
    cache_text_encoder_outputs: bool = param(False)
    cache_text_encoder_outputs_to_disk: bool = param(False)
    text_encoder_batch_size: int | None = param(None)
    exif_orientation: str = param("apply", choices=("apply", "ignore"), own=True)

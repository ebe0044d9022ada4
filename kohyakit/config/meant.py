"""Which name or choice was meant: by meaning first (what other tools and people call it), then by spelling.

A spelling counts only where word stands beside word: `batch_size` is no slip of the pen for `vae_batch_size`.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

# what other tools and people say -> sd-scripts' name
OTHER_NAMES: Mapping[str, str] = MappingProxyType(
    {
        other: name
        for name, others in {
            "network_dim": "rank dim lora_rank lora_dim network_rank lora_r linear",
            "network_alpha": "alpha lora_alpha linear_alpha",
            "network_module": "network_type lora_module",
            "network_dropout": "lora_dropout dropout",
            "learning_rate": "lr base_lr",
            "text_encoder_lr": "te_lr te_learning_rate text_encoder_learning_rate",
            "unet_lr": "unet_learning_rate",
            "lr_scheduler": "scheduler learning_rate_scheduler lr_schedule",
            "lr_scheduler_num_cycles": "lr_restart_cycles num_cycles restart_cycles lr_scheduler_cycles "
            "lr_restarts num_restarts",
            "lr_warmup_steps": "warmup warmup_steps num_warmup_steps learning_rate_warmup_steps",
            "optimizer_type": "optimizer optim optimiser",
            "train_batch_size": "batch batch_size batchsize per_device_train_batch_size bs",
            "gradient_accumulation_steps": "grad_accum accumulation_steps accumulate_grad_batches",
            "max_train_steps": "steps max_steps num_steps train_steps total_steps",
            "max_train_epochs": "epochs num_epochs max_epochs num_train_epochs train_epochs max_train_epoches",
            "mixed_precision": "precision train_dtype",
            "save_precision": "save_dtype output_dtype",
            "max_grad_norm": "clip_grad_norm grad_clip max_norm",
            "min_snr_gamma": "min_snr snr_gamma",
            "enable_bucket": "buckets bucketing aspect_ratio_bucketing enable_buckets",
            "dataset_repeats": "repeats num_repeats",
            "sample_prompts": "samples prompts validation_prompts",
            "sample_every_n_steps": "sample_every",
            "pretrained_model_name_or_path": "model base_model base_model_name model_name checkpoint ckpt model_path "
            "pretrained_model base_model_path ckpt_path",
            "vae": "vae_path vae_model",
            "train_data_dir": "data_dir dataset_dir image_dir images_dir train_dir instance_data_dir dataset_path",
            "reg_data_dir": "class_data_dir reg_dir regularization_dir reg_img_dir",
            "output_dir": "save_dir out_dir output_path",
            "output_name": "save_name lora_name output_file",
            "logging_dir": "log_dir logdir",
            "resolution": "image_size train_resolution",
            "caption_extension": "caption_ext caption_suffix_extension",
            "save_every_n_steps": "save_every save_steps checkpointing_steps",
            "persistent_data_loader_workers": "persistent_workers",
            "max_data_loader_n_workers": "num_workers dataloader_num_workers data_loader_workers",
            "resume": "resume_from_checkpoint",
            "zero_terminal_snr": "rescale_noise_scheduler_to_zero_terminal_snr",
        }.items()
        for other in others.split()
    }
)

# choices that mean the same, whoever writes them
_SAME = tuple(
    frozenset(group.split())
    for group in (
        "fp16 float16 f16 half 16 torch.float16",
        "bf16 bfloat16 torch.bfloat16",
        "float fp32 float32 f32 full 32 no torch.float32",
        "cosine cosine_annealing cosineannealing",
        "cosine_with_restarts cosine_annealing_warm_restarts cosine_restarts",
        "constant_with_warmup constant_warmup",
        "l2 mse",
        "l1 mae",
        "euler_a k_euler_a euler_ancestral",
    )
)


def meant_name(name: str, known: Collection[str]) -> str:
    """The known name that was meant, or "" where none is plain. Never the name itself."""
    plain = name.strip().lstrip("-").replace("-", "_").lower()
    other = OTHER_NAMES.get(plain, "")
    if other in known and other != name:
        return other
    return _by_spelling(plain[:80], tuple(known), name)


@lru_cache(maxsize=4096)
def _by_spelling(plain: str, known: tuple[str, ...], name: str) -> str:
    for near in difflib.get_close_matches(plain, known, n=3, cutoff=0.8):
        if near != name and _same_words(plain, near.lower()):
            return near
    return ""


def _same_words(one: str, other: str) -> bool:
    """Are these the same words, each with a slip at most?"""
    if _alike(one.replace("_", ""), other.replace("_", "")) >= 0.92:
        return True
    mine, theirs = one.split("_"), other.split("_")
    return len(mine) == len(theirs) and all(map(_word, mine, theirs))


def _word(one: str, other: str) -> bool:
    return one == other or (min(len(one), len(other)) > 2 and _alike(one, other) >= 0.7)


def _alike(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()


def meant_choice(value: Any, choices: Iterable[Any]) -> str:
    """The choice that was meant, or "" where none is plain."""
    by_text = {str(choice).lower(): str(choice) for choice in choices if choice not in ("", None)}
    text = str(value).strip().lower()[:60]
    if text in by_text:
        return by_text[text]
    groups = [group for group in _SAME if text in group]
    for group in groups:
        for other in sorted(group):
            if other in by_text:
                return by_text[other]
    if groups:
        return ""
    near = difflib.get_close_matches(text, by_text, n=1, cutoff=0.7)
    return by_text[near[0]] if near else ""

"""Which arguments each sd-scripts program reads, and where one's default or choices differ from the others'.

Facts of sd-scripts 0.10.1. Every program reads every parameter of `TrainConfig` except our own ones and those
in `_ONLY_IN`; a key of a `config_file` that the chosen program does not read is dropped by it without a word.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from kohyakit.registry.families import MODELS, in_group

_TUNING = ("dreambooth", "finetune")  # the GUI's tabs for full training


def _programs(*tabs: str, family: str = "") -> tuple[str, ...]:
    """The programs that these tabs start, each once; of one family or of all."""
    entries = [MODELS[family]] if family else MODELS.values()
    return tuple(dict.fromkeys(entry.scripts[tab] for entry in entries for tab in tabs if tab in entry.scripts))


_LORA, _TUNE, _TI = _programs("lora"), _programs(*_TUNING), _programs("ti")
_SDXL, _FLUX, _SD3, _HUNYUAN, _ANIMA, _LUMINA = (
    _programs("lora", *_TUNING, family=family) for family in ("sdxl", "flux", "sd3", "hunyuan_image", "anima", "lumina")
)
_TRANSFORMERS = (*_FLUX, *_SD3, *_HUNYUAN, *_ANIMA, *_LUMINA)

SCRIPTS: tuple[str, ...] = (*_LORA, *_TUNE, *_TI)

# What a script trains, and on which family of base models.
LORA_SCRIPTS, FINETUNE_SCRIPTS, TI_SCRIPTS = frozenset(_LORA), frozenset(_TUNE), frozenset(_TI)
FAMILIES: Mapping[str, str] = MappingProxyType(
    {script: entry.group for entry in MODELS.values() for script in entry.scripts.values()}
)


def model_family(script: str, *, v2: bool = False) -> str:
    """The model family that a script trains: sd1, sd2, sdxl, flux …; empty for a script nobody knows."""
    return in_group(FAMILIES.get(script, ""), v2=v2)


# bucket_reso_steps must divide by this; sd-scripts stops otherwise.
BUCKET_STEPS: Mapping[str, int] = MappingProxyType(
    {
        script: entry.tuning_steps if tab in _TUNING and entry.tuning_steps else entry.bucket_steps
        for entry in MODELS.values()
        for tab, script in entry.scripts.items()
    }
)


def _without(group: tuple[str, ...], *left_out: str) -> tuple[str, ...]:
    return tuple(script for script in group if script not in left_out)


_ONLY_IN: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        _LORA,
        "no_metadata unet_lr text_encoder_lr fp8_base_unet network_weights network_module network_dim network_alpha "
        "network_dropout network_args network_train_unet_only network_train_text_encoder_only training_comment "
        "dim_from_weights scale_weight_norms base_weights base_weights_multiplier skip_until_initial_step "
        "initial_epoch initial_step validation_seed validation_split validate_every_n_steps validate_every_n_epochs "
        "max_validation_steps",
    ),
    (
        (*_LORA, *_TUNE),
        "caption_dropout_rate caption_dropout_every_n_epochs caption_tag_dropout_rate weighted_captions",
    ),
    (_without(SCRIPTS, "fine_tune.py"), "reg_data_dir conditioning_data_dir masked_loss"),
    (_without(SCRIPTS, "train_db.py"), "in_json dataset_repeats"),
    ((*_LORA, "train_db.py", *_TI), "prior_loss_weight"),
    ((*_LORA, "flux_train.py", "anima_train.py", "lumina_train.py"), "cpu_offload_checkpointing"),
    ((*_LORA, "train_db.py", "fine_tune.py", "sdxl_train.py", *_TI), "no_half_vae"),
    ((*_SDXL, *_TRANSFORMERS), "cache_text_encoder_outputs cache_text_encoder_outputs_to_disk"),
    ((*_SDXL, "sdxl_train_textual_inversion.py", *_TRANSFORMERS), "disable_mmap_load_safetensors"),
    (_TRANSFORMERS, "text_encoder_batch_size weighting_scheme logit_mean logit_std mode_scale blocks_to_swap"),
    ((*_FLUX, *_SD3), "clip_l t5xxl t5xxl_max_token_length apply_t5_attn_mask"),
    ((*_FLUX, *_LUMINA), "ae"),
    (_FLUX, "controlnet_model_name_or_path guidance_scale model_type"),
    ((*_FLUX, *_HUNYUAN, *_ANIMA, *_LUMINA), "timestep_sampling sigmoid_scale discrete_flow_shift"),
    ((*_FLUX, *_HUNYUAN, *_LUMINA), "model_prediction_type"),
    (("flux_train_network.py",), "split_mode"),
    (
        _SD3,
        "clip_g save_clip save_t5xxl t5xxl_device t5xxl_dtype apply_lg_attn_mask clip_l_dropout_rate "
        "clip_g_dropout_rate t5_dropout_rate pos_emb_random_crop_rate enable_scaled_pos_embed training_shift",
    ),
    (_HUNYUAN, "text_encoder byt5 fp8_scaled fp8_vl text_encoder_cpu"),
    ((*_HUNYUAN, *_ANIMA), "vae_chunk_size attn_mode split_attn"),
    (
        _ANIMA,
        "qwen3 llm_adapter_path llm_adapter_lr self_attn_lr cross_attn_lr mlp_lr mod_lr t5_tokenizer_path "
        "qwen3_max_token_length t5_max_token_length vae_disable_cache unsloth_offload_checkpointing",
    ),
    (_LUMINA, "gemma2 gemma2_max_token_length use_flash_attn use_sage_attn system_prompt sample_batch_size"),
    (_TUNE, "use_safetensors"),
    (("train_db.py", "fine_tune.py"), "learning_rate_te"),
    (("train_db.py",), "no_token_padding stop_text_encoder_training"),
    (("fine_tune.py", "sdxl_train.py"), "diffusers_xformers"),
    (("fine_tune.py", "sdxl_train.py", "sd3_train.py"), "train_text_encoder"),
    (("sdxl_train.py", "sd3_train.py"), "learning_rate_te1 learning_rate_te2"),
    (("sdxl_train.py",), "block_lr"),
    (("sdxl_train.py", "flux_train.py", "sd3_train.py", "lumina_train.py"), "fused_optimizer_groups"),
    (("flux_train.py", "lumina_train.py"), "mem_eff_save"),
    (("flux_train.py", "sd3_train.py", "lumina_train.py"), "blockwise_fused_optimizers"),
    (("flux_train.py", "sd3_train.py", "anima_train.py", "lumina_train.py"), "skip_latents_validity_check"),
    (("flux_train.py",), "double_blocks_to_swap single_blocks_to_swap"),
    (("sd3_train.py",), "train_t5xxl use_t5xxl_cache_only learning_rate_te3 num_last_block_to_freeze"),
    (_TI, "weights num_vectors_per_token token_string init_word use_object_template use_style_template"),
)

# Parameters that only some scripts read -> those scripts.
ONLY_IN: Mapping[str, frozenset[str]] = MappingProxyType(
    {name: frozenset(scripts) for scripts, names in _ONLY_IN for name in names.split()}
)

# What the built-in trainer reads of these for every family that it trains, whatever sd-scripts' program does.
READ_HERE = frozenset(
    (
        "blocks_to_swap", "cache_text_encoder_outputs", "cache_text_encoder_outputs_to_disk",
        "disable_mmap_load_safetensors", "text_encoder_batch_size",
    )
)  # fmt: skip

_CHECKPOINTS = ("ckpt", "safetensors", "diffusers", "diffusers_safetensors")

# Defaults that differ between scripts; TrainConfig holds None ("the script's own") for these.
_DEFAULTS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "save_model_as": {**dict.fromkeys(_LORA, "safetensors"), **dict.fromkeys(_TI, "pt"), **dict.fromkeys(_TUNE)},
        "t5xxl_max_token_length": {**dict.fromkeys(_FLUX), **dict.fromkeys(_SD3, 256)},
        "timestep_sampling": {
            **dict.fromkeys((*_FLUX, *_HUNYUAN), "sigma"),
            **dict.fromkeys(_ANIMA, "sigmoid"),
            **dict.fromkeys(_LUMINA, "shift"),
        },
        "model_prediction_type": {
            **dict.fromkeys(_FLUX, "sigma_scaled"),
            **dict.fromkeys((*_HUNYUAN, *_LUMINA), "raw"),
        },
        "discrete_flow_shift": {
            **dict.fromkeys(_FLUX, 3.0),
            **dict.fromkeys(_HUNYUAN, 5.0),
            **dict.fromkeys(_ANIMA, 1.0),
            **dict.fromkeys(_LUMINA, 6.0),
        },
    }
)
_CHOICES: Mapping[str, Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "save_model_as": {
            **dict.fromkeys((*_LORA, *_TI), ("ckpt", "pt", "safetensors")),
            **dict.fromkeys(_TUNE, _CHECKPOINTS),
        },
        "timestep_sampling": dict.fromkeys(
            (*_FLUX, *_HUNYUAN, *_ANIMA), ("sigma", "uniform", "sigmoid", "shift", "flux_shift")
        ),
    }
)

# Keys that people's files carry although no sd-scripts program reads them, and why they are there.
NO_SCRIPT_READS: Mapping[str, str] = MappingProxyType(
    {
        "noise_offset_type": "the GUI writes it for itself; the noise options beside it are what counts",
        "train_inpainting": "only newer sd-scripts and GUI versions know it",
        "show_timesteps": "only newer sd-scripts versions know it, and it trains nothing",
        "show_timesteps_image": "only newer sd-scripts versions know it, and it trains nothing",
        "show_timesteps_resolution": "only newer sd-scripts versions know it, and it trains nothing",
        "qwen_image_vae_2d": "only newer sd-scripts versions know it (Anima)",
        "compile": "only newer sd-scripts versions know it (Anima)",
        "compile_backend": "only newer sd-scripts versions know it (Anima)",
        "compile_mode": "only newer sd-scripts versions know it (Anima)",
        "compile_dynamic": "only newer sd-scripts versions know it (Anima)",
        "compile_fullgraph": "only newer sd-scripts versions know it (Anima)",
        "compile_cache_size_limit": "only newer sd-scripts versions know it (Anima)",
    }
)


def reads(script: str, name: str) -> bool:
    """Does this sd-scripts program read this parameter? An unknown script is taken to read everything."""
    return name not in ONLY_IN or script in ONLY_IN[name] or script not in FAMILIES


def default_in(script: str, name: str, default: Any) -> Any:
    """The program's own default where it differs between programs, else `default`."""
    return _DEFAULTS.get(name, {}).get(script, default)


def choices_in(script: str, name: str, choices: tuple[Any, ...]) -> tuple[Any, ...]:
    """The program's own choices where they differ between programs, else `choices`."""
    return _CHOICES.get(name, {}).get(script, choices)

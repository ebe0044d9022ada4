"""How each tab of the kohya_ss GUI turns its fields into keys of the TOML for sd-scripts, as tables.

A key not named here has the field's own name and value. Facts of GUI 26.0.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from kohyakit.formats.text import names
from kohyakit.registry.families import MODELS

# family -> the check boxes that stand for it (the Finetune tab names SDXL's otherwise)
FLAGS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {entry.box: entry.boxes for entry in MODELS.values() if entry.boxes}
)


_EARLY = {"sdxl": 0, "sd3": 1}  # tabs for full training ask for these first, which counts where two are ticked


def _asked(tab: str) -> tuple[str, ...]:
    """The families that a tab knows, in the order in which it asks."""
    boxed = [name for name, entry in MODELS.items() if tab in entry.scripts and entry.boxes]
    if tab in ("dreambooth", "finetune"):
        boxed.sort(key=lambda name: _EARLY.get(name, len(_EARLY)))
    return (*boxed, "sd1")


# tab -> family -> script, in the order in which the tab asks; "" is SD 1 and 2
SCRIPTS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        tab: {MODELS[name].box: MODELS[name].scripts[tab] for name in _asked(tab)}
        for tab in ("lora", "dreambooth", "finetune", "ti")
    }
)

# fields written under another name
RENAMED: Mapping[str, str] = MappingProxyType({"optimizer": "optimizer_type", "max_resolution": "resolution"})

_EVERY_TAB = """async_upload bucket_no_upscale bucket_reso_steps cache_latents cache_latents_to_disk caption_extension
    color_aug
    dataset_config dynamo_backend flip_aug full_fp16 gradient_checkpointing huber_c huber_scale huber_schedule
    huggingface_path_in_repo huggingface_repo_id huggingface_repo_type huggingface_repo_visibility huggingface_token
    ip_noise_gamma_random_strength log_config log_tracker_config log_tracker_name log_with logging_dir loss_type
    lr_scheduler lr_scheduler_type mem_eff_attn metadata_author metadata_description metadata_license metadata_tags
    metadata_title mixed_precision noise_offset_type optimizer output_dir output_name max_resolution
    pretrained_model_name_or_path random_crop resume resume_from_huggingface sample_sampler save_model_as save_precision
    save_state save_state_on_train_end save_state_to_huggingface scale_v_pred_loss_like_noise_pred shuffle_caption
    skip_cache_check train_batch_size v_parameterization wandb_api_key"""
_NOT_TI = "caption_dropout_rate debiased_estimation_loss fp8_base full_bf16 masked_loss weighted_captions"
_NOT_FINETUNE = "enable_bucket lr_scheduler_power max_bucket_reso prior_loss_weight reg_data_dir train_data_dir"

# tab -> fields written as they are
PLAIN: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "lora": names(
            f"{_EVERY_TAB} {_NOT_TI} {_NOT_FINETUNE} dim_from_weights highvram max_grad_norm network_alpha network_dim "
            "network_dropout network_weights scale_weight_norms training_comment"
        ),
        "dreambooth": names(
            f"{_EVERY_TAB} {_NOT_TI} {_NOT_FINETUNE} disable_mmap_load_safetensors learning_rate max_grad_norm "
            "no_token_padding v2 vae"
        ),
        "finetune": names(
            f"{_EVERY_TAB} {_NOT_TI} block_lr disable_mmap_load_safetensors learning_rate train_text_encoder v2"
        ),
        "ti": names(
            f"{_EVERY_TAB} {_NOT_FINETUNE} disable_mmap_load_safetensors init_word learning_rate no_token_padding "
            "token_string v2 vae weights"
        ),
    }
)

_WHOLE = """caption_dropout_every_n_epochs gradient_accumulation_steps keep_tokens min_bucket_reso
    persistent_data_loader_workers"""
# tab -> fields written as whole numbers
WHOLE: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "lora": names(f"{_WHOLE} epoch lr_scheduler_num_cycles"),
        "dreambooth": names(f"{_WHOLE} epoch lr_scheduler_num_cycles max_token_length"),
        "finetune": names(f"{_WHOLE} dataset_repeats max_bucket_reso"),
        "ti": names(f"{_WHOLE} epoch lr_scheduler_num_cycles max_token_length num_vectors_per_token"),
    }
)

# fields that are left out when 0, the second group written as whole numbers otherwise
OFF_AT_ZERO = names("""ip_noise_gamma max_timestep min_snr_gamma min_timestep sample_every_n_epochs sample_every_n_steps
    save_every_n_epochs save_every_n_steps save_last_n_epochs save_last_n_epochs_state save_last_n_steps
    save_last_n_steps_state v_pred_like_loss vae_batch_size""")
WHOLE_OFF_AT_ZERO = ("max_train_epochs", "max_train_steps", "seed")

# toml key -> (family, field) in the order in which the tab asks; the first family that is on gives the value.
# "flux1!chroma" is Flux without Chroma, which has no CLIP-L.
_FLUX_TUNE = {
    key: (("flux1", key),)
    for key in names("""apply_t5_attn_mask blockwise_fused_optimizers cpu_offload_checkpointing double_blocks_to_swap
        guidance_scale mem_eff_save single_blocks_to_swap t5xxl_max_token_length""")
}
_SD3_EVERY = {
    key: (("sd3", key),)
    for key in names(
        "clip_g logit_mean logit_std mode_scale save_clip save_t5xxl t5xxl_device t5xxl_dtype weighting_scheme"
    )
} | {"text_encoder_batch_size": (("sd3", "sd3_text_encoder_batch_size"),)}
_ANIMA = {
    key: (("anima", f"anima_{key}"),)
    for key in names("""qwen3 llm_adapter_path t5_tokenizer_path qwen3_max_token_length t5_max_token_length
        vae_disable_cache unsloth_offload_checkpointing qwen_image_vae_2d compile torch_compile""")
}
_LUMINA = {
    key: (("lumina", f"lumina_{key}"),)
    for key in names("gemma2 gemma2_max_token_length system_prompt use_flash_attn use_sage_attn")
}

BY_FAMILY: Mapping[str, Mapping[str, tuple[tuple[str, str], ...]]] = MappingProxyType(
    {
        "lora": _SD3_EVERY
        | _ANIMA
        | _LUMINA
        | {
            "ae": (("lumina", "lumina_ae"), ("flux1", "ae")),
            "apply_t5_attn_mask": (("flux1", "apply_t5_attn_mask"),),
            "blocks_to_swap": tuple(
                (f, "blocks_to_swap") for f in ("flux1", "sd3", "hunyuan_image", "anima", "lumina")
            ),
            "byt5": (("hunyuan_image", "hunyuan_byt5"),),
            "clip_g_dropout_rate": (("sd3", "clip_g_dropout_rate"),),
            "clip_l": (("sd3", "sd3_clip_l"), ("flux1!chroma", "clip_l")),
            "clip_l_dropout_rate": (("sd3", "sd3_clip_l_dropout_rate"),),
            "cpu_offload_checkpointing": (("flux1", "cpu_offload_checkpointing"),),
            "disable_mmap_load_safetensors": (("sd3", "sd3_disable_mmap_load_safetensors"),),
            "discrete_flow_shift": (
                ("lumina", "lumina_discrete_flow_shift"),
                ("anima", "anima_discrete_flow_shift"),
                ("hunyuan_image", "hunyuan_discrete_flow_shift"),
                ("flux1", "discrete_flow_shift"),
            ),
            "double_blocks_to_swap": (("flux1", "double_blocks_to_swap"),),
            "enable_scaled_pos_embed": (("sd3", "sd3_enable_scaled_pos_embed"),),
            "fp8_base_unet": (("flux1", "fp8_base_unet"),),
            "fp8_scaled": (("hunyuan_image", "hunyuan_fp8_scaled"),),
            "fp8_vl": (("hunyuan_image", "hunyuan_fp8_vl"),),
            "fused_backward_pass": (("sd3", "sd3_fused_backward_pass"),),
            "guidance_scale": (("flux1", "guidance_scale"),),
            "mem_eff_save": (("flux1", "mem_eff_save"),),
            "model_prediction_type": (
                ("lumina", "lumina_model_prediction_type"),
                ("hunyuan_image", "hunyuan_model_prediction_type"),
                ("flux1", "model_prediction_type"),
            ),
            "pos_emb_random_crop_rate": (("sd3", "pos_emb_random_crop_rate"),),
            "sigmoid_scale": (
                ("lumina", "lumina_sigmoid_scale"),
                ("anima", "anima_sigmoid_scale"),
                ("hunyuan_image", "hunyuan_sigmoid_scale"),
            ),
            "single_blocks_to_swap": (("flux1", "single_blocks_to_swap"),),
            "split_attn": (("anima", "anima_split_attn"), ("hunyuan_image", "hunyuan_split_attn")),
            "split_mode": (("flux1", "split_mode"),),
            "t5_dropout_rate": (("sd3", "sd3_t5_dropout_rate"),),
            "t5xxl": (("flux1", "t5xxl"), ("sd3", "sd3_t5xxl")),
            "t5xxl_max_token_length": (("flux1", "t5xxl_max_token_length"),),
            "text_encoder": (("hunyuan_image", "hunyuan_text_encoder"),),
            "text_encoder_cpu": (("hunyuan_image", "hunyuan_text_encoder_cpu"),),
            "timestep_sampling": (
                ("lumina", "lumina_timestep_sampling"),
                ("anima", "anima_timestep_sampling"),
                ("hunyuan_image", "hunyuan_timestep_sampling"),
                ("flux1", "timestep_sampling"),
            ),
            "vae": (("anima", "anima_vae"), ("hunyuan_image", "hunyuan_vae"), ("", "vae")),
        },
        "dreambooth": _SD3_EVERY
        | _FLUX_TUNE
        | {
            "ae": (("flux1", "ae"),),
            "blocks_to_swap": (("flux1", "blocks_to_swap"), ("sd3", "blocks_to_swap")),
            "clip_l": (("flux1", "flux1_clip_l"), ("sd3", "clip_l")),
            "discrete_flow_shift": (("flux1", "discrete_flow_shift"),),
            "fused_backward_pass": (
                ("sd3", "sd3_fused_backward_pass"),
                ("flux1", "flux_fused_backward_pass"),
                ("", "fused_backward_pass"),
            ),
            "model_prediction_type": (("flux1", "model_prediction_type"),),
            "t5xxl": (("sd3", "t5xxl"), ("flux1", "flux1_t5xxl")),
            "timestep_sampling": (("flux1", "timestep_sampling"),),
        },
        "finetune": _SD3_EVERY
        | _FLUX_TUNE
        | _ANIMA
        | _LUMINA
        | {
            "ae": (("lumina", "lumina_ae"), ("flux1", "ae")),
            "blocks_to_swap": tuple((f, "blocks_to_swap") for f in ("flux1", "anima", "lumina")),
            "clip_l": (("flux1", "flux1_clip_l"), ("sd3", "clip_l")),
            "discrete_flow_shift": (
                ("lumina", "lumina_discrete_flow_shift"),
                ("anima", "anima_discrete_flow_shift"),
                ("flux1", "discrete_flow_shift"),
            ),
            "fused_backward_pass": (
                ("sd3", "sd3_fused_backward_pass"),
                ("flux1", "flux_fused_backward_pass"),
                ("", "fused_backward_pass"),
            ),
            "model_prediction_type": (("lumina", "lumina_model_prediction_type"), ("flux1", "model_prediction_type")),
            "sigmoid_scale": (("lumina", "lumina_sigmoid_scale"), ("anima", "anima_sigmoid_scale")),
            "split_attn": (("anima", "anima_split_attn"),),
            "t5xxl": (("sd3", "t5xxl"), ("flux1", "flux1_t5xxl")),
            "timestep_sampling": (
                ("lumina", "lumina_timestep_sampling"),
                ("anima", "anima_timestep_sampling"),
                ("flux1", "timestep_sampling"),
            ),
            "vae": (("anima", "anima_vae"),),
        },
        "ti": {},
    }
)

# of those, what is written as a whole number or as a float whatever the field holds; per tab where that differs
WHOLE_BY_FAMILY = frozenset({"qwen3_max_token_length", "t5_max_token_length", "gemma2_max_token_length"})
FLOAT_FIELDS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "lora": frozenset(
            names("""guidance_scale discrete_flow_shift anima_discrete_flow_shift hunyuan_discrete_flow_shift
                lumina_discrete_flow_shift anima_sigmoid_scale hunyuan_sigmoid_scale lumina_sigmoid_scale""")
        ),
        "dreambooth": frozenset(),
        "finetune": frozenset(
            names("anima_discrete_flow_shift lumina_discrete_flow_shift anima_sigmoid_scale lumina_sigmoid_scale")
        ),
        "ti": frozenset(),
    }
)

"""Options of the model families that only sd-scripts trains (Flux, SD3, Lumina, HunyuanImage, Anima)."""

from __future__ import annotations

from dataclasses import dataclass

from kohyakit.config.param import param


@dataclass(frozen=True, kw_only=True, slots=True)
class FamiliesConfig:
    """Options of the model families that only sd-scripts trains (Flux, SD3, Lumina, HunyuanImage, Anima)."""

    weighting_scheme: str = param("uniform", choices=("sigma_sqrt", "logit_normal", "mode", "cosmap", "none", "uniform"))
    logit_mean: float = param(0.0)
    logit_std: float = param(1.0)
    mode_scale: float = param(1.29)
    clip_l: str | None = param(None, blank=("",))
    t5xxl: str | None = param(None, blank=("",))
    ae: str | None = param(None, blank=("",))
    controlnet_model_name_or_path: str | None = param(None, blank=("",))
    t5xxl_max_token_length: int | None = param(None, blank=(0, ""))
    apply_t5_attn_mask: bool = param(False)
    guidance_scale: float = param(3.5)
    timestep_sampling: str = param("sigma", choices=("sigma", "uniform", "sigmoid", "shift", "flux_shift"))
    sigmoid_scale: float = param(1.0)
    model_prediction_type: str = param("sigma_scaled", choices=("raw", "additive", "sigma_scaled"))
    discrete_flow_shift: float = param(3.0)
    model_type: str = param("flux", choices=("flux", "chroma"))
    split_mode: bool = param(False, deprecated=True)
    clip_g: str | None = param(None, blank=("",))
    save_clip: bool = param(False)
    save_t5xxl: bool = param(False)
    t5xxl_device: str | None = param(None, blank=("",))
    t5xxl_dtype: str | None = param(None, blank=("",))
    apply_lg_attn_mask: bool = param(False)
    clip_l_dropout_rate: float = param(0.0)
    clip_g_dropout_rate: float = param(0.0)
    t5_dropout_rate: float = param(0.0)
    pos_emb_random_crop_rate: float = param(0.0)
    enable_scaled_pos_embed: bool = param(False)
    training_shift: float = param(1.0)
    gemma2: str | None = param(None, blank=("",))
    gemma2_max_token_length: int | None = param(None)
    use_flash_attn: bool = param(False)
    use_sage_attn: bool = param(False)
    system_prompt: str = param("")
    sample_batch_size: int | None = param(None)
    text_encoder: str | None = param(None, blank=("",))
    byt5: str | None = param(None, blank=("",))
    fp8_scaled: bool = param(False)
    fp8_vl: bool = param(False)
    text_encoder_cpu: bool = param(False)
    vae_chunk_size: int | None = param(None)
    attn_mode: str | None = param(None, choices=("torch", "xformers", "flash", "sageattn", "sdpa"), blank=("",))
    split_attn: bool = param(False)
    qwen3: str | None = param(None, blank=("",))
    llm_adapter_path: str | None = param(None, blank=("",))
    t5_tokenizer_path: str | None = param(None, blank=("",))
    qwen3_max_token_length: int = param(512)
    t5_max_token_length: int = param(512)
    vae_disable_cache: bool = param(False)
    unsloth_offload_checkpointing: bool = param(False)

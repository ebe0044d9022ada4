"""The base model and how prompts become text states."""

from __future__ import annotations

from dataclasses import dataclass

from kohyakit.config.param import param


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """The base model and how prompts become text states."""

    v2: bool = param(False)
    v_parameterization: bool = param(False)
    pretrained_model_name_or_path: str | None = param(None, blank=("",))
    tokenizer_cache_dir: str | None = param(None, blank=("",))
    max_token_length: int | None = param(None, choices=(150, 225), blank=(0, ""))
    vae: str | None = param(None, blank=("",))
    fp8_base: bool = param(False)
    clip_skip: int | None = param(None, blank=(0, ""))
    zero_terminal_snr: bool = param(False)
    weighted_captions: bool = param(False)
    fp8_base_unet: bool = param(False)
    no_half_vae: bool = param(False, gui=("sdxl_no_half_vae",))
    disable_mmap_load_safetensors: bool = param(False)

"""Options of the model families that only sd-scripts trains (Flux, SD3, Lumina, HunyuanImage, Anima)."""

from __future__ import annotations

from dataclasses import dataclass

from kohyakit.config.param import param


@dataclass(frozen=True, kw_only=True, slots=True)
class FamiliesConfig:
    """Options of the model families that only sd-scripts trains (Flux, SD3, Lumina, HunyuanImage, Anima)."""

    weighting_scheme: str = param(
        "uniform",
        choices=("sigma_sqrt", "logit_normal", "mode", "cosmap", "none", "uniform"),
        help="How noise levels are drawn or weighed in flow models; uniform and none do nothing.",
        tip="logit_normal for SD3; uniform for Flux, where timestep_sampling does the work.",
    )
    logit_mean: float = param(
        0.0,
        help="Mean of the logit_normal weighting_scheme.",
        tip="0; above 0 shifts towards more noise.",
    )
    logit_std: float = param(
        1.0,
        ge=0,
        help="Spread of the logit_normal weighting_scheme.",
        tip="1.",
    )
    mode_scale: float = param(
        1.29,
        help="Strength of the mode weighting_scheme; other schemes do not look at it.",
        tip="1.29, the paper's value.",
    )
    clip_l: str | None = param(
        None,
        blank=("",),
        gui=("flux1_clip_l", "sd3_clip_l"),
        metavar="FILE",
        help="The CLIP-L text encoder of Flux or SD3, a .safetensors file. SD3 takes it from the checkpoint when "
        "not given.",
        tip="The fp16 file that ComfyUI uses.",
    )
    t5xxl: str | None = param(
        None,
        blank=("",),
        gui=("flux1_t5xxl", "sd3_t5xxl"),
        metavar="FILE",
        help="The T5-XXL text encoder of Flux or SD3, a .safetensors file, in fp16 unless fp8_base is on.",
        tip="The fp16 file; the fp8 one only together with fp8_base.",
    )
    ae: str | None = param(
        None,
        blank=("",),
        gui=("lumina_ae",),
        metavar="FILE",
        help="The autoencoder of Flux or Lumina, ae.safetensors.",
        tip="The file that came with the base model.",
    )
    controlnet_model_name_or_path: str | None = param(
        None,
        blank=("",),
        metavar="FILE",
        help="Flux: the file of a ControlNet that is to be trained further.",
        tip="Leave it out for a LoRA.",
    )
    t5xxl_max_token_length: int | None = param(
        None,
        ge=1,
        blank=("",),
        gui_blank=(0,),
        help="Longest caption in T5 tokens; not given, 256 for SD3 and Flux schnell, 512 for Flux dev.",
        tip="256 saves time when captions are short.",
    )
    apply_t5_attn_mask: bool = param(
        False,
        help="Hide the padding behind a caption from T5 (and from Flux's double blocks). Chroma requires it.",
        tip="On for Chroma; otherwise as the base model was trained.",
    )
    guidance_scale: float = param(
        3.5,
        help="Flux: the guidance value that the distilled model is given while training.",
        tip="1 for Flux dev, which most people train with; 0 for Chroma.",
    )
    timestep_sampling: str | None = param(
        None,
        choices=("sigma", "uniform", "sigmoid", "shift", "nextdit_shift", "flux_shift"),
        blank=("",),
        gui=("hunyuan_timestep_sampling", "anima_timestep_sampling", "lumina_timestep_sampling"),
        help="How noise levels are drawn in flow models. Not given: sigma for Flux and HunyuanImage, sigmoid for "
        "Anima, shift for Lumina (which alone knows nextdit_shift).",
        tip="flux_shift or shift with discrete_flow_shift 3.1582 for Flux.",
    )
    sigmoid_scale: float = param(
        1.0,
        gui=("hunyuan_sigmoid_scale", "anima_sigmoid_scale", "lumina_sigmoid_scale"),
        help="Spread of the sigmoid and shift ways of drawing noise levels: larger reaches further out.",
        tip="1.",
    )
    model_prediction_type: str | None = param(
        None,
        choices=("raw", "additive", "sigma_scaled"),
        blank=("",),
        gui=("hunyuan_model_prediction_type", "lumina_model_prediction_type"),
        help="How the model's output is compared with the target. Not given: sigma_scaled for Flux, raw for "
        "HunyuanImage and Lumina.",
        tip="raw for Flux too, which is what most guides use.",
    )
    discrete_flow_shift: float | None = param(
        None,
        blank=("",),
        gui=("hunyuan_discrete_flow_shift", "anima_discrete_flow_shift", "lumina_discrete_flow_shift"),
        help="Shifts training towards more noise (above 1). Not given: 3 for Flux, 5 for HunyuanImage, 1 for "
        "Anima, 6 for Lumina.",
        tip="3.1582 with timestep_sampling shift imitates flux_shift at 1024.",
    )
    model_type: str = param(
        "flux",
        choices=("flux", "chroma"),
        help="Flux programs: which kind the base model is, Flux or Chroma.",
        tip="chroma also needs apply_t5_attn_mask and guidance_scale 0.",
    )
    split_mode: bool = param(
        False,
        deprecated=True,
        help="Flux: the old way to save memory; sd-scripts turns it into blocks_to_swap 18.",
        tip="Write blocks_to_swap.",
    )
    clip_g: str | None = param(
        None,
        blank=("",),
        metavar="FILE",
        help="SD3: the CLIP-G text encoder, a .safetensors file; not given, from the checkpoint.",
        tip="The fp16 file that ComfyUI uses.",
    )
    save_clip: bool = param(
        False,
        help="SD3: meant to save CLIP inside the checkpoint; sd-scripts does not do it.",
        tip="Leave it off.",
    )
    save_t5xxl: bool = param(
        False,
        help="SD3: meant to save T5 inside the checkpoint; sd-scripts does not do it.",
        tip="Leave it off.",
    )
    t5xxl_device: str | None = param(
        None,
        blank=("",),
        help="SD3: meant to place T5 on a device; not supported yet.",
        tip="Leave it out.",
    )
    t5xxl_dtype: str | None = param(
        None,
        blank=("",),
        help="SD3: meant to set T5's number format; not supported yet.",
        tip="Leave it out.",
    )
    apply_lg_attn_mask: bool = param(
        False,
        help="SD3: hide the padding behind a caption from CLIP-L and CLIP-G by zeros.",
        tip="Off.",
    )
    clip_l_dropout_rate: float = param(
        0.0,
        ge=0,
        le=1,
        gui=("sd3_clip_l_dropout_rate",),
        help="SD3: chance, 0 to 1, that CLIP-L's states are left out of a step.",
        tip="0.05 loosens words from looks.",
    )
    clip_g_dropout_rate: float = param(
        0.0,
        ge=0,
        le=1,
        help="SD3: chance, 0 to 1, that CLIP-G's states are left out of a step.",
        tip="As clip_l_dropout_rate.",
    )
    t5_dropout_rate: float = param(
        0.0,
        ge=0,
        le=1,
        gui=("sd3_t5_dropout_rate",),
        help="SD3: chance, 0 to 1, that T5's states are left out of a step.",
        tip="As clip_l_dropout_rate.",
    )
    pos_emb_random_crop_rate: float = param(
        0.0,
        ge=0,
        le=1,
        help="SD3.5 medium: chance, 0 to 1, that position embeddings are cut at a random place.",
        tip="0; other SD3 models come out wrong with it.",
    )
    enable_scaled_pos_embed: bool = param(
        False,
        gui=("sd3_enable_scaled_pos_embed",),
        help="SD3.5 medium: scale position embeddings to each resolution when training several.",
        tip="Only with several resolutions on SD3.5 medium.",
    )
    training_shift: float = param(
        1.0,
        gt=0,
        help="SD3: shifts training towards more noise (above 1), beside the weighting_scheme.",
        tip="1; 3 is what SD3 draws with.",
    )
    gemma2: str | None = param(
        None,
        blank=("",),
        gui=("lumina_gemma2",),
        metavar="FILE",
        help="Lumina: the Gemma 2 text encoder, a .safetensors file in fp16.",
        tip="The file that came with the base model.",
    )
    gemma2_max_token_length: int | None = param(
        None,
        ge=1,
        blank=("",),
        gui_blank=(0,),
        gui=("lumina_gemma2_max_token_length",),
        help="Lumina: longest caption in Gemma tokens; not given, 256.",
        tip="256.",
    )
    use_flash_attn: bool = param(
        False,
        gui=("lumina_use_flash_attn",),
        help="Lumina: compute attention with the flash-attn package, which must be installed.",
        tip="On where it is installed.",
    )
    use_sage_attn: bool = param(
        False,
        gui=("lumina_use_sage_attn",),
        help="Lumina: compute attention with the sageattention package, which must be installed.",
        tip="Off for training; it is made for drawing.",
    )
    system_prompt: str = param(
        "",
        gui=("lumina_system_prompt",),
        help="Lumina: a sentence put in front of every caption and prompt.",
        tip="The one the base model was trained with.",
    )
    sample_batch_size: int | None = param(
        None,
        ge=1,
        blank=("",),
        gui_blank=(0,),
        help="Lumina: sample pictures drawn at once; not given, train_batch_size.",
        tip="1 when samples run out of memory.",
    )
    text_encoder: str | None = param(
        None,
        blank=("",),
        gui=("hunyuan_text_encoder",),
        metavar="FILE",
        help="HunyuanImage: the Qwen2.5-VL text encoder, in bf16.",
        tip="The file that came with the base model.",
    )
    byt5: str | None = param(
        None,
        blank=("",),
        gui=("hunyuan_byt5",),
        metavar="FILE",
        help="HunyuanImage: the byT5 text encoder for letters in pictures, in fp16.",
        tip="The file that came with the base model.",
    )
    fp8_scaled: bool = param(
        False,
        gui=("hunyuan_fp8_scaled",),
        help="HunyuanImage: keep the transformer in scaled 8-bit floats; fp8_base does not work there.",
        tip="On with 24 GB or less.",
    )
    fp8_vl: bool = param(
        False,
        gui=("hunyuan_fp8_vl",),
        help="HunyuanImage: keep the Qwen text encoder in 8 bits.",
        tip="On with 16 GB or less.",
    )
    text_encoder_cpu: bool = param(
        False,
        gui=("hunyuan_text_encoder_cpu",),
        help="HunyuanImage: run the text encoders on the CPU.",
        tip="When they do not fit; slow, but with caching only once.",
    )
    vae_chunk_size: int | None = param(
        None,
        ge=1,
        blank=("",),
        gui_blank=(0,),
        gui=("hunyuan_vae_chunk_size", "anima_vae_chunk_size"),
        help="HunyuanImage, Anima: let the VAE work in pieces of this size to save memory (even; 16 is usual).",
        tip="16 when the VAE runs out of memory.",
    )
    attn_mode: str | None = param(
        None,
        choices=("torch", "xformers", "flash", "sageattn", "sdpa"),
        blank=("",),
        gui=("hunyuan_attn_mode", "anima_attn_mode"),
        help="HunyuanImage, Anima: which attention is used; goes before xformers and sdpa. Not given, torch. "
        "xformers needs split_attn, sageattn cannot train.",
        tip="torch; flash where the package is installed.",
    )
    split_attn: bool = param(
        False,
        gui=("hunyuan_split_attn", "anima_split_attn"),
        help="HunyuanImage, Anima: compute attention picture by picture to save memory.",
        tip="On with batches above 1 and little memory, and with xformers.",
    )
    qwen3: str | None = param(
        None,
        blank=("",),
        gui=("anima_qwen3",),
        metavar="FILE|DIR",
        help="Anima: the Qwen3-0.6B text encoder, a .safetensors file or a folder.",
        tip="The file that came with the base model.",
    )
    llm_adapter_path: str | None = param(
        None,
        blank=("",),
        gui=("anima_llm_adapter_path",),
        metavar="FILE",
        help="Anima: weights of the language-model adapter; not given, those in the model file.",
        tip="Leave it out.",
    )
    t5_tokenizer_path: str | None = param(
        None,
        blank=("",),
        gui=("anima_t5_tokenizer_path",),
        metavar="DIR",
        help="Anima: folder of the T5 tokenizer; not given, the one in sd-scripts.",
        tip="Leave it out.",
    )
    qwen3_max_token_length: int = param(
        512,
        ge=1,
        gui=("anima_qwen3_max_token_length",),
        gui_blank=(0,),
        help="Anima: longest caption in tokens of the Qwen3 text encoder; the rest is cut off.",
        tip="512.",
    )
    t5_max_token_length: int = param(
        512,
        ge=1,
        gui=("anima_t5_max_token_length",),
        gui_blank=(0,),
        help="Anima: longest caption in tokens of the T5 tokenizer; the rest is cut off.",
        tip="512.",
    )
    vae_disable_cache: bool = param(
        False,
        gui=("anima_vae_disable_cache",),
        help="Anima: let the VAE work without its inner cache: less memory, quicker, not quite the original result.",
        tip="On when the VAE runs out of memory.",
    )
    unsloth_offload_checkpointing: bool = param(
        False,
        gui=("anima_unsloth_offload_checkpointing",),
        help="Anima: keep gradient checkpoints in main memory, copied in the background; quicker than "
        "cpu_offload_checkpointing and not together with it or with blocks_to_swap.",
        tip="On with 12 GB or less.",
    )

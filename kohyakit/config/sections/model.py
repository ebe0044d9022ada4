"""The base model and how prompts become text states."""

from __future__ import annotations

from dataclasses import dataclass

from kohyakit.config.param import param, standing


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """The base model and how prompts become text states."""

    v2: bool = param(
        False,
        help="The base model is Stable Diffusion 2.x: another text encoder, trained on its last layer but one.",
        tip="On for SD 2.0 and 2.1 only; never for SD 1.x or SDXL, where it stops the run or ruins it.",
    )
    v_parameterization: bool = param(
        False,
        help="The base model predicts velocity (v) instead of noise, and the LoRA is trained to do the same.",
        tip="On for SD 2.x 768-v models and v-prediction SDXL models (NoobAI v-pred); with a usual "
        "noise-predicting model it teaches nonsense.",
    )
    pretrained_model_name_or_path: str | None = param(
        None,
        blank=("",),
        metavar="PATH",
        help="The base model to train on: a .safetensors or .ckpt file, a diffusers folder, or a Hugging Face name.",
        tip="Train on the plain base or on the checkpoint you will draw with; a LoRA fits its own base best.",
    )
    tokenizer_cache_dir: str | None = param(
        None,
        blank=("",),
        metavar="DIR",
        help="Folder in which the tokenizer's files are kept, so that later runs need no network.",
        tip="Set it on a machine that is offline.",
    )
    max_token_length: int | None = param(
        None,
        unset=75,
        choices=(150, 225),
        blank=(75, ""),
        gui_blank=(0,),
        help="Longest caption in tokens: 75 when not given, else 150 or 225, read as two or three chunks of 75. "
        "Longer captions are cut off without a word.",
        tip="225 for long descriptions or many tags; it costs a little time and memory.",
    )
    vae: str | None = param(
        None,
        blank=("",),
        metavar="PATH",
        help="Another VAE (.safetensors, .ckpt, .pt or diffusers folder) in place of the base model's own.",
        tip="Needed only when the checkpoint's VAE is damaged, or in half precision on SDXL (the fp16-fix VAE).",
    )
    fp8_base: bool = param(
        False,
        help="Keep the frozen base model in 8-bit floats: about half the memory of fp16, slightly less exact. "
        "Needs mixed_precision fp16 or bf16. Trained here, each row of a weight has a scale of its own, which loses "
        "less; with rng_order sd-scripts all is rounded as it stands, as there.",
        tip="For SDXL on 8 to 10 GB and for Flux on 12 to 16 GB.",
    )
    clip_skip: int | None = param(
        None,
        unset=1,
        ge=1,
        blank=("",),
        gui_blank=(0,),
        help="Take the text encoder's states this many layers from its end (1 is the last). Not given, the last.",
        tip="2 for anime models of the NovelAI kind, 1 for the rest; use the same when drawing. SDXL ignores it.",
    )
    zero_terminal_snr: bool = param(
        False,
        help="Rescale the noise schedule so that the last timestep is pure noise, which makes very dark and very "
        "bright pictures possible. Meant for v-prediction.",
        tip="Only together with v_parameterization, on models that were trained so.",
    )
    weighted_captions: bool = param(
        False,
        help="Read (word:1.3) and [word] in captions as emphasis, the way A1111 reads prompts.",
        tip="Leave it off unless the captions were written so: plain round brackets would change meaning.",
    )
    fp8_base_unet: bool = param(
        False,
        help="As fp8_base, but only the U-Net or transformer is kept in 8 bits; the text encoders stay in fp16 or "
        "bf16.",
        tip="The better choice when the text encoder is trained as well.",
    )
    no_half_vae: bool = param(
        False,
        gui=("sdxl_no_half_vae",),
        help="Run the VAE in 32-bit floats even under mixed precision.",
        tip="On for SDXL with its original VAE: in fp16 that VAE gives black pictures or NaN latents.",
    )
    disable_mmap_load_safetensors: bool = param(
        False,
        gui=("sd3_disable_mmap_load_safetensors",),
        help="Read model files whole instead of mapping them into memory.",
        tip="On when loading is very slow, as in WSL or on network drives.",
    )

    @property
    def tokens(self) -> int:
        """max_token_length in force."""
        return int(standing(self, "max_token_length"))

    @property
    def skip(self) -> int:
        """clip_skip in force: which of the text encoder's last layers is read."""
        return int(standing(self, "clip_skip"))

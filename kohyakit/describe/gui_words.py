"""Fields that only the kohya_ss GUI has: what each does, what it becomes for sd-scripts, what to try."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class Words(NamedTuple):
    """becomes: the sd-scripts parameter or command that the field ends up in; empty where it goes nowhere."""

    help: str
    tip: str
    becomes: str = ""


GUI_WORDS: Mapping[str, Words] = MappingProxyType(
    {
        "sdxl": Words(
            "The base model is SDXL: the GUI then starts the SDXL program instead of the SD 1.x one. Opening a model "
            "file that the GUI cannot recognise switches it off again.",
            "Look at it once more after loading a preset.",
            "script",
        ),
        "sdxl_checkbox": Words(
            "The base model is SDXL; the fine-tuning tab's name for the sdxl check box.",
            "On for SDXL, Pony, Illustrious and NoobAI models.",
            "script",
        ),
        "sd3_checkbox": Words(
            "The base model is Stable Diffusion 3 or 3.5: picks the SD3 program.",
            "Only sd-scripts trains it.",
            "script",
        ),
        "flux1_checkbox": Words(
            "The base model is Flux.1: picks the Flux program. The LoRA type must be Flux1, Flux1 OFT or LyCORIS.",
            "Only sd-scripts trains it.",
            "script",
        ),
        "hunyuan_image_checkbox": Words(
            "The base model is HunyuanImage-2.1: picks its program and leaves text encoders untrained.",
            "Choose LoRA type HunyuanImage-2.1 with it.",
            "script",
        ),
        "anima_checkbox": Words(
            "The base model is Anima: picks its program.", "Choose LoRA type Anima with it.", "script"
        ),
        "lumina_checkbox": Words(
            "The base model is Lumina Image 2: picks its program.", "Choose LoRA type Lumina with it.", "script"
        ),
        "model_list": Words(
            "A remnant of an old menu of stock models; the GUI forces it to custom and never uses it.",
            "Leave it empty.",
        ),
        "lr_warmup": Words(
            "Warm-up in per cent of all steps; counts only while lr_warmup_steps is 0. The GUI sets it to 0 when the "
            "scheduler is constant, and can bring back an older preset's value when it is changed again.",
            "5 to 10.",
            "lr_warmup_steps",
        ),
        "train_inpainting": Words(
            "Train for inpainting models; only newer sd-scripts know it, and latents cannot be cached with it.",
            "Off unless the base is an inpainting model.",
        ),
        "lowvram": Words(
            "A check box that does nothing: the GUI drops it before sd-scripts is started.",
            "Use gradient_checkpointing and cache_latents to save memory.",
        ),
        "noise_offset_type": Words(
            "Which of the noise options the LoRA tab hands on: Original (noise_offset) or Multires (multires noise). "
            "The other tabs hand on both.",
            "Original.",
        ),
        "t5xxl_lr": Words(
            "Learning rate of the T5 encoder: the second of the two text encoder rates. Refused while the text encoder "
            "rate is 0.",
            "0.",
            "text_encoder_lr",
        ),
        "LoRA_type": Words(
            "The kind of LoRA. The GUI turns it into network_module and network_args: Standard is networks.lora, "
            "Kohya LoCon adds conv_dim, the LyCORIS types are lycoris.kohya with an algo.",
            "Standard for subjects; Kohya LoCon or LyCORIS/LoCon for styles; LyCORIS/LoKr for small files.",
            "network_module",
        ),
        "constrain": Words(
            "Diag-OFT and BOFT: how far the rotation may go from the start; 0 is no limit.",
            "1e-3 to 1e-2.",
            "network_args constraint",
        ),
        "LyCORIS_preset": Words(
            "LyCORIS: which layers are adapted, from a list or as the path of a TOML.",
            "full; attn-mlp to compare with a plain LoRA.",
            "network_args preset",
        ),
        "train_lora_ggpo": Words(
            "Flux: switch GGPO on, which adds noise to the weights against overfitting; hands on ggpo_sigma and "
            "ggpo_beta.",
            "Off, unless a Flux LoRA overfits.",
            "network_args ggpo_sigma ggpo_beta",
        ),
        "show_timesteps": Words(
            "Print or draw which noise levels would be trained, instead of training; newer sd-scripts only.", "Empty."
        ),
        "show_timesteps_resolution": Words("Picture size that show_timesteps assumes; newer sd-scripts only.", "1024."),
        "hunyuan_vae": Words(
            "HunyuanImage's VAE file; the GUI's own name for vae in this family.",
            "The file that came with the base model.",
            "vae",
        ),
        "anima_vae": Words(
            "Anima's VAE file (that of Qwen-Image); the GUI's own name for vae in this family.",
            "The file that came with the base model.",
            "vae",
        ),
        "anima_qwen_image_vae_2d": Words(
            "Anima: use the flat variant of the Qwen-Image VAE; newer sd-scripts only.", "Off."
        ),
        "anima_compile": Words(
            "Anima: compile each block with torch.compile; newer sd-scripts only.", "Off for short runs."
        ),
        "anima_torch_compile": Words(
            "Anima: compile the whole model through accelerate, the older way.", "Off.", "torch_compile"
        ),
        "anima_compile_backend": Words(
            "Anima: the compiler that anima_compile uses; newer sd-scripts only.", "inductor."
        ),
        "anima_compile_mode": Words(
            "Anima: how much time anima_compile spends to get faster steps; newer sd-scripts only.", "default."
        ),
        "anima_compile_dynamic": Words("Anima: compile once for changing picture sizes: auto, true or false.", "auto."),
        "anima_compile_fullgraph": Words("Anima: fail rather than compile a block in parts.", "Off."),
        "anima_compile_cache_size_limit": Words(
            "Anima: how many compiled variants are kept; 0 leaves torch's own limit.", "0."
        ),
        "train_dir": Words(
            "Fine-tuning tab: folder in which the GUI writes its metadata JSON files.", "The project folder."
        ),
        "image_folder": Words(
            "Fine-tuning tab: one flat folder of pictures, without <repeats>_<name> folders.",
            "The folder with the pictures themselves.",
            "train_data_dir",
        ),
        "batch_size": Words(
            "Fine-tuning tab: pictures encoded at once while the GUI prepares latents; not the training batch.", "1."
        ),
        "caption_metadata_filename": Words(
            "Fine-tuning tab: name of the metadata JSON with the captions.", "meta_cap.json.", "in_json"
        ),
        "latent_metadata_filename": Words(
            "Fine-tuning tab: name of the metadata JSON with the prepared latents.", "meta_lat.json.", "in_json"
        ),
        "full_path": Words("Fine-tuning tab: write whole paths into the metadata JSON.", "On."),
        "create_caption": Words("Fine-tuning tab: gather the captions into the metadata JSON before training.", "On."),
        "create_buckets": Words("Fine-tuning tab: prepare buckets and latents before training.", "On."),
        "use_latent_files": Words(
            "Fine-tuning tab: train from the JSON with prepared latents (Yes) or from that with captions only (No).",
            "Yes.",
            "in_json",
        ),
        "template": Words(
            "Embedding tab: train with captions, or with stock sentences for an object or a style.",
            "caption.",
            "use_object_template use_style_template",
        ),
    }
)

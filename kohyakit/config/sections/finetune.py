"""Options of the programs that train whole models or embeddings; LoRA programs read none of them."""

from __future__ import annotations

from dataclasses import dataclass

from kohyakit.config.param import param


@dataclass(frozen=True, kw_only=True, slots=True)
class FinetuneConfig:
    """Options of the programs that train whole models or embeddings; LoRA programs read none of them."""

    use_safetensors: bool = param(
        False,
        help="Full training: save as safetensors where save_model_as is not given.",
        tip="Write save_model_as.",
    )
    learning_rate_te: float | None = param(
        None,
        ge=0,
        blank=("",),
        help="Full training of SD 1.x/2.x: learning rate of the text encoder; not given, learning_rate, 0 freezes it.",
        tip="A third of the U-Net's, or 0.",
    )
    no_token_padding: bool = param(
        False,
        help="train_db: do not pad captions to 77 tokens, as the first DreamBooth code did.",
        tip="Off; the model was trained with padding.",
    )
    stop_text_encoder_training: int | None = param(
        None,
        ge=-1,
        blank=("",),
        gui_blank=(0,),
        help="train_db: stop training the text encoder after this step; -1 never starts it. The GUI's box is per "
        "cent of the steps, and its LoRA tab drops it.",
        tip="A third of the run.",
    )
    diffusers_xformers: bool = param(
        False,
        help="fine_tune and sdxl_train: take xformers through diffusers.",
        tip="Off; sdpa is enough.",
    )
    train_text_encoder: bool = param(
        False,
        help="fine_tune, sdxl_train and sd3_train: train the text encoders as well.",
        tip="On with a low learning_rate_te for new words.",
    )
    learning_rate_te1: float | None = param(
        None,
        ge=0,
        blank=("",),
        help="Full training of SDXL or SD3: learning rate of the first text encoder (CLIP-L); not given, "
        "learning_rate, 0 freezes it.",
        tip="A third of the model's rate, or 0.",
    )
    learning_rate_te2: float | None = param(
        None,
        ge=0,
        blank=("",),
        help="Full training of SDXL or SD3: learning rate of the second text encoder (CLIP-G); not given, "
        "learning_rate, 0 freezes it.",
        tip="0: it is large and rarely needs it.",
    )
    learning_rate_te3: float | None = param(
        None,
        ge=0,
        blank=("",),
        help="sd3_train: learning rate of T5-XXL; not given, learning_rate, 0 freezes it.",
        tip="0.",
    )
    block_lr: str | None = param(
        None,
        blank=("",),
        metavar="23 NUMBERS",
        help="sdxl_train: 23 learning rates, comma-separated, one for each block of the U-Net.",
        tip="For experiments; sd-scripts stops on any other count.",
    )
    fused_optimizer_groups: int | None = param(
        None,
        ge=0,
        blank=(0, ""),
        help="sdxl_train: split the optimizer in this many groups that step during the backward pass, to save "
        "memory. Does not work in the other programs.",
        tip="4 to 10, instead of fused_backward_pass.",
    )
    blockwise_fused_optimizers: bool = param(
        False,
        help="flux_train, sd3_train, lumina_train: one optimizer a block, stepping during the backward pass; "
        "saves memory. Not with schedule-free optimizers.",
        tip="On for full training with 24 GB.",
    )
    mem_eff_save: bool = param(
        False,
        help="flux_train, lumina_train: save the model piece by piece with little main memory.",
        tip="On with 64 GB or less.",
    )
    skip_latents_validity_check: bool = param(
        False,
        deprecated=True,
        help="The old name of skip_cache_check in the newer full-training programs.",
        tip="Write skip_cache_check.",
    )
    double_blocks_to_swap: int | None = param(
        None,
        ge=0,
        blank=(0, ""),
        deprecated=True,
        help="flux_train: the old way to swap double blocks to main memory.",
        tip="Write blocks_to_swap.",
    )
    single_blocks_to_swap: int | None = param(
        None,
        ge=0,
        blank=(0, ""),
        deprecated=True,
        help="flux_train: the old way to swap single blocks to main memory.",
        tip="Write blocks_to_swap.",
    )
    train_t5xxl: bool = param(
        False,
        help="sd3_train: train T5-XXL as well; needs train_text_encoder and no cached outputs.",
        tip="Off: enormous and rarely useful.",
    )
    use_t5xxl_cache_only: bool = param(
        False,
        help="sd3_train: cache T5's outputs only, so that the CLIP encoders can still be trained.",
        tip="On with train_text_encoder.",
    )
    num_last_block_to_freeze: int | None = param(
        None,
        ge=0,
        blank=(0, ""),
        help="sd3_train: leave the last so many blocks untrained.",
        tip="For experiments.",
    )
    weights: str | None = param(
        None,
        blank=("",),
        metavar="FILE",
        help="Embeddings: an embedding file to go on from.",
        tip="Its number of vectors must equal num_vectors_per_token.",
    )
    num_vectors_per_token: int = param(
        1,
        ge=1,
        help="Embeddings: how many token vectors the new word gets.",
        tip="4 to 8; more holds more and uses up the prompt's 75 tokens.",
    )
    token_string: str | None = param(
        None,
        blank=("",),
        help="Embeddings: the new word, which the tokenizer must not know.",
        tip="Something like mydog01, used in the captions.",
    )
    init_word: str | None = param(
        None,
        blank=("",),
        help="Embeddings: known word or words that the vectors start from.",
        tip="The class: dog, painting.",
    )
    use_object_template: bool = param(
        False,
        help="Embeddings: ignore captions and train with stock sentences such as a photo of a {}.",
        tip="For an object without captions.",
    )
    use_style_template: bool = param(
        False,
        help="Embeddings: ignore captions and train with stock sentences such as a painting in the style of {}.",
        tip="For a style without captions.",
    )

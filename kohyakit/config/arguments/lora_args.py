"""`network_args` of the networks that are trained in process: LoRA, LoCon and LyCORIS' own."""

from __future__ import annotations

from dataclasses import dataclass

from kohyakit.config.param import param

VECTORS = ("principal", "last", "middle")  # which of a weight's singular vectors T-LoRA may begin on


@dataclass(frozen=True, kw_only=True, slots=True)
class LoraArgs:
    """What networks.lora, its kin and LyCORIS take. None is "not given"."""

    # LoRA and LoCon (networks.lora), most of them also in LyCORIS
    conv_dim: int | None = param(
        None,
        ge=0,
        help="Rank of the adapters for 3x3 convolutions (LoCon). Not given, networks.lora leaves those layers "
        "alone; LyCORIS takes network_dim.",
        tip="A quarter to a half of network_dim picks up texture and style; leave it out for a plain face or object.",
    )
    conv_alpha: float | None = param(
        None,
        help="Alpha of the convolution adapters; their strength is conv_alpha / conv_dim. Not given, it is 1 in "
        "networks.lora and network_alpha in LyCORIS.",
        tip="Keep the same ratio to conv_dim as network_alpha has to network_dim.",
    )
    rank_dropout: float | None = param(
        None,
        ge=0,
        le=1,
        help="Chance, 0 to 1, that a whole rank of an adapter is switched off for a training step; the others are "
        "scaled up to make up for it.",
        tip="0.1 to 0.3 against overfitting with few pictures.",
    )
    module_dropout: float | None = param(
        None,
        ge=0,
        le=1,
        help="Chance, 0 to 1, that a whole adapter is skipped in a training step.",
        tip="0.1 to 0.3 against overfitting; more slows learning visibly.",
    )
    block_dims: tuple[int, ...] | None = param(
        None,
        ge=0,
        separator=",",
        help="Rank of each U-Net block, comma-separated: 25 numbers for SD 1.x/2.x, 23 for SDXL; 0 leaves a block out.",
        tip="For experiments with which block learns what; sd-scripts stops on any other count.",
    )
    block_alphas: tuple[float, ...] | None = param(
        None,
        separator=",",
        help="Alpha of each U-Net block, as many numbers as block_dims. Not given, all have network_alpha.",
        tip="Set them in proportion to block_dims.",
    )
    conv_block_dims: tuple[int, ...] | None = param(
        None,
        ge=0,
        separator=",",
        help="Rank of each block's 3x3 convolution adapters, as many numbers as block_dims. Not given, conv_dim "
        "for all or, without that, none.",
        tip="Only together with block_dims or block weights.",
    )
    conv_block_alphas: tuple[float, ...] | None = param(
        None,
        separator=",",
        help="Alpha of each block's convolution adapters, as many numbers as conv_block_dims. Not given, "
        "conv_alpha or 1.",
        tip="Set them in proportion to conv_block_dims.",
    )
    down_lr_weight: str | None = param(
        None,
        blank=("",),
        help="Factors on the U-Net learning rate for the down blocks, shallow to deep: 12 numbers (9 for SDXL) or "
        "a curve name: sine, cosine, linear, reverse_linear, zeros, each with +base, like sine+0.5.",
        tip="Missing numbers count as 1; a factor of 0 leaves the block untrained.",
    )
    mid_lr_weight: str | None = param(
        None,
        blank=("",),
        help="Factor on the U-Net learning rate for the middle block: one number (three for SDXL).",
        tip="0 leaves the middle block untrained.",
    )
    up_lr_weight: str | None = param(
        None,
        blank=("",),
        help="Factors on the U-Net learning rate for the up blocks, deep to shallow: 12 numbers (9 for SDXL) or a "
        "curve name as for down_lr_weight.",
        tip="Style sits mostly in the up blocks; lower them to keep a character's style flexible.",
    )
    block_lr_zero_threshold: float | None = param(
        None,
        help="Block factors at or below this count as 0, so those blocks get no adapter at all.",
        tip="0.1 trims curves such as sine to the blocks that matter.",
    )
    loraplus_lr_ratio: float | None = param(
        None,
        ge=0,
        help="LoRA+: the learning rate of the up matrices is this many times that of the down matrices.",
        tip="4 to 16 learns faster; not together with Prodigy or D-Adaptation.",
    )
    loraplus_unet_lr_ratio: float | None = param(
        None,
        ge=0,
        help="LoRA+ ratio for the U-Net alone; it goes before loraplus_lr_ratio.",
        tip="Use it when the text encoder should stay on a single rate.",
    )
    loraplus_text_encoder_lr_ratio: float | None = param(
        None,
        ge=0,
        help="LoRA+ ratio for the text encoders alone; it goes before loraplus_lr_ratio.",
        tip="Text encoders overfit first; keep it smaller than the U-Net's.",
    )
    unit: int | None = param(
        None,
        ge=1,
        help="DyLoRA: how many ranks form one group; each step trains one group, so the file can be cut to fewer "
        "ranks afterwards. network_dim must divide by it. Default 1.",
        tip="4 with network_dim 16 to 128; smaller units need more steps.",
    )
    enable_all_linear: bool | None = param(
        None,
        help="OFT: adapt every linear layer, not only attention. In sd-scripts any value, even False, switches it on.",
        tip="More capacity, larger file.",
    )
    enable_conv: bool | None = param(
        None,
        help="OFT: adapt the convolutions too. In sd-scripts any value, even False, switches it on.",
        tip="For styles with a texture of their own.",
    )
    # LyCORIS (lycoris.kohya)
    algo: str | None = param(
        None,
        blank=("",),
        help="LyCORIS method: lora (or locon), loha, lokr, ia3, dylora, glora, diag-oft, boft, full, tlora. Default "
        "lora.",
        tip="lokr with factor 8 makes small files; loha needs a low network_dim (its true rank is the square).",
    )
    preset: str | None = param(
        None,
        blank=("",),
        help="LyCORIS: which layers are adapted: full (default), full-lin, attn-mlp (what plain LoRA does), "
        "attn-only, unet-only, unet-transformer-only, unet-convblock-only, ia3, or the path of a TOML.",
        tip="attn-mlp to compare with a plain LoRA.",
    )
    factor: int | None = param(
        None,
        ge=-1,
        help="LoKr: how the weight matrix is split in two Kronecker factors; -1 splits as evenly as it can (the "
        "smallest file), small numbers keep more.",
        tip="4 to 8 for fidelity, 16 or -1 for tiny files.",
    )
    dropout: float | None = param(
        None,
        ge=0,
        le=1,
        help="LyCORIS: share of neurons dropped each step; it goes before network_dropout.",
        tip="0.1 to 0.3 against overfitting.",
    )
    decompose_both: bool | None = param(
        None,
        help="LoKr: split the smaller of the two factors into low-rank parts too, not only the larger one.",
        tip="A smaller file, less capacity.",
    )
    use_tucker: bool | None = param(
        None,
        help="LyCORIS: Tucker decomposition of 3x3 convolutions, which keeps the adapter small there.",
        tip="On for LoHa and LoKr with convolutions.",
    )
    use_cp: bool | None = param(
        None,
        help="The old, wrong name of use_tucker; LyCORIS still reads it.",
        tip="Write use_tucker.",
    )
    use_conv_cp: bool | None = param(
        None,
        help="A still older name of use_tucker.",
        tip="Write use_tucker.",
    )
    disable_conv_cp: bool | None = param(
        None,
        help="Old LyCORIS switch, the reverse of use_tucker.",
        tip="Write use_tucker=False.",
    )
    use_scalar: bool | None = param(
        None,
        help="LyCORIS: a trained factor in front of each adapter, with another start of its weights.",
        tip="Try it when a LoRA needs uncommonly long to show anything.",
    )
    rank_dropout_scale: bool | None = param(
        None,
        help="LyCORIS: scale what rank dropout leaves so that the mean strength stays the same.",
        tip="Only with rank_dropout.",
    )
    train_norm: bool | None = param(
        None,
        help="LyCORIS: train the normalisation layers as well.",
        tip="Can help styles; not every program loads it.",
    )
    block_size: int | None = param(
        None,
        ge=1,
        help="LyCORIS DyLoRA: how many ranks form a group (`unit` of sd-scripts' DyLoRA). Default 4.",
        tip="network_dim must divide by it.",
    )
    constraint: float | None = param(
        None,
        ge=0,
        help="Diag-OFT and BOFT: how far the rotation may go from the start; 0 or none is no limit.",
        tip="1e-3 to 1e-2 keeps the base model's look.",
    )
    rescaled: bool | None = param(
        None,
        help="Diag-OFT and BOFT: train a scale for each output beside the rotation.",
        tip="A little more capacity.",
    )
    dora_wd: bool | None = param(
        None,
        help="DoRA: size and direction of the weights are trained apart. Slower and heavier on memory, often "
        "closer to full training.",
        tip="Try a quarter of the rank of a plain LoRA; it cannot go with bypass_mode.",
    )
    wd_on_output: bool | None = param(
        None,
        help="DoRA: take the size along the outputs (default True) instead of the inputs.",
        tip="Leave it alone.",
    )
    bypass_mode: bool | None = param(
        None,
        help="LyCORIS: run the adapter beside the layer instead of adding it to the weight; for 8-bit and 4-bit "
        "base models.",
        tip="Off unless the base model is quantised.",
    )
    full_matrix: bool | None = param(
        None,
        help="LoKr: keep the larger factor whole, whatever network_dim says.",
        tip="The most capacity LoKr has.",
    )
    rs_lora: bool | None = param(
        None,
        help="Rank-stabilised LoRA: strength is alpha / sqrt(rank) instead of alpha / rank.",
        tip="Lower alpha when you switch it on at a high rank.",
    )
    unbalanced_factorization: bool | None = param(
        None,
        help="LoKr: make the two factors as uneven as the factor allows.",
        tip="For experiments.",
    )
    train_on_input: bool | None = param(
        None,
        help="(IA)^3: scale a layer's inputs instead of its outputs.",
        tip="The GUI switches it on.",
    )
    sig_type: str | None = param(
        None,
        blank=("",),
        choices=VECTORS,
        help="T-LoRA: which singular vectors of a layer's weight it begins on: principal (default), last or middle.",
        tip="last is the paper's own choice; it learns beside what the layer does most.",
    )
    min_rank: int | None = param(
        None,
        ge=0,
        help="T-LoRA: how many ranks learn from noise alone; all of network_dim learn where there is none. Default 1.",
        tip="Half of network_dim holds back less; network_dim itself switches it off.",
    )
    alpha_rank_scale: float | None = param(
        None,
        ge=0,
        help="T-LoRA: the power with which ranks become fewer between no noise and noise alone; 1 (default) is even.",
        tip="Above 1 fewer ranks learn from much noise, which is where a layout is learnt by heart.",
    )
    # Transformer families, trained by sd-scripts only
    train_blocks: str | None = param(
        None,
        blank=("",),
        help="Flux: all (default), double or single blocks. Lumina: all, transformer, refiners, noise_refiner or "
        "context_refiner.",
        tip="single saves memory on Flux at some loss.",
    )
    split_qkv: bool | None = param(
        None,
        help="Flux, SD3, HunyuanImage, Lumina: separate adapters for query, key and value instead of one; only "
        "the text True counts.",
        tip="Closer to LoRAs of diffusers; a larger file.",
    )
    train_t5xxl: bool | None = param(
        None,
        help="Flux, SD3, LyCORIS: train an adapter on the T5 text encoder as well.",
        tip="Costs much memory and rarely helps.",
    )

"""`network_args`: what a network module takes beside rank and alpha, as texts `name=value`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from kohyakit.config.arguments.lora_args import LoraArgs
from kohyakit.config.param import param
from kohyakit.errors import Problem

_NONE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkArgs(LoraArgs):
    """The arguments inside `network_args`, read; here those of the other families' networks. None is "not given".

    extras: names that no network module is known to take. problems: what could not be read, and those names.
    """

    ggpo_sigma: float | None = param(
        None,
        help="Flux, HunyuanImage: size of the noise that GGPO adds to the weights against overfitting. Works only "
        "together with ggpo_beta.",
        tip="0.03 is where the GUI starts.",
    )
    ggpo_beta: float | None = param(
        None,
        help="Flux, HunyuanImage: how strongly the gradient steers GGPO's noise. Works only together with ggpo_sigma.",
        tip="0.01 is where the GUI starts.",
    )
    img_attn_dim: int | None = param(
        None,
        ge=0,
        help="Flux: rank for the picture stream's attention in double blocks; 0 is none.",
        tip="Default network_dim.",
    )
    txt_attn_dim: int | None = param(
        None,
        ge=0,
        help="Flux: rank for the text stream's attention in double blocks; 0 is none.",
        tip="Default network_dim.",
    )
    img_mlp_dim: int | None = param(
        None,
        ge=0,
        help="Flux: rank for the picture stream's feed-forward layers; 0 is none.",
        tip="Default network_dim.",
    )
    txt_mlp_dim: int | None = param(
        None,
        ge=0,
        help="Flux: rank for the text stream's feed-forward layers; 0 is none.",
        tip="Default network_dim.",
    )
    img_mod_dim: int | None = param(
        None,
        ge=0,
        help="Flux: rank for the picture stream's modulation layers; 0 is none.",
        tip="Default network_dim.",
    )
    txt_mod_dim: int | None = param(
        None,
        ge=0,
        help="Flux: rank for the text stream's modulation layers; 0 is none.",
        tip="Default network_dim.",
    )
    single_dim: int | None = param(
        None,
        ge=0,
        help="Flux: rank for the linear layers of the single blocks; 0 is none.",
        tip="Default network_dim.",
    )
    single_mod_dim: int | None = param(
        None,
        ge=0,
        help="Flux: rank for the modulation layers of the single blocks; 0 is none.",
        tip="Default network_dim.",
    )
    in_dims: tuple[int, ...] | None = param(
        None,
        ge=0,
        separator=",",
        help="Flux: five ranks for the input layers: img, time, vector, guidance, txt; 0 is none.",
        tip="Not given, those layers are left alone.",
    )
    train_double_block_indices: str | None = param(
        None,
        blank=("",),
        help="Flux: which of the 19 double blocks are trained: all, none, or like 0-3,7.",
        tip="Blocks may not exceed 18.",
    )
    train_single_block_indices: str | None = param(
        None,
        blank=("",),
        help="Flux: which of the 38 single blocks are trained: all, none, or like 0-9,20.",
        tip="Blocks may not exceed 37.",
    )
    context_attn_dim: int | None = param(
        None,
        ge=0,
        help="SD3: rank for the text stream's attention; 0 is none.",
        tip="Default network_dim.",
    )
    context_mlp_dim: int | None = param(
        None,
        ge=0,
        help="SD3: rank for the text stream's feed-forward layers; 0 is none.",
        tip="Default network_dim.",
    )
    context_mod_dim: int | None = param(
        None,
        ge=0,
        help="SD3: rank for the text stream's modulation layers; 0 is none.",
        tip="Default network_dim.",
    )
    x_attn_dim: int | None = param(
        None,
        ge=0,
        help="SD3: rank for the picture stream's attention; 0 is none.",
        tip="Default network_dim.",
    )
    x_mlp_dim: int | None = param(
        None,
        ge=0,
        help="SD3: rank for the picture stream's feed-forward layers; 0 is none.",
        tip="Default network_dim.",
    )
    x_mod_dim: int | None = param(
        None,
        ge=0,
        help="SD3: rank for the picture stream's modulation layers; 0 is none.",
        tip="Default network_dim.",
    )
    emb_dims: tuple[int, ...] | None = param(
        None,
        ge=0,
        separator=",",
        help="SD3: six ranks for the embedding layers: context, time, vector, joint, x, output; 0 is none.",
        tip="Not given, those layers are left alone.",
    )
    train_block_indices: str | None = param(
        None,
        blank=("",),
        help="SD3: which joint blocks are trained: all, none, or like 0-3,7.",
        tip="All unless you test blocks.",
    )
    attn_dim: int | None = param(
        None,
        ge=0,
        help="Lumina: rank for the attention layers; 0 is none.",
        tip="Default network_dim.",
    )
    mlp_dim: int | None = param(
        None,
        ge=0,
        help="Lumina: rank for the feed-forward layers; 0 is none.",
        tip="Default network_dim.",
    )
    mod_dim: int | None = param(
        None,
        ge=0,
        help="Lumina: rank for the modulation layers; 0 is none.",
        tip="Default network_dim.",
    )
    refiner_dim: int | None = param(
        None,
        ge=0,
        help="Lumina: rank for the refiner blocks; 0 is none.",
        tip="Default network_dim.",
    )
    embedder_dims: tuple[int, ...] | None = param(
        None,
        ge=0,
        separator=",",
        help="Lumina: three ranks for the embedders: x, time, caption; 0 is none.",
        tip="Not given, those layers are left alone.",
    )
    train_llm_adapter: bool | None = param(
        None,
        help="Anima: train an adapter on the language-model adapter too.",
        tip="Off for styles and subjects.",
    )
    exclude_patterns: str | None = param(
        None,
        blank=("",),
        help="Anima, LoHa, LoKr: a list of regular expressions; layers whose names match get no adapter.",
        tip="Write it as ['pattern', 'pattern'].",
    )
    include_patterns: str | None = param(
        None,
        blank=("",),
        help="Anima, LoHa, LoKr: a list of regular expressions that bring excluded layers back in.",
        tip="Write it as ['pattern'].",
    )
    network_reg_lrs: str | None = param(
        None,
        blank=("",),
        help="Flux, HunyuanImage, Anima: learning rates by layer name: regular expression=rate, comma-separated.",
        tip="The first match counts.",
    )
    network_reg_dims: str | None = param(
        None,
        blank=("",),
        help="Flux, HunyuanImage, Anima: ranks by layer name: regular expression=rank, comma-separated.",
        tip="The first match counts.",
    )
    verbose: bool | None = param(
        None,
        help="Log every layer that gets or misses an adapter; only the text True counts.",
        tip="To see what a pattern matched.",
    )

    extras: Mapping[str, str] = field(default_factory=lambda: _NONE)
    problems: tuple[Problem, ...] = ()

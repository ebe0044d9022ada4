"""The LoRA network: method, rank, alpha, dropouts."""

from __future__ import annotations

from dataclasses import dataclass

from kohyakit.config.arguments.network_args import NetworkArgs
from kohyakit.config.arguments.network_modules import MODULE_ARGS, NETWORK_ARG_SPECS, parse_network_args
from kohyakit.config.param import param, standing

__all__ = ["MODULE_ARGS", "NETWORK_ARG_SPECS", "NetworkArgs", "NetworkConfig", "parse_network_args"]


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkConfig:
    """The LoRA network: method, rank, alpha, dropouts."""

    network_weights: str | None = param(
        None,
        blank=("",),
        gui=("lora_network_weights",),
        metavar="FILE",
        help="A LoRA file to start from instead of a fresh one; its rank must be network_dim unless "
        "dim_from_weights is on.",
        tip="To train an existing LoRA further; for an interrupted run use resume, which also restores the optimizer.",
    )
    network_module: str | None = param(
        None,
        unset="networks.lora",
        blank=("",),
        metavar="MODULE",
        help="The kind of network: networks.lora for LoRA and LoCon, lycoris.kohya for LoHa, LoKr, DoRA and "
        "others, networks.lora_flux and the like for other model families.",
        tip="networks.lora unless you know why not. The GUI derives it from its LoRA type.",
    )
    network_dim: int | None = param(
        None,
        unset=4,
        ge=1,
        blank=("",),
        gui_blank=(0,),
        help="Rank of the LoRA: how much it can hold, and how large the file gets (SD 1.5: 1.2 MB a rank in "
        "fp16, SDXL: 7.1 MB). Not given, sd-scripts takes 4.",
        tip="16 to 32 for a subject, 32 to 128 for a style or the beginner's recipe; lower it when the LoRA overfits.",
    )
    network_alpha: float = param(
        1,
        help="Strength of the LoRA while training: its effect is multiplied by alpha / rank. 0 counts as alpha = rank.",
        tip="Half the rank to just below it; at 1 the learning rate has to be several times higher.",
    )
    network_dropout: float | None = param(
        None,
        unset=0,
        ge=0,
        le=1,
        blank=(0, ""),
        help="Chance, 0 to 1, that each value inside the LoRA is switched off in a step; 1 would train nothing.",
        tip="0.1 against overfitting with few pictures.",
    )
    network_args: tuple[str, ...] | None = param(
        None,
        blank=("",),
        help="Further settings of the network module as name=value texts, such as conv_dim=8 conv_alpha=4 for LoCon.",
        tip="kohyakit explain conv_dim explains each of them.",
    )
    network_train_unet_only: bool = param(
        False,
        help="Train the U-Net (or transformer) part of the LoRA and leave the text encoders alone.",
        tip="On for SDXL, Flux and SD3, and whenever text encoder outputs are cached.",
    )
    network_train_text_encoder_only: bool = param(
        False,
        help="Train only the text encoder part of the LoRA.",
        tip="Hardly ever: it learns words, not looks.",
    )
    dim_from_weights: bool = param(
        False,
        help="Take rank and alpha of each layer from the file in network_weights instead of network_dim.",
        tip="On when you continue a LoRA whose rank you do not know.",
    )
    scale_weight_norms: float | None = param(
        None,
        unset=0,
        ge=0,
        blank=(0, ""),
        help="After each step shrink every adapter whose norm exceeds this value, which keeps the LoRA from "
        "growing too strong. Networks without support ignore it.",
        tip="1 to start; watch the share of scaled keys and lower it for LoRAs that must mix well.",
    )
    base_weights: tuple[str, ...] | None = param(
        None,
        blank=("",),
        metavar="FILE...",
        help="LoRA files that are merged into the base model before training, so that the new one learns what "
        "they lack.",
        tip="To train a character on top of a style LoRA; load them when drawing too.",
    )
    base_weights_multiplier: tuple[float, ...] | None = param(
        None,
        blank=("",),
        help="Strength of each file in base_weights, in their order; missing ones count as 1.",
        tip="The strength you draw with.",
    )

    @property
    def rank(self) -> int:
        """network_dim in force."""
        return int(standing(self, "network_dim"))

    @property
    def module(self) -> str:
        """network_module in force."""
        return str(standing(self, "network_module"))

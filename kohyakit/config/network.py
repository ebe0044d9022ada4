"""The LoRA network: method, rank, alpha, dropouts."""

from __future__ import annotations

from dataclasses import dataclass

from kohyakit.config.param import param


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkConfig:
    """The LoRA network: method, rank, alpha, dropouts."""

    network_weights: str | None = param(None, blank=("",))
    network_module: str | None = param(None, blank=("",))
    network_dim: int | None = param(None, blank=(0, ""))
    network_alpha: float = param(1.0)
    network_dropout: float | None = param(None, blank=(0, ""))
    network_args: tuple[str, ...] | None = param(None)
    network_train_unet_only: bool = param(False)
    network_train_text_encoder_only: bool = param(False)
    dim_from_weights: bool = param(False)
    scale_weight_norms: float | None = param(None, blank=(0, ""))
    base_weights: tuple[str, ...] | None = param(None)
    base_weights_multiplier: tuple[float, ...] | None = param(None)

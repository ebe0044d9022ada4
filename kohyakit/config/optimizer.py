"""Optimizer, learning rates and their schedule."""

from __future__ import annotations

from dataclasses import dataclass

from kohyakit.config.param import param


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerConfig:
    """Optimizer, learning rates and their schedule."""

    optimizer_type: str = param("", gui=("optimizer",))
    use_8bit_adam: bool = param(False)
    use_lion_optimizer: bool = param(False)
    learning_rate: float = param(2e-06)
    max_grad_norm: float = param(1.0)
    optimizer_args: tuple[str, ...] | None = param(None)
    lr_scheduler_type: str = param("")
    lr_scheduler_args: tuple[str, ...] | None = param(None)
    lr_scheduler: str = param("constant")
    lr_warmup_steps: int | float = param(0)
    lr_decay_steps: int | float = param(0)
    lr_scheduler_num_cycles: int = param(1)
    lr_scheduler_power: float = param(1.0)
    fused_backward_pass: bool = param(False)
    lr_scheduler_timescale: int | None = param(None)
    lr_scheduler_min_lr_ratio: float | None = param(None)
    unet_lr: float | None = param(None, blank=(0, ""))
    text_encoder_lr: tuple[float, ...] | None = param(None)
    llm_adapter_lr: float | None = param(None)
    self_attn_lr: float | None = param(None)
    cross_attn_lr: float | None = param(None)
    mlp_lr: float | None = param(None)
    mod_lr: float | None = param(None)

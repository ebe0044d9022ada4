"""Noise, timesteps and the loss."""

from __future__ import annotations

from dataclasses import dataclass

from kohyakit.config.param import param


@dataclass(frozen=True, kw_only=True, slots=True)
class NoiseLossConfig:
    """Noise, timesteps and the loss."""

    noise_offset: float | None = param(None, blank=(0, ""))
    noise_offset_random_strength: bool = param(False)
    multires_noise_iterations: int | None = param(None, blank=(0, ""))
    ip_noise_gamma: float | None = param(None, blank=(0, ""))
    ip_noise_gamma_random_strength: bool = param(False)
    multires_noise_discount: float = param(0.3)
    adaptive_noise_scale: float | None = param(None, blank=(0, ""))
    min_timestep: int | None = param(None, blank=(0, ""))
    max_timestep: int | None = param(None, blank=(0, ""))
    loss_type: str = param("l2", choices=("l1", "l2", "huber", "smooth_l1"))
    huber_schedule: str = param("snr", choices=("constant", "exponential", "snr"))
    huber_c: float = param(0.1)
    huber_scale: float = param(1.0)
    prior_loss_weight: float = param(1.0)
    masked_loss: bool = param(False)
    min_snr_gamma: float | None = param(None, blank=(0, ""))
    scale_v_pred_loss_like_noise_pred: bool = param(False)
    v_pred_like_loss: float | None = param(None, blank=(0, ""))
    debiased_estimation_loss: bool = param(False)

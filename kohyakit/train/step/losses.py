"""Losses and their weights. Each is a function of tensors; [B] is the batch."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from kohyakit.config.sections.noise_loss import NoiseLossConfig
from kohyakit.models.noise.process import TRAIN_TIMESTEPS, Process

_SNR_LIMIT = 1000.0


def min_snr_weight(snr: Tensor, gamma: float, *, v_prediction: bool = False) -> Tensor:
    """Weight of each sample's loss: min(snr, gamma) over snr (over snr + 1 for v-prediction).

    snr: [B], dimensionless, > 0 unless v_prediction. Returns [B], same dtype and device.
    Raises ValueError for snr of 0 without v_prediction. Source: Hang et al. 2023, eq. 4-5; as sd-scripts.
    """
    if not v_prediction and bool((snr == 0).any()):
        raise ValueError("min-SNR weighting of noise prediction needs a signal-to-noise ratio above 0")
    return snr.clamp(max=gamma) / (snr + 1 if v_prediction else snr)


def debiased_weight(snr: Tensor, *, v_prediction: bool = False) -> Tensor:
    """1 / sqrt(snr), or 1 / (snr + 1) for v-prediction, with snr capped at 1000. [B] to [B]. Source: Yu et al. 2023."""
    snr = snr.clamp(max=_SNR_LIMIT)
    return 1 / (snr + 1) if v_prediction else 1 / snr.sqrt()


def v_prediction_scale(snr: Tensor) -> Tensor:
    """snr / (snr + 1) with snr capped at 1000: turns a v-prediction loss into the scale of a noise loss. [B] to [B]."""
    snr = snr.clamp(max=_SNR_LIMIT)
    return snr / (snr + 1)


def huber_threshold(timesteps: Tensor, schedule: str, c: float, scale: float, alphas_cumprod: Tensor) -> Tensor:
    """Where Huber's loss turns from square to straight, per sample, [B]. Source: Khrapov et al. 2024; as sd-scripts.

    schedule: `constant`, `exponential` (falls to c at the last timestep) or `snr` (from 1 towards c as noise grows).
    """
    if schedule == "constant":
        return torch.full(timesteps.shape, c * scale, device=timesteps.device)
    if schedule == "exponential":
        return torch.exp(math.log(c) / TRAIN_TIMESTEPS * timesteps) * scale
    a = alphas_cumprod.to(timesteps.device)[timesteps]
    sigmas = ((1.0 - a) / a) ** 0.5
    return (1 - c) / (1 + sigmas) ** 2 + c


def elementwise_loss(prediction: Tensor, target: Tensor, loss_type: str, threshold: Tensor | None = None) -> Tensor:
    """The loss of every element, same shape as prediction. loss_type: l2, l1, huber or smooth_l1 (pseudo-Huber).

    threshold: [B], needed by huber and smooth_l1. Raises ValueError for another loss_type.
    """
    if loss_type == "l2":
        return F.mse_loss(prediction, target, reduction="none")
    if loss_type == "l1":
        return F.l1_loss(prediction, target, reduction="none")
    if threshold is None or loss_type not in ("huber", "smooth_l1"):
        raise ValueError(f"no loss for loss_type {loss_type!r} with threshold {threshold!r}")
    c = threshold.view(-1, *[1] * (prediction.ndim - 1))
    root = torch.sqrt((prediction - target) ** 2 + c**2) - c
    return 2 * c * root if loss_type == "huber" else 2 * root


def batch_loss(
    prediction: Tensor,
    target: Tensor,
    timesteps: Tensor,
    sample_weights: Tensor,
    config: NoiseLossConfig,
    process: Process,
    *,
    masks: Tensor | None = None,
) -> Tensor:
    """The loss of each sample, [B]: mean over C, H, W × sample weight (1, or prior_loss_weight) × the other weights.

    prediction, target: [B, C, H, W] in float32. The weights go by the process' snr, Huber's threshold by its
    alphas_cumprod: with zero_terminal_snr the two differ, as in sd-scripts.
    masks: [B, 1, H, W], how much each place counts; the mean is over all places all the same, as there.
    """
    threshold = None
    if config.loss_type in ("huber", "smooth_l1"):
        threshold = huber_threshold(
            timesteps, config.huber_schedule, config.huber_c, config.huber_scale, process.alphas_cumprod
        )
    loss = elementwise_loss(prediction, target, config.loss_type, threshold)
    if masks is not None:
        loss = loss * masks
    loss = loss.mean(dim=(1, 2, 3)) * sample_weights
    if not (
        config.min_snr_gamma
        or config.scale_v_pred_loss_like_noise_pred
        or config.v_pred_like_loss
        or config.debiased_estimation_loss
    ):
        return loss
    snr = process.snr.to(timesteps.device)[timesteps]
    if config.min_snr_gamma:
        loss = loss * min_snr_weight(snr, config.min_snr_gamma, v_prediction=process.v_prediction)
    if config.scale_v_pred_loss_like_noise_pred:
        loss = loss * v_prediction_scale(snr)
    if config.v_pred_like_loss:
        loss = loss + loss / v_prediction_scale(snr) * config.v_pred_like_loss
    if config.debiased_estimation_loss:
        loss = loss * debiased_weight(snr, v_prediction=process.v_prediction)
    return loss

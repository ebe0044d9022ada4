"""Noise: what is added to the latents, with the offset and the pyramid that are asked for."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from kohyakit.config.sections.noise_loss import NoiseLossConfig
from kohyakit.train.step.rng import StepStream


def offset_noise(
    noise: Tensor, latents: Tensor, offset: Tensor | float, adaptive_scale: float | None, stream: StepStream
) -> Tensor:
    """Noise with one shift per image and channel, so that a picture's mean brightness is learnt too.

    adaptive_scale adds that much of each channel's mean magnitude to the offset. Source: crosslabs 2023; as sd-scripts.
    """
    if adaptive_scale is not None:
        mean = latents.mean(dim=(2, 3), keepdim=True).abs()
        offset = torch.clamp(offset + adaptive_scale * mean, min=0.0)
    shift = stream.randn((latents.shape[0], latents.shape[1], 1, 1), latents, dtype=torch.float32)
    return noise + offset * shift


def pyramid_noise(noise: Tensor, iterations: int, discount: float, stream: StepStream) -> Tensor:
    """Noise with coarser noise of falling strength on top, rescaled to unit deviation.

    Level i has sides of 1 / r^i of the full ones, r drawn anew from 2 to 4 at each level, and is scaled up
    bilinearly; a level with a side of 1 is the last. Source: Whitaker 2023; as sd-scripts.
    """
    batch, channels, *full = noise.shape
    for i in range(iterations):
        shrink = (stream.uniform() * 2 + 2) ** i
        sides = [max(1, int(side / shrink)) for side in full]
        coarse = stream.randn_on_cpu((batch, channels, *sides)).to(noise.device)
        noise = noise + (F.interpolate(coarse, size=full, mode="bilinear") * discount**i).to(noise.dtype)
        if 1 in sides:
            break
    return noise / noise.std()


def sample_noise(latents: Tensor, config: NoiseLossConfig, stream: StepStream) -> Tensor:
    """The noise of one step, [B, C, H, W], with the offset and the pyramid that the config asks for."""
    noise = stream.randn(latents.shape, latents)
    if config.noise_offset:
        offset: Tensor | float = config.noise_offset
        if config.noise_offset_random_strength:
            offset = stream.rand(latents) * config.noise_offset
        noise = offset_noise(noise, latents, offset, config.adaptive_noise_scale, stream)
    if config.multires_noise_iterations:
        noise = pyramid_noise(noise, config.multires_noise_iterations, config.multires_noise_discount, stream)
    return noise


def perturbed(noise: Tensor, config: NoiseLossConfig, stream: StepStream) -> Tensor:
    """The noise that is added, which ip_noise_gamma makes differ from the one to be found (Ning et al. 2023)."""
    if not config.ip_noise_gamma:
        return noise
    strength: Tensor | float = config.ip_noise_gamma
    if config.ip_noise_gamma_random_strength:
        strength = stream.rand(noise) * config.ip_noise_gamma
    return noise + strength * stream.randn(noise.shape, noise)

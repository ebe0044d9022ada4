"""Noise processes: which timesteps are trained, what is mixed into the latents there, and what the model is to find."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from kohyakit.config.sections.model import ModelConfig
from kohyakit.config.sections.noise_loss import NoiseLossConfig

TRAIN_TIMESTEPS = 1000
BETAS = (0.00085, 0.012)  # of the first and the last timestep, between them linear in their square roots


class Stream(Protocol):
    """Where the random numbers of a step come from."""

    def randint(self, low: int, high: int, count: int) -> Tensor: ...


class Process(Protocol):
    """What a family does with noise.

    alphas_cumprod: the share of the latents that is left at every timestep, [1000]. snr: what weights of the loss go
    by, [1000]. v_prediction: the model finds a mixture of noise and latents, and not the noise alone.
    """

    @property
    def alphas_cumprod(self) -> Tensor: ...

    @property
    def snr(self) -> Tensor: ...

    @property
    def v_prediction(self) -> bool: ...

    def timesteps(self, count: int, asked: NoiseLossConfig, stream: Stream) -> Tensor:
        """Timesteps of a batch, [count], on the CPU."""

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Latents as they are at these timesteps; both [B, C, H, W], timesteps [B]."""

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What the model is to predict from them, [B, C, H, W]."""


@dataclass(frozen=True, slots=True)
class Ddpm:
    """Stable Diffusion's process, up to XL. With a rescaled schedule snr is still that of the plain one, as in
    sd-scripts."""

    alphas_cumprod: Tensor
    snr: Tensor
    v_prediction: bool = False

    @classmethod
    def of(cls, asked: ModelConfig, device: torch.device) -> Ddpm:
        alphas = scaled_linear_alphas_cumprod(zero_terminal_snr=asked.zero_terminal_snr).to(device)
        return cls(alphas, signal_to_noise(scaled_linear_alphas_cumprod()).to(device), asked.v_parameterization)

    def timesteps(self, count: int, asked: NoiseLossConfig, stream: Stream) -> Tensor:
        return sample_timesteps(count, asked, stream)

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        return add_noise(latents, noise, timesteps, self.alphas_cumprod)

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        return velocity(latents, noise, timesteps, self.alphas_cumprod) if self.v_prediction else noise


def scaled_linear_alphas_cumprod(*, zero_terminal_snr: bool = False) -> Tensor:
    """The cumulative product of alphas, [1000]: betas from 0.00085 to 0.012, linear in their square roots.

    zero_terminal_snr rescales them so that the last timestep is pure noise (Lin et al. 2023, algorithm 1).
    """
    first_beta, last_beta = BETAS
    betas = torch.linspace(first_beta**0.5, last_beta**0.5, TRAIN_TIMESTEPS, dtype=torch.float32) ** 2
    alphas_cumprod = torch.cumprod(1.0 - betas, dim=0)
    if zero_terminal_snr:
        root = alphas_cumprod.sqrt()
        first, last = root[0].clone(), root[-1].clone()
        alphas_bar = ((root - last) * (first / (first - last))) ** 2
        alphas = torch.cat([alphas_bar[:1], alphas_bar[1:] / alphas_bar[:-1]])
        alphas_cumprod = torch.cumprod(1.0 - (1 - alphas), dim=0)
    return alphas_cumprod


def signal_to_noise(alphas_cumprod: Tensor) -> Tensor:
    """The signal-to-noise ratio of every timestep, a / (1 - a), same shape."""
    return (alphas_cumprod.sqrt() / (1.0 - alphas_cumprod).sqrt()) ** 2


def add_noise(latents: Tensor, noise: Tensor, timesteps: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """sqrt(a) latents + sqrt(1 - a) noise; both [B, C, H, W], timesteps [B]. Source: Ho et al. 2020, eq. 4."""
    a = alphas_cumprod.to(latents.device, latents.dtype)[timesteps].view(-1, 1, 1, 1)
    return a**0.5 * latents + (1 - a) ** 0.5 * noise


def velocity(latents: Tensor, noise: Tensor, timesteps: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """The target of v-prediction, sqrt(a) noise - sqrt(1 - a) latents. Source: Salimans and Ho 2022."""
    a = alphas_cumprod.to(latents.device, latents.dtype)[timesteps].view(-1, 1, 1, 1)
    return a**0.5 * noise - (1 - a) ** 0.5 * latents


def sample_timesteps(count: int, asked: NoiseLossConfig, stream: Stream) -> Tensor:
    """Timesteps in [min_timestep, max_timestep), [count] on the CPU; a range of nothing gives its upper end."""
    low, high = asked.timesteps
    if low >= high:
        return torch.full((count,), min(high, TRAIN_TIMESTEPS - 1), dtype=torch.long)
    return stream.randint(low, high, count)

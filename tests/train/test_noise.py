"""Noise and timesteps: shapes, ranges, statistics, and the same numbers for the same seed."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from kohyakit.config.sections.noise_loss import NoiseLossConfig
from kohyakit.models.noise.process import add_noise, sample_timesteps, scaled_linear_alphas_cumprod, velocity
from kohyakit.train.step.noise import perturbed, pyramid_noise, sample_noise
from kohyakit.train.step.rng import StepStream


def stream(seed: int = 1) -> StepStream:
    return StepStream(torch.Generator().manual_seed(seed))


def test_adding_noise_and_velocity_are_a_rotation():
    """x = sqrt(a) x0 + sqrt(1-a) e and v = sqrt(a) e - sqrt(1-a) x0, so x0 = sqrt(a) x - sqrt(1-a) v."""
    a = scaled_linear_alphas_cumprod()
    x0, noise, t = torch.randn(3, 4, 8, 8), torch.randn(3, 4, 8, 8), torch.tensor([0, 400, 999])
    x, v = add_noise(x0, noise, t, a), velocity(x0, noise, t, a)
    at = a[t].view(-1, 1, 1, 1)
    assert torch.allclose(at.sqrt() * x - (1 - at).sqrt() * v, x0, atol=1e-5)


def test_diffusers_scheduler_adds_the_same_noise():
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False)
    x0, noise, t = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8), torch.tensor([3, 700])
    assert torch.equal(add_noise(x0, noise, t, scaled_linear_alphas_cumprod()), scheduler.add_noise(x0, noise, t))


def test_noise_offset_shifts_whole_channels():
    latents = torch.zeros(2, 4, 64, 64)
    plain = sample_noise(latents, NoiseLossConfig(), stream())
    shifted = sample_noise(latents, NoiseLossConfig(noise_offset=0.5), stream())
    difference = shifted - plain
    assert torch.allclose(difference, difference[:, :, :1, :1].expand_as(difference), atol=1e-6)
    assert difference.abs().max() > 0.1


def test_pyramid_noise_keeps_unit_deviation():
    noise = pyramid_noise(torch.randn(2, 4, 64, 64, generator=torch.Generator().manual_seed(3)), 6, 0.3, stream())
    assert float(noise.std()) == pytest.approx(1, abs=1e-5)


class Scripted(StepStream):
    """Draws nothing: uniform gives what it was told, normal numbers are the level's number; keeps the sides asked."""

    def __init__(self, *uniform: float) -> None:
        super().__init__()
        self.left, self.sides = list(uniform), []

    def uniform(self) -> float:
        return self.left.pop(0)

    def randn_on_cpu(self, shape):
        self.sides.append(tuple(shape[2:]))
        return torch.zeros(tuple(shape)).index_fill_(1, torch.tensor([0]), float(len(self.sides)))


def test_each_level_of_pyramid_noise_shrinks_from_the_full_size():
    """r = 2u + 2 anew a level: 40 / 2.5^0, 40 / 3^1 = 13.3, 40 / 2^2 = 10, 40 / 3.5^3 = 0.9, where it ends."""
    stream = Scripted(0.25, 0.5, 0.0, 0.75, 0.1, 0.2)
    noise = pyramid_noise(torch.zeros(1, 2, 40, 20), 6, 0.5, stream)
    assert stream.sides == [(40, 20), (13, 6), (10, 5), (1, 1)]
    # one channel is 1 + 2 / 2 + 3 / 4 + 4 / 8 = 3.25, the other 0: a deviation of 3.25 / 2, unbiased
    assert noise[0, :, 7, 7].tolist() == pytest.approx([2 * (1599 / 1600) ** 0.5, 0], rel=1e-5)


@pytest.mark.parametrize(("low", "high"), [(None, None), (200, 800), (0, 10)])
def test_timesteps_stay_in_their_range(low, high):
    steps = sample_timesteps(5000, NoiseLossConfig(min_timestep=low, max_timestep=high), stream())
    assert steps.min() >= (low or 0)
    assert steps.max() < (1000 if high is None else high)
    assert len(steps.unique()) > 0.9 * min(1000, (1000 if high is None else high) - (low or 0))


def test_an_empty_range_of_timesteps_is_its_upper_end():
    assert sample_timesteps(2, NoiseLossConfig(min_timestep=500, max_timestep=500), stream()).tolist() == [500, 500]


def test_input_perturbation_is_added_on_top():
    noise = torch.zeros(1, 4, 32, 32)
    assert torch.equal(perturbed(noise, NoiseLossConfig(), stream()), noise)
    assert float(perturbed(noise, NoiseLossConfig(ip_noise_gamma=0.1), stream()).std()) == pytest.approx(0.1, rel=0.1)


def test_the_state_of_the_sd_scripts_order_holds_the_gpus_stream_too(monkeypatch):
    """Noise is drawn on the GPU there: without its stream a resumed training would see other noise."""
    from kohyakit.train.step.rng_sd_scripts import SdScriptsOrder

    set_back = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda: torch.tensor([7]))
    monkeypatch.setattr(torch.cuda, "set_rng_state", set_back.append)
    order = SdScriptsOrder(1)
    order.restore_step(order.state())
    assert set_back == [torch.tensor([7])]

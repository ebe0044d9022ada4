"""Losses against plain numpy and worked-out numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from kohyakit.config.sections.noise_loss import NoiseLossConfig
from kohyakit.models.noise.process import Ddpm, scaled_linear_alphas_cumprod, signal_to_noise
from kohyakit.train.step.losses import (
    batch_loss,
    debiased_weight,
    elementwise_loss,
    huber_threshold,
    min_snr_weight,
    v_prediction_scale,
)


def reference_alphas() -> np.ndarray:
    """DDPM's schedule in double precision, from its definition."""
    betas = np.linspace(math.sqrt(0.00085), math.sqrt(0.012), 1000) ** 2
    return np.cumprod(1 - betas)


def test_the_noise_schedule_is_ddpms():
    assert scaled_linear_alphas_cumprod().numpy() == pytest.approx(reference_alphas(), rel=2e-5)


def test_signal_to_noise_is_a_over_one_minus_a():
    a = reference_alphas()
    ours = signal_to_noise(scaled_linear_alphas_cumprod()).numpy()
    assert ours == pytest.approx(a / (1 - a), rel=2e-4)


def test_zero_terminal_snr_ends_in_pure_noise_and_keeps_the_start():
    plain, rescaled = scaled_linear_alphas_cumprod(), scaled_linear_alphas_cumprod(zero_terminal_snr=True)
    assert rescaled[-1] == pytest.approx(0, abs=1e-6)
    assert rescaled[0] == pytest.approx(float(plain[0]), rel=1e-5)
    assert bool((rescaled[1:] <= rescaled[:-1]).all())


@pytest.mark.parametrize(
    ("snr", "gamma", "v", "expected"),
    [(10.0, 5.0, False, 0.5), (2.0, 5.0, False, 1.0), (10.0, 5.0, True, 5 / 11), (2.0, 5.0, True, 2 / 3)],
)
def test_min_snr_weight(snr, gamma, v, expected):
    assert min_snr_weight(torch.tensor([snr]), gamma, v_prediction=v).item() == pytest.approx(expected)


def test_min_snr_of_pure_noise_is_refused_without_v_prediction():
    with pytest.raises(ValueError, match="above 0"):
        min_snr_weight(torch.tensor([0.0]), 5)
    assert min_snr_weight(torch.tensor([0.0]), 5, v_prediction=True).item() == 0


def test_debiased_and_v_prediction_weights_cap_the_ratio_at_1000():
    assert debiased_weight(torch.tensor([4.0, 1e9])).tolist() == pytest.approx([0.5, 1 / math.sqrt(1000)])
    assert debiased_weight(torch.tensor([4.0]), v_prediction=True).item() == pytest.approx(0.2)
    assert v_prediction_scale(torch.tensor([4.0, 1e9])).tolist() == pytest.approx([0.8, 1000 / 1001])


@pytest.mark.parametrize(
    ("loss_type", "expected"),
    [
        ("l2", [0.25, 4.0]),
        ("l1", [0.5, 2.0]),
        # pseudo-Huber with c = 0.1: 2 c (sqrt(d^2 + c^2) - c), and without the factor c
        ("huber", [0.2 * (math.sqrt(0.26) - 0.1), 0.2 * (math.sqrt(4.01) - 0.1)]),
        ("smooth_l1", [2 * (math.sqrt(0.26) - 0.1), 2 * (math.sqrt(4.01) - 0.1)]),
    ],
)
def test_elementwise_losses(loss_type, expected):
    prediction, target = torch.tensor([[[[0.5, 2.0]]]]), torch.zeros(1, 1, 1, 2)
    loss = elementwise_loss(prediction, target, loss_type, torch.tensor([0.1]))
    assert loss.flatten().tolist() == pytest.approx(expected, rel=1e-6)


def test_an_unknown_loss_is_refused():
    with pytest.raises(ValueError, match="l3"):
        elementwise_loss(torch.zeros(1), torch.zeros(1), "l3")


def test_huber_thresholds():
    a = scaled_linear_alphas_cumprod()
    t = torch.tensor([0, 500, 999])
    assert huber_threshold(t, "constant", 0.1, 2.0, a).tolist() == pytest.approx([0.2] * 3)
    falling = huber_threshold(t, "exponential", 0.1, 1.0, a).tolist()
    assert falling == pytest.approx([1.0, 0.1**0.5, 0.1**0.999], rel=1e-5)
    sigma = np.sqrt((1 - reference_alphas()) / reference_alphas())[[0, 500, 999]]
    assert huber_threshold(t, "snr", 0.1, 1.0, a).tolist() == pytest.approx(0.9 / (1 + sigma) ** 2 + 0.1, rel=1e-4)


def plain() -> Ddpm:
    alphas = scaled_linear_alphas_cumprod()
    return Ddpm(alphas, signal_to_noise(alphas))


def test_a_regularisation_image_counts_by_its_prior_loss_weight():
    prediction, target = torch.ones(2, 4, 2, 2), torch.zeros(2, 4, 2, 2)
    loss = batch_loss(
        prediction, target, torch.tensor([10, 10]), torch.tensor([1.0, 0.7]), NoiseLossConfig(), plain(),
    )  # fmt: skip
    assert loss.tolist() == pytest.approx([1.0, 0.7])


def test_a_mask_takes_its_places_out_of_the_loss_and_not_out_of_the_mean():
    masks = torch.tensor([[[[1.0, 0.0], [0.5, 0.0]]]] * 2)
    loss = batch_loss(
        torch.full((2, 4, 2, 2), 2.0), torch.zeros(2, 4, 2, 2), torch.tensor([10, 10]), torch.tensor([1.0, 0.5]),
        NoiseLossConfig(), plain(), masks=masks,
    )  # fmt: skip
    assert loss.tolist() == pytest.approx([4 * 1.5 / 4, 4 * 1.5 / 4 * 0.5])


def test_min_snr_acts_in_the_batch_loss():
    t = torch.tensor([100])
    snr = reference_alphas()[100] / (1 - reference_alphas()[100])
    loss = batch_loss(
        torch.ones(1, 4, 2, 2), torch.zeros(1, 4, 2, 2), t, torch.ones(1), NoiseLossConfig(min_snr_gamma=5),
        plain(),
    )  # fmt: skip
    assert loss.item() == pytest.approx(min(snr, 5) / snr, rel=1e-3)


@pytest.mark.parametrize(
    ("option", "v", "weight"),
    [
        ({"min_snr_gamma": 5}, True, lambda snr: min(snr, 5) / (snr + 1)),
        ({"scale_v_pred_loss_like_noise_pred": True}, True, lambda snr: snr / (snr + 1)),
        ({"v_pred_like_loss": 0.5}, False, lambda snr: 1 + 0.5 * (snr + 1) / snr),
        ({"debiased_estimation_loss": True}, False, lambda snr: snr**-0.5),
    ],
)
def test_weights_go_by_the_ratio_they_are_given_and_huber_by_the_alphas(option, v, weight):
    """With zero_terminal_snr the two differ: noise is mixed by rescaled alphas, weights stay as they were."""
    rescaled, t = scaled_linear_alphas_cumprod(zero_terminal_snr=True), torch.tensor([900])
    a = reference_alphas()[900]
    snr = signal_to_noise(scaled_linear_alphas_cumprod())
    ones, zeros = torch.ones(1, 4, 2, 2), torch.zeros(1, 4, 2, 2)
    loss = batch_loss(ones, zeros, t, torch.ones(1), NoiseLossConfig(**option), Ddpm(rescaled, snr, v))
    assert loss.item() == pytest.approx(weight(a / (1 - a)), rel=1e-3)
    huber = batch_loss(ones, zeros, t, torch.ones(1), NoiseLossConfig(loss_type="huber"), Ddpm(rescaled, snr))
    sigma = float(((1 - rescaled[900]) / rescaled[900]) ** 0.5)
    c = 0.9 / (1 + sigma) ** 2 + 0.1
    assert huber.item() == pytest.approx(2 * c * (math.sqrt(1 + c * c) - c), rel=1e-4)

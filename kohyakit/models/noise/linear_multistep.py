"""The LMS sampler without scipy, which diffusers' own imports and which would slow every start by seconds."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from diffusers import EulerDiscreteScheduler
from torch import Tensor

ORDER = 4
_Euler: Any = EulerDiscreteScheduler  # whose lazy import hides its type


class LinearMultistepScheduler(_Euler):
    """Euler's sigmas with a polynomial through the last four derivatives (Adams-Bashforth on an uneven grid).

    The same numbers as diffusers' LMSDiscreteScheduler, which integrates the polynomials numerically.
    """

    def set_timesteps(self, *args: Any, **kwargs: Any) -> None:
        super().set_timesteps(*args, **kwargs)
        self._derivatives: list[Tensor] = []

    def step(self, model_output: Tensor, timestep: Any, sample: Tensor) -> SimpleNamespace:
        if self.step_index is None:
            self._init_step_index(timestep)
        step = self.step_index
        sigma = self.sigmas[step]
        if self.config.prediction_type == "v_prediction":
            foreseen = model_output * (-sigma / (sigma**2 + 1) ** 0.5) + sample / (sigma**2 + 1)
        else:
            foreseen = sample - sigma * model_output
        self._derivatives = [(sample - foreseen) / sigma, *self._derivatives][:ORDER]
        weights = weights_of(self.sigmas.cpu().numpy().astype(float), step, len(self._derivatives))
        for weight, derivative in zip(weights, self._derivatives, strict=True):
            sample = sample + weight * derivative
        self._step_index += 1
        return SimpleNamespace(prev_sample=sample)


def weights_of(sigmas: np.ndarray, step: int, order: int) -> list[float]:
    """Integral from sigmas[step] to sigmas[step + 1] of each Lagrange polynomial through the last `order` sigmas.

    Newest first. Gauss-Legendre with four points, exact for these polynomials.
    """
    start, end = sigmas[step], sigmas[step + 1]
    points, point_weights = np.polynomial.legendre.leggauss(4)
    at = (end - start) / 2 * points + (end + start) / 2
    known = [sigmas[step - back] for back in range(order)]
    weights = []
    for mine in range(order):
        value = np.ones_like(at)
        for other in range(order):
            if other != mine:
                value *= (at - known[other]) / (known[mine] - known[other])
        weights.append(float((end - start) / 2 * (point_weights * value).sum()))
    return weights

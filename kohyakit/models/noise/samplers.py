"""diffusers' schedulers by sd-scripts' names of samplers, set as sd-scripts sets them."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

from kohyakit.errors import ConfigError, Problem
from kohyakit.models.noise.process import BETAS, TRAIN_TIMESTEPS

# sample_sampler -> the scheduler's class, diffusers' save for LMS, and what it needs beyond the noise schedule.
SAMPLERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {}),
    "ddpm": ("DDPMScheduler", {}),
    "pndm": ("PNDMScheduler", {}),
    "lms": ("LinearMultistepScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_a": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "dpm_2": ("KDPM2DiscreteScheduler", {}),
    "dpm_2_a": ("KDPM2AncestralDiscreteScheduler", {}),
    # diffusers takes dpmsolver (without ++) only with this last sigma
    "dpmsolver": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min"}),
    "dpmsolver++": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++"}),
    "dpmsingle": ("DPMSolverSinglestepScheduler", {}),
}


def build_sampler(name: str, prediction_type: str = "epsilon", *, zero_terminal_snr: bool = False) -> Any:
    """diffusers' scheduler for a sampler's name, on Stable Diffusion's noise schedule, set as sd-scripts sets it.

    Names may carry the `k_` of old presets. DDIM and DDPM clip the picture they foresee to ±1. zero_terminal_snr: begin
    at the last timestep, on the schedule rescaled to end in noise alone where the sampler can. Raises ConfigError.
    """
    key = name.lower().removeprefix("k_")
    if key not in SAMPLERS:
        cure = f"choose one of {', '.join(SAMPLERS)}"
        raise ConfigError(Problem("sample_sampler", f"there is no sampler '{name}'", cure))
    kind, settings = SAMPLERS[key]
    sampler = _sampler_class(kind)
    if zero_terminal_snr:
        ending = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
        settings = settings | {key: ending[key] for key in ending.keys() & inspect.signature(sampler).parameters}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # diffusers would rather have dpmsolver++
        scheduler = sampler(
            num_train_timesteps=TRAIN_TIMESTEPS,
            beta_start=BETAS[0],
            beta_end=BETAS[1],
            beta_schedule="scaled_linear",
            prediction_type=prediction_type,
            **settings,
        )
    if scheduler.config.get("clip_sample") is False:
        scheduler.register_to_config(clip_sample=True)
    return scheduler


def _sampler_class(name: str) -> Any:
    if name == "LinearMultistepScheduler":
        from kohyakit.models.noise.linear_multistep import LinearMultistepScheduler

        return LinearMultistepScheduler
    import diffusers

    return getattr(diffusers, name)

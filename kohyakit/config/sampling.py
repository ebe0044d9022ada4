"""Sample pictures during training."""

from __future__ import annotations

from dataclasses import dataclass

from kohyakit.config.param import param


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingConfig:
    """Sample pictures during training."""

    sample_every_n_steps: int | None = param(None, blank=(0, ""))
    sample_at_first: bool = param(False)
    sample_every_n_epochs: int | None = param(None, blank=(0, ""))
    sample_prompts: str | None = param(None, blank=("",))
    sample_sampler: str = param("ddim", choices=("ddim", "pndm", "lms", "euler", "euler_a", "heun", "dpm_2", "dpm_2_a", "dpmsolver", "dpmsolver++", "dpmsingle", "k_lms", "k_euler", "k_euler_a", "k_dpm_2", "k_dpm_2_a"))

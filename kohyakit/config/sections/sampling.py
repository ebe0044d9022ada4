"""Sample pictures during training."""

from __future__ import annotations

from dataclasses import dataclass

from kohyakit.config.param import param


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingConfig:
    """Sample pictures during training."""

    sample_every_n_steps: int | None = param(
        None,
        blank=(0, -1, ""),
        help="Draw sample pictures every so many steps; sample_every_n_epochs goes before it.",
        tip="250 or 500; each sample costs as long as drawing it does.",
    )
    sample_at_first: bool = param(
        False,
        help="Draw samples before the first step too: the base model without the LoRA.",
        tip="On: without it there is nothing to compare with.",
    )
    sample_every_n_epochs: int | None = param(
        None,
        blank=(0, -1, ""),
        help="Draw sample pictures at the end of every so many epochs.",
        tip="1.",
    )
    sample_prompts: str | None = param(
        None,
        blank=("",),
        metavar="FILE",
        help="File with one prompt a line (.txt), or .toml or .json. Options behind blank and two dashes: --n "
        "negative, --w --h size, --d seed, --s steps, --l guidance scale. Without an every-n value nothing is "
        "drawn.",
        tip="Two or three prompts with fixed --d seeds: one plain, one with the subject somewhere else.",
    )
    sample_sampler: str = param(
        "ddim",
        choices=(
            "ddim",
            "pndm",
            "lms",
            "euler",
            "euler_a",
            "heun",
            "dpm_2",
            "dpm_2_a",
            "dpmsolver",
            "dpmsolver++",
            "dpmsingle",
            "k_lms",
            "k_euler",
            "k_euler_a",
            "k_dpm_2",
            "k_dpm_2_a",
        ),
        help="Sampler for the sample pictures; a prompt line may name its own with --ss.",
        tip="The one you draw with: euler_a or dpmsolver++.",
    )

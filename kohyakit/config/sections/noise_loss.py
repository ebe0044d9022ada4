"""Noise, timesteps and the loss."""

from __future__ import annotations

from dataclasses import dataclass

from kohyakit.config.param import param, standing


@dataclass(frozen=True, kw_only=True, slots=True)
class NoiseLossConfig:
    """Noise, timesteps and the loss."""

    noise_offset: float | None = param(
        None,
        unset=0,
        blank=(0, ""),
        help="Adds a random constant of this size to each channel's noise, so that the model learns darker and "
        "brighter pictures.",
        tip="0.05 to 0.1 for contrast; leave it out when colours must stay true.",
    )
    noise_offset_random_strength: bool = param(
        False,
        help="Draw the noise offset anew for each step between 0 and noise_offset.",
        tip="A gentler noise_offset.",
    )
    multires_noise_iterations: int | None = param(
        None,
        unset=0,
        ge=0,
        blank=(0, ""),
        help="Adds coarser and coarser noise in up to this many layers (pyramid noise), another way to wider contrast.",
        tip="6 to 10, with multires_noise_discount 0.1 to 0.3; not together with noise_offset.",
    )
    ip_noise_gamma: float | None = param(
        None,
        unset=0,
        ge=0,
        blank=(0, ""),
        help="Disturbs the model's input with extra noise of this strength, while the target stays the same; a "
        "regularisation (input perturbation).",
        tip="0.05 to 0.1.",
    )
    ip_noise_gamma_random_strength: bool = param(
        False,
        help="Draw the input perturbation anew for each step between 0 and ip_noise_gamma.",
        tip="A gentler ip_noise_gamma.",
    )
    multires_noise_discount: float = param(
        0.3,
        help="How much of each coarser layer of multires noise is kept, 0 to 1.",
        tip="0.1 to 0.3 for LoRAs; 0.8 is strong.",
    )
    adaptive_noise_scale: float | None = param(
        None,
        unset=0,
        blank=(0, ""),
        help="Adds this times the latents' mean brightness to the noise offset. Refused without noise_offset.",
        tip="About the size of noise_offset, or leave it out.",
    )
    min_timestep: int | None = param(
        None,
        unset=0,
        ge=0,
        le=1000,
        blank=(0, ""),
        help="Lowest noise level trained, 0 to 999; low ones are fine detail.",
        tip="200 or so to learn composition only.",
    )
    max_timestep: int | None = param(
        None,
        unset=1000,
        ge=1,
        le=1000,
        blank=("",),
        gui_blank=(0,),
        help="Noise levels below this one are trained, 1 to 1000; high ones are composition.",
        tip="600 or so to learn detail only; 1000 is all.",
    )
    loss_type: str = param(
        "l2",
        choices=("l1", "l2", "huber", "smooth_l1"),
        help="How prediction and target are compared: l2 (squared), l1 (absolute), huber and smooth_l1 in "
        "between, which mind outliers less.",
        tip="l2; huber or smooth_l1 for sets with some bad pictures.",
    )
    huber_schedule: str = param(
        "snr",
        choices=("constant", "exponential", "snr"),
        help="How the threshold of the Huber losses moves with the noise level.",
        tip="snr. Flux, SD3 and the other flow models have no snr: take constant or exponential there.",
    )
    huber_c: float = param(
        0.1,
        ge=0,
        help="Threshold of the Huber losses: differences below it count squared, above it straight.",
        tip="0.1; smaller is closer to l1.",
    )
    huber_scale: float = param(
        1.0,
        ge=0,
        help="Factor on the threshold of the Huber losses with the constant and exponential schedules.",
        tip="1.",
    )
    prior_loss_weight: float = param(
        1.0,
        help="Weight of the regularisation pictures in the loss; 0 ignores them.",
        tip="1; lower when the subject comes out too weak.",
    )
    masked_loss: bool = param(
        False,
        help="Count the loss only where the mask is bright. Masks are the pictures in conditioning_data_dir; "
        "alpha_mask needs no masked_loss.",
        tip="For subjects before a background that must not be learned.",
    )
    min_snr_gamma: float | None = param(
        None,
        unset=0,
        ge=0,
        blank=(0, ""),
        help="Cap on the signal-to-noise ratio that weighs the loss, so that nearly clean pictures do not "
        "outweigh the rest.",
        tip="5 learns faster and steadier; 1 for v-prediction.",
    )
    scale_v_pred_loss_like_noise_pred: bool = param(
        False,
        help="Weigh the velocity loss over noise levels as the noise loss would be. Only with v_parameterization.",
        tip="On for v-prediction models when detail suffers.",
    )
    v_pred_like_loss: float | None = param(
        None,
        ge=0,
        blank=(0, ""),
        help="Adds the loss weighed as for velocity, times this value. Refused with v_parameterization.",
        tip="Rarely used.",
    )
    debiased_estimation_loss: bool = param(
        False,
        help="Weigh the loss by one over the root of the signal-to-noise ratio, which favours composition.",
        tip="Instead of min_snr_gamma, not beside it.",
    )
    preservation_class: str | None = param(
        None,
        blank=("",),
        own=True,
        help="Word for what the subject is one of, such as dog. In each step the LoRA's answer to the captions with "
        "this word in place of the trigger is held to the base model's own (differential output preservation).",
        tip="When other dogs come out like yours; instead of regularisation images. A step takes 2 to 2.5 times as "
        "long.",
    )
    preservation_trigger: str | None = param(
        None,
        blank=("",),
        own=True,
        help="The words in captions that preservation_class replaces; not given, the class alone is the caption.",
        tip="The trigger as it stands in the captions, with what it is beside it: ohwx dog, for the class dog.",
    )
    preservation_weight: float = param(
        1.0,
        ge=0,
        own=True,
        help="Weight of the preservation beside the loss of the pictures.",
        tip="1; lower when the subject comes out too weak.",
    )

    @property
    def timesteps(self) -> tuple[int, int]:
        """The noise levels in force, the second not among them."""
        high = self.max_timestep  # a 0 that is written down is one
        return int(standing(self, "min_timestep")), int(standing(self, "max_timestep") if high is None else high)

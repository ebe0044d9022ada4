"""Optimizer, learning rates and their schedule."""

from __future__ import annotations

from dataclasses import dataclass

from kohyakit.config.arguments.key_values import parse_key_values
from kohyakit.config.param import param, standing
from kohyakit.registry import SCHEDULERS

__all__ = ["OptimizerConfig", "parse_key_values"]


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerConfig:
    """Optimizer, learning rates and their schedule."""

    optimizer_type: str = param(
        "",
        unset="AdamW",
        gui=("optimizer",),
        help="The rule that turns gradients into steps: AdamW (also when empty), AdamW8bit, Lion, Adafactor, "
        "Prodigy, DAdaptAdam, AdamWScheduleFree …, a torch.optim class, or package.module.Class. Upper and lower "
        "case do not matter for the named ones.",
        tip="AdamW8bit saves memory; Prodigy finds its own rate (set learning rates to 1); Adafactor with "
        "relative_step=False is the beginner's guide's choice.",
    )
    use_8bit_adam: bool = param(
        False,
        deprecated=True,
        help="Old way to ask for AdamW8bit; sd-scripts refuses it beside optimizer_type.",
        tip="Write optimizer_type AdamW8bit.",
    )
    use_lion_optimizer: bool = param(
        False,
        deprecated=True,
        help="Old way to ask for Lion; sd-scripts refuses it beside optimizer_type.",
        tip="Write optimizer_type Lion, with about a third of AdamW's learning rate.",
    )
    learning_rate: float = param(
        2e-06,
        ge=0,
        help="Size of a step. For LoRAs it counts where unet_lr or text_encoder_lr is not given. The default of "
        "sd-scripts, 2e-6, is for full fine-tuning and far too small for a LoRA.",
        tip="1e-4 for AdamW at an alpha of half the rank; 1 for Prodigy and D-Adaptation; halve it when pictures burn.",
    )
    max_grad_norm: float = param(
        1.0,
        ge=0,
        help="Gradients longer than this are shortened to it, with every optimizer; 0 switches that off.",
        tip="1; 0 with Adafactor in the relative-step-off recipe, which clips by itself.",
    )
    optimizer_args: tuple[str, ...] | None = param(
        None,
        blank=("",),
        help="Settings of the optimizer as name=value texts with Python values: weight_decay=0.01 betas=0.9,0.99 "
        "decouple=True.",
        tip="Prodigy: decouple=True weight_decay=0.01 d_coef=1 use_bias_correction=True safeguard_warmup=True.",
    )
    lr_scheduler_type: str = param(
        "",
        help="A scheduler class of torch.optim.lr_scheduler or package.module.Class; goes before lr_scheduler and "
        "takes lr_scheduler_args. No warm-up is allowed with it.",
        tip="CosineAnnealingLR with T_max= the number of steps.",
    )
    lr_scheduler_args: tuple[str, ...] | None = param(
        None,
        blank=("",),
        help="Settings of the scheduler as name=value texts, such as T_max=2000.",
        tip="Needed for custom schedulers and piecewise_constant (step_rules='...').",
    )
    lr_scheduler: str = param(
        "constant",
        help=f"How the learning rate moves over the run: {', '.join(SCHEDULERS)}.",
        tip="cosine or constant_with_warmup; constant for Prodigy; adafactor only with Adafactor's relative step.",
    )
    lr_warmup_steps: int | float = param(
        0,
        ge=0,
        help="Steps over which the rate climbs from 0: a whole number is steps, a fraction below 1 is a share of "
        "the run (in a TOML 1.0 is the whole run, 1 is one step). Refused with constant and adafactor.",
        tip="5 to 10 % of the steps; the GUI asks for per cent.",
    )
    lr_decay_steps: int | float = param(
        0,
        ge=0,
        help="Steps at the end over which warmup_stable_decay brings the rate down, or a share of the run below 1.",
        tip="0.2; other schedulers ignore it.",
    )
    lr_scheduler_num_cycles: int = param(
        1,
        ge=1,
        help="Number of restarts of cosine_with_restarts; also the cycles of cosine_with_min_lr and "
        "warmup_stable_decay, each counted as a half wave.",
        tip="3 with cosine_with_restarts; more than the epochs makes no sense.",
    )
    lr_scheduler_power: float = param(
        1.0,
        help="Exponent of the polynomial scheduler: 1 is a straight line, larger drops earlier.",
        tip="1 or 2; other schedulers ignore it.",
    )
    fused_backward_pass: bool = param(
        False,
        gui=("sd3_fused_backward_pass", "flux_fused_backward_pass"),
        help="Do the optimizer step inside the backward pass to save memory in full fine-tuning of SDXL, SD3 and "
        "Flux. Only with Adafactor and without gradient accumulation.",
        tip="Full fine-tuning with 24 GB; LoRAs gain nothing.",
    )
    lr_scheduler_timescale: int | None = param(
        None,
        ge=1,
        blank=("",),
        gui_blank=(0,),
        help="Steps after which inverse_sqrt starts to fall; not given, the warm-up steps.",
        tip="Only for inverse_sqrt.",
    )
    lr_scheduler_min_lr_ratio: float | None = param(
        None,
        ge=0,
        blank=("",),
        help="Lowest rate as a share of the first one. cosine_with_min_lr refuses to start without it.",
        tip="0.1.",
    )
    unet_lr: float | None = param(
        None,
        unset="=learning_rate",
        ge=0,
        blank=("",),
        gui_blank=(0,),
        help="Learning rate of the U-Net or transformer part. Not given, learning_rate; 0 leaves that part untrained.",
        tip="1e-4 for AdamW; up to 5e-4 with a low alpha.",
    )
    text_encoder_lr: tuple[float, ...] | None = param(
        None,
        unset="=learning_rate",
        ge=0,
        blank=("",),
        gui_blank=(0,),
        help="Learning rate of the text encoder part. Of two numbers, networks.lora (SDXL's too) takes the first for "
        "all its text encoders; those of Flux, SD3 and Lumina have one each. Not given, learning_rate; 0 leaves it "
        "untrained.",
        tip="Half of the U-Net's rate or less; it overfits first.",
    )
    llm_adapter_lr: float | None = param(
        None,
        ge=0,
        blank=("",),
        help="Anima: learning rate of the language-model adapter; not given, the base rate, 0 freezes it.",
        tip="0 for styles.",
    )
    self_attn_lr: float | None = param(
        None,
        ge=0,
        blank=("",),
        help="Anima: learning rate of the self-attention layers; not given, the base rate, 0 freezes them.",
        tip="Leave it out unless you test layer by layer.",
    )
    cross_attn_lr: float | None = param(
        None,
        ge=0,
        blank=("",),
        help="Anima: learning rate of the cross-attention layers, where words meet pictures; 0 freezes them.",
        tip="Leave it out unless you test layer by layer.",
    )
    mlp_lr: float | None = param(
        None,
        ge=0,
        blank=("",),
        help="Anima: learning rate of the feed-forward layers; not given, the base rate, 0 freezes them.",
        tip="Leave it out unless you test layer by layer.",
    )
    mod_lr: float | None = param(
        None,
        ge=0,
        blank=("",),
        help="Anima: learning rate of the modulation layers, which a LoRA does not adapt by default.",
        tip="Leave it out for LoRAs.",
    )

    @property
    def in_force(self) -> str:
        """The optimizer's name as it was written, also by the two old switches; AdamW where nothing names one."""
        old = "AdamW8bit" if self.use_8bit_adam else "Lion" if self.use_lion_optimizer else ""
        return self.optimizer_type or old or str(standing(self, "optimizer_type"))

    @property
    def unet_rate(self) -> float:
        """unet_lr in force."""
        return float(standing(self, "unet_lr"))

    @property
    def text_rate(self) -> float:
        """text_encoder_lr in force, of several the first."""
        rate = standing(self, "text_encoder_lr")
        return float(rate[0] if isinstance(rate, tuple) else rate)

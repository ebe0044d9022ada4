"""`optimizer_args` and `lr_scheduler_args`: what each argument does, and which optimizer or scheduler takes it.

The lists are those of the releases that sd-scripts 0.10 asks for; a class named by its dotted path may take others.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

# name -> (what it does, what to try when)
OPTIMIZER_ARG_HELP: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "betas": (
            "Memory of the running means of gradient and squared gradient, two numbers below 1 (three for Adan).",
            "0.9,0.999; 0.9,0.99 for Prodigy and Lion.",
        ),
        "beta1": (
            "Adafactor: memory of the running mean of the gradient; None keeps none, which saves memory.",
            "None.",
        ),
        "beta3": ("Prodigy: memory of its estimate of the step size; None takes the root of the second beta.", "None."),
        "weight_decay": (
            "Pulls the LoRA's weights towards 0 at each step, against overfitting.",
            "0.01; 0.1 is strong, 0 is off.",
        ),
        "eps": ("A small number that keeps divisions by 0 away; Adafactor takes two.", "Leave it out."),
        "amsgrad": ("Adam variant that never lets the squared-gradient mean shrink.", "False."),
        "momentum": (
            "SGD: share of the last step that is kept in the next.",
            "0.9, which sd-scripts sets itself for SGDNesterov.",
        ),
        "dampening": ("SGD: how much less the new gradient counts beside the momentum.", "0."),
        "decouple": ("Prodigy, D-Adaptation: weight decay apart from the gradient, as in AdamW.", "True."),
        "use_bias_correction": ("Prodigy, D-Adaptation: correct the means of the first steps, as Adam does.", "True."),
        "safeguard_warmup": ("Prodigy: keep warm-up steps out of its estimate.", "True with lr_warmup_steps."),
        "d0": ("Prodigy, D-Adaptation: step size to start the search from.", "1e-6; 1e-5 when nothing is learned."),
        "d_coef": (
            "Prodigy: factor on the step size it finds.",
            "0.5 when it overshoots, up to 2 when it is too careful.",
        ),
        "growth_rate": (
            "Prodigy, D-Adaptation: most that the step size may grow per step.",
            "inf; 1.02 for a soft start.",
        ),
        "slice_p": ("Prodigy: use every n-th value for its estimate, to save memory.", "11 when memory is short."),
        "fsdp_in_use": ("Prodigy, D-Adaptation: the model is split over GPUs with FSDP.", "False."),
        "log_every": ("D-Adaptation: print its estimate every so many steps; 0 is never.", "0."),
        "no_prox": ("DAdaptAdan: apply weight decay before the step.", "False."),
        "scale_parameter": ("Adafactor: scale steps by the size of the weights.", "False for LoRAs."),
        "relative_step": (
            "Adafactor: choose the step size itself and ignore learning rates; on by default.",
            "False, with a learning rate of your own.",
        ),
        "warmup_init": ("Adafactor: start the relative step very small; switches relative_step on.", "False."),
        "clip_threshold": ("Adafactor: limit on the size of an update.", "1.0."),
        "decay_rate": ("Adafactor: how fast its memory of squared gradients fades.", "-0.8."),
        "warmup_steps": ("Schedule-free: steps over which the rate climbs, since lr_scheduler does not count.", "100."),
        "r": ("Schedule-free: exponent of the step number in its average.", "0."),
        "weight_lr_power": ("Schedule-free: exponent of the rate in its average.", "2."),
        "silent_sgd_phase": ("RAdamScheduleFree: leave out the first steps instead of taking plain ones.", "True."),
        "use_triton": ("Lion: take the Triton kernel, which is faster where it runs.", "False."),
        "decoupled_weight_decay": ("Lion: weight decay apart from the learning rate.", "False."),
        "cautious_factor": ("Lion: factor on updates that go against the gradient.", "1.0."),
        "nesterov": ("SGD: look ahead by the momentum; sd-scripts sets it itself for SGDNesterov.", "Leave it out."),
        "maximize": ("Go up the gradient instead of down it.", "Never."),
        "foreach": ("torch: handle many weights in one call.", "Leave it out."),
        "fused": ("torch: one kernel for the whole step.", "True on NVIDIA cards is a little faster."),
        "capturable": ("torch: allow capture in a CUDA graph.", "False."),
        "differentiable": ("torch: let gradients flow through the step.", "False."),
        "min_8bit_size": ("bitsandbytes: smaller tensors stay in 32 bits.", "4096."),
        "percentile_clipping": ("bitsandbytes: clip gradients at this percentile of the last 100; 100 is off.", "100."),
        "block_wise": ("bitsandbytes: quantise each block of values by itself.", "True."),
        "is_paged": ("bitsandbytes: let states move to main memory when needed.", "Take the Paged optimizers instead."),
    }
)

SCHEDULER_ARG_HELP: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "T_max": ("CosineAnnealingLR: steps down to the lowest rate.", "The number of steps of the run."),
        "eta_min": ("CosineAnnealingLR: the rate at which the fall ends.", "A tenth of the learning rate, or 0."),
        "T_0": ("CosineAnnealingWarmRestarts: steps until the first restart.", "A third of the run."),
        "T_mult": ("CosineAnnealingWarmRestarts: how much longer each cycle is than the last.", "1 or 2."),
        "step_rules": ("piecewise_constant: factor:step pairs and a last factor.", "'1:500,0.1:800,0.01'."),
        "lr_end": ("polynomial: the rate at which the run ends.", "1e-7."),
        "min_lr": ("cosine_with_min_lr: lowest rate, in place of lr_scheduler_min_lr_ratio.", "A tenth of the rate."),
        "warmup_type": ("warmup_stable_decay: shape of the climb: linear, cosine or 1-sqrt.", "'linear'."),
        "decay_type": ("warmup_stable_decay: shape of the fall: linear, cosine or 1-sqrt.", "'cosine'."),
        "last_epoch": ("Step to start the schedule from; -1 is the beginning.", "Leave it out."),
    }
)

_TORCH = "maximize foreach capturable differentiable fused"
_BNB = "min_8bit_size percentile_clipping block_wise is_paged"
_DADAPT = "betas weight_decay log_every d0 growth_rate eps"

# optimizer, in lower case -> the arguments that its class takes beside the learning rate
OPTIMIZER_ARGS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        name: frozenset(names.split())
        for name, names in {
            "adamw": f"betas eps weight_decay amsgrad {_TORCH}",
            "adamw8bit": f"betas eps weight_decay amsgrad {_BNB}",
            "pagedadamw": f"betas eps weight_decay amsgrad {_BNB}",
            "pagedadamw8bit": f"betas eps weight_decay amsgrad {_BNB}",
            "pagedadamw32bit": f"betas eps weight_decay amsgrad {_BNB}",
            "lion": "betas weight_decay use_triton decoupled_weight_decay cautious_factor",
            "lion8bit": f"betas weight_decay {_BNB}",
            "pagedlion8bit": f"betas weight_decay {_BNB}",
            "sgdnesterov": "momentum dampening weight_decay maximize foreach differentiable fused",
            "sgdnesterov8bit": f"momentum dampening weight_decay {_BNB}",
            "adafactor": "eps clip_threshold decay_rate beta1 weight_decay scale_parameter relative_step warmup_init",
            "prodigy": "betas beta3 eps weight_decay decouple use_bias_correction safeguard_warmup d0 d_coef "
            "growth_rate fsdp_in_use slice_p",
            "dadaptation": f"{_DADAPT} decouple fsdp_in_use",
            "dadaptadampreprint": f"{_DADAPT} decouple fsdp_in_use",
            "dadaptadam": f"{_DADAPT} decouple use_bias_correction fsdp_in_use",
            "dadaptadagrad": "momentum log_every weight_decay eps d0 growth_rate",
            "dadaptadan": f"{_DADAPT} no_prox",
            "dadaptadanip": f"{_DADAPT} no_prox",
            "dadaptlion": "betas weight_decay log_every d0 fsdp_in_use",
            "dadaptsgd": "momentum weight_decay log_every d0 growth_rate fsdp_in_use",
            "adamwschedulefree": "betas eps weight_decay warmup_steps r weight_lr_power foreach",
            "radamschedulefree": "betas eps weight_decay r weight_lr_power foreach silent_sgd_phase",
            "sgdschedulefree": "momentum weight_decay warmup_steps r weight_lr_power foreach",
        }.items()
    }
)

# scheduler -> the arguments that it takes from lr_scheduler_args
SCHEDULER_ARGS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        name: frozenset(names.split())
        for name, names in {
            "constant": "last_epoch",
            "constant_with_warmup": "last_epoch",
            "linear": "last_epoch",
            "cosine": "num_cycles last_epoch",
            "cosine_with_restarts": "last_epoch",
            "polynomial": "lr_end last_epoch",
            "inverse_sqrt": "last_epoch",
            "cosine_with_min_lr": "min_lr last_epoch",
            "warmup_stable_decay": "warmup_type decay_type last_epoch num_training_steps",
            "piecewise_constant": "step_rules last_epoch",
            "CosineAnnealingLR": "T_max eta_min last_epoch",
            "CosineAnnealingWarmRestarts": "T_0 T_mult eta_min last_epoch",
        }.items()
    }
)
